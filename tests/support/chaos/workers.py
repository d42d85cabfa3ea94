"""One gateway of several workers over SQLite, with a Valkey of its own, as chaos works on it."""

import os
import random
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import anyio
import httpx
from redis import asyncio as redis

from tests.support.chaos.program import Program
from tests.support.processes import CUT_OFF, WORKER, descendants
from tests.support.valkeys import refusing


@dataclass
class Workers(Program):
    """The whole gateway. What is killed is one of its workers, which it replaces by itself."""

    count: int = 2

    async def end(self, number: int = signal.SIGKILL) -> None:
        """Send a signal to one of the workers."""
        self.deaths += 1
        os.kill(self.any_pid(), number)

    def any_pid(self) -> int:
        """Give one of the workers."""
        return random.choice(self._pids(WORKER))

    def launch(self) -> None:
        """Start it, if it does not run."""
        if self.process is None:
            super().launch()

    async def answers(self) -> None:
        """Return when all workers serve."""
        await super().answers()
        async with httpx.AsyncClient(base_url=self.url, verify=False) as client:
            ready = 0
            while ready < self.count:
                with suppress(*CUT_OFF):  # the one that was asked may be the one that dies
                    ready = (await client.get("/readyz")).json()["workers"]["ready"]
                await anyio.sleep(0.05)

    def kill_valkey(self) -> None:
        """Kill the private Valkey."""
        for pid in self._pids("valkey-server"):
            os.kill(pid, signal.SIGKILL)

    def _pids(self, name: str) -> list[int]:
        assert self.process is not None
        return descendants(self.process.pid, name)


@dataclass
class PrivateValkey:
    """The Valkey of the workers, from outside."""

    workers: Workers
    data_dir: Path

    async def restart(self) -> None:
        """Kill it; it is replaced without our doing."""
        self.workers.kill_valkey()

    @asynccontextmanager
    async def refusing(self, how: str) -> AsyncIterator[None]:
        """It takes no writes during the block."""
        async with self.client() as client, refusing(client, how):
            yield

    @asynccontextmanager
    async def client(self) -> AsyncIterator["redis.Redis"]:
        """A connection, to look at what it holds."""
        (socket,) = self.data_dir.glob("valkey-*.sock")
        client = redis.Redis.from_url(f"unix://{socket}")
        try:
            yield client
        finally:
            await client.aclose()
