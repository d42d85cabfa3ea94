"""One worker as the supervisor sees it: a process, and the lines of JSON that they exchange.

On Linux workers are forked from a process that has loaded what they need. Loading takes a worker of its own a second,
and what is loaded takes 60 MB, which forked ones share. Elsewhere a fork is not safe: libraries of macOS may not be
used behind it.
"""

import multiprocessing
import os
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from multiprocessing import resource_tracker
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.process import BaseProcess
from typing import Any

import anyio
import orjson
from anyio import to_thread
from anyio.abc import SocketStream
from anyio.streams.buffered import BufferedByteReceiveStream

from server.workers.worker import SIGNALS, serve_at

STOP_SECONDS = 8.0
"""How long a worker may take to end when the supervisor fails: longer than it gives itself."""

SILENT_LOOKS = 4
"""After how many looks without a word a worker counts as hanging, before it is killed."""

LONGEST_ANSWER = 65_536

LONGEST_FOLDER = 70
"""Letters of a folder for temporary files in which a socket, 32 more, has a path that the system takes."""


class WorkerNotStarted(Exception):
    """The system gives no process for a worker."""


class WorkerProcess:
    """The process of the worker with this number."""

    def __init__(self, number: int, process: BaseProcess, link: SocketStream) -> None:
        self.number = number
        self.replica_id: str | None = None
        self.drained = False
        self.silent_looks = 0
        """How often the supervisor has looked since it said anything."""
        self.breakers: Mapping[str, str] = {}
        """The state of its breakers by backend, as it told last."""
        self._reload_later = False
        self._process = process
        self._link = link
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
        assert self._process.pid is not None  # noqa: S101 # it has been started
        return self._process.pid

    async def tell(self, order: dict[str, Any]) -> None:
        """Tell it something; nothing where it has ended."""
        async with self._sending:
            with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
                await self._link.send(orjson.dumps(order) + b"\n")

    async def hear(self, heard: Callable[["WorkerProcess", dict[str, Any]], Awaitable[None]]) -> None:
        """Hand on what it tells, until it ends."""
        lines = BufferedByteReceiveStream(self._link)
        with suppress(anyio.EndOfStream, anyio.IncompleteRead, anyio.BrokenResourceError):
            while True:
                await heard(self, orjson.loads(await lines.receive_until(b"\n", LONGEST_ANSWER)))

    async def wait(self) -> int | None:
        """Wait for its end; give its exit status, or the negative number of the signal."""
        await anyio.wait_readable(self._process.sentinel)
        self._process.join()
        return self._process.exitcode

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

    async def end(self) -> None:
        """Let go of it, which ends it, and kill it where that takes too long."""
        with anyio.CancelScope(shield=True):
            await self._link.aclose()
            with anyio.move_on_after(STOP_SECONDS):
                await self.wait()
            if self._process.exitcode is None:
                self.kill()
                await self.wait()
            self._process.close()

    def _send_signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)


def start_method() -> ForkServerContext | SpawnContext:
    """Give how workers are started: forked where that is safe and the socket for it has a place, else by themselves."""
    if sys.platform == "linux" and len(os.fsencode(tempfile.gettempdir())) <= LONGEST_FOLDER:
        return multiprocessing.get_context("forkserver")
    return multiprocessing.get_context("spawn")


@asynccontextmanager
async def running_worker(
    number: int, of: int, listening: socket.socket, *, private_valkey: bool
) -> AsyncGenerator[WorkerProcess]:
    """Start a worker, and end it on leaving. Raises WorkerNotStarted."""
    async with AsyncExitStack() as stack:
        try:
            here, there = socket.socketpair()
            with there:
                link = await stack.enter_async_context(await SocketStream.from_socket(here))
                process = start_method().Process(
                    target=serve_at,
                    args=(there, listening),
                    kwargs={"number": number, "of": of, "private_valkey": private_valkey},
                    name=f"worker {number}",
                )
                await to_thread.run_sync(_start, process)
        except (OSError, EOFError) as error:
            raise WorkerNotStarted(f"there is no process for it: {error}") from error
        worker = WorkerProcess(number, process, link)
        stack.push_async_callback(worker.end)
        yield worker


def _start(process: BaseProcess) -> None:
    """Start it; the first one waits until what it is forked from has loaded.

    Signals that may come to all processes of a terminal or a service are none of its business before it is a worker.
    """
    os.environ["PYTHONSAFEPATH"] = "1"  # else a module in the working directory could hide one of the standard library
    multiprocessing.set_forkserver_preload(["server.workers.preload"])
    resource_tracker.ensure_running()  # before, as it unblocks signals
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
