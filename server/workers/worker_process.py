"""One worker as the supervisor sees it: a process, and the lines of JSON that they exchange."""

import signal
import socket
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio
import orjson
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

from server.workers.processes import child

STOP_SECONDS = 8.0
"""How long a worker may take to end when the supervisor fails: longer than it gives itself."""

SILENT_LOOKS = 4
"""After how many looks without a word a worker counts as hanging, before it is killed."""

LONGEST_ANSWER = 65_536


class WorkerProcess:
    """The process of the worker with this number."""

    def __init__(self, number: int, process: Process) -> None:
        self.number = number
        self.replica_id: str | None = None
        self.drained = False
        self.silent_looks = 0
        """How often the supervisor has looked since it said anything."""
        self.breakers: Mapping[str, str] = {}
        """The state of its breakers by backend, as it told last."""
        self._reload_later = False
        self._process = process
        self._sending = anyio.Lock()

    @property
    def ready(self) -> bool:
        """Whether it serves."""
        return self.replica_id is not None

    @property
    def hangs(self) -> bool:
        """Whether it serves nobody now, as it has said nothing for too long."""
        return self.silent_looks >= SILENT_LOOKS

    @property
    def pid(self) -> int:
        """Its number among the processes of the machine."""
        return self._process.pid

    async def tell(self, order: dict[str, Any]) -> None:
        """Tell it something; nothing where it has ended."""
        assert self._process.stdin is not None  # noqa: S101 # a pipe, as `child` asked for
        async with self._sending:
            with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
                await self._process.stdin.send(orjson.dumps(order) + b"\n")

    async def hear(self, heard: Callable[["WorkerProcess", dict[str, Any]], Awaitable[None]]) -> None:
        """Hand on what it tells, until it ends."""
        assert self._process.stdout is not None  # noqa: S101
        lines = BufferedByteReceiveStream(self._process.stdout)
        with suppress(anyio.EndOfStream, anyio.IncompleteRead, anyio.BrokenResourceError):
            while True:
                await heard(self, orjson.loads(await lines.receive_until(b"\n", LONGEST_ANSWER)))

    async def wait(self) -> int:
        """Wait for its end; give its exit status, or the negative number of the signal."""
        return await self._process.wait()

    def terminate(self) -> None:
        """Tell it to stop, a second time to stop at once."""
        self._send_signal(signal.SIGTERM)

    def reload(self) -> None:
        """Tell it to read the settings again, as soon as it serves: before, the signal would end it."""
        if self.ready:
            self._send_signal(signal.SIGHUP)
        else:
            self._reload_later = True

    def serves_as(self, replica_id: str) -> None:
        """Note that it serves, as this replica."""
        self.replica_id = replica_id
        if self._reload_later:
            self._send_signal(signal.SIGHUP)

    def kill(self) -> None:
        """End it."""
        self._send_signal(signal.SIGKILL)

    def _send_signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            self._process.send_signal(number)


@asynccontextmanager
async def running_worker(
    number: int, of: int, listening: socket.socket, *, environment: Mapping[str, str], private_valkey: bool
) -> AsyncGenerator[WorkerProcess]:
    """Start a worker, and end it on leaving."""
    async with child(
        "worker.py", environment=environment, inherited=[listening.fileno()], stop_seconds=STOP_SECONDS
    ) as process:
        worker = WorkerProcess(number, process)
        await worker.tell(
            {
                "import_path": sys.path,
                "number": number,
                "of": of,
                "socket": listening.fileno(),
                "private_valkey": private_valkey,
            }
        )
        yield worker
