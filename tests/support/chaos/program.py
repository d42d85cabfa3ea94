"""A process that chaos kills and starts again."""

import os
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import anyio
import httpx

from tests.support.processes import CUT_OFF


@dataclass
class Program:
    """One process that can be killed and started again."""

    command: Sequence[str]
    port: int
    health: str
    log: Path
    env: dict[str, str]
    deaths: int = 0
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def launch(self) -> None:
        """Start it; it takes a moment until it answers."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, env=self.env, cwd=self.log.parent, stdout=log, stderr=log, start_new_session=True
            )

    async def end(self, number: int = signal.SIGKILL) -> None:
        """Send it a signal, and wait until it is gone."""
        assert self.process is not None
        self.deaths += 1
        self.process.send_signal(number)
        await anyio.to_thread.run_sync(self.process.wait)

    async def pause(self, seconds: float) -> None:
        """Let it do nothing for a while, as a machine does that is moved; it comes back and knows nothing of it."""
        pid = self.any_pid()
        os.kill(pid, signal.SIGSTOP)
        try:
            await anyio.sleep(seconds)
        finally:
            with suppress(ProcessLookupError):  # it was missed, and killed
                os.kill(pid, signal.SIGCONT)

    def any_pid(self) -> int:
        """Give the process; of several, any of those that answer."""
        assert self.process is not None
        return self.process.pid

    async def answers(self) -> None:
        """Return when it does."""
        async with httpx.AsyncClient(base_url=self.url, verify=False) as client:
            while True:
                assert self.process is not None
                if self.process.poll() is not None:
                    raise RuntimeError(f"{self.command} has ended: {self.log.read_text()[-2000:]}")
                try:
                    if (await client.get(self.health)).status_code == 200:
                        return
                except CUT_OFF:
                    pass
                await anyio.sleep(0.05)
