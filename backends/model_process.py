"""The child process of the embedded model, as the gateway sees it: started, watched, replaced, ended."""

import logging
import os
import secrets
import sys
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from subprocess import PIPE

import anyio
import orjson
from anyio.abc import ByteReceiveStream, Process
from anyio.streams.buffered import BufferedByteReceiveStream
from anyio.streams.text import TextReceiveStream

from backends.protocol import Json
from backends.wire import as_object, as_text

logger = logging.getLogger(__name__)

NOT_RUNNING = "The embedded model is not running."

_PROGRAM = Path(__file__).with_name("embedded_server.py")
_FIRST_DELAY, _LONGEST_DELAY = 0.5, 30.0
_STOP_SECONDS = 2.0
_LOG_LINES = 50
_LONGEST_LOG_LINE = 4096


class EmbeddedState(StrEnum):
    """STOPPED until `run` and after it; STARTING, then READY; FAILED while waiting to try a failed start again."""

    STOPPED = "stopped"
    STARTING = "starting"
    READY = "ready"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class EmbeddedStatus:
    """What becomes of the child. `reason` is for those who ask in vain; one that is READY has an address and a key."""

    state: EmbeddedState
    reason: str = NOT_RUNNING
    address: str | None = None
    key: str | None = None


Tell = Callable[[EmbeddedStatus], Awaitable[None]]


class ModelProcess:
    """The child that serves one GGUF file, under the name `model`; see `EmbeddedBackend` for the rest."""

    def __init__(
        self,
        path: Path,
        model: str,
        *,
        parallel: int,
        threads: int | None,
        context_length: int,
        environment: Mapping[str, str],
    ) -> None:
        self._path = path
        self._model = model
        self._parallel = parallel
        self._threads = threads
        self._context_length = context_length
        self._environment = dict(environment)
        self._reason = NOT_RUNNING
        self.pid: int | None = None

    async def run(self, tell: Tell) -> None:
        """Keep a child running until cancelled, and tell what becomes of it; never raises.

        A child that ends is replaced, after a delay that doubles with every failure.
        """
        delay = _FIRST_DELAY
        await tell(EmbeddedStatus(EmbeddedState.STARTING, self._reason))
        while True:
            served = await self._run_child(tell)
            logger.warning("%s It is started again in %g s.", self._reason, delay)
            # After a crash the next child is worth waiting for; after a failed start it is not.
            await tell(EmbeddedStatus(EmbeddedState.STARTING if served else EmbeddedState.FAILED, self._reason))
            await anyio.sleep(delay)
            await tell(EmbeddedStatus(EmbeddedState.STARTING, self._reason))
            delay = _FIRST_DELAY if served > _LONGEST_DELAY else min(delay * 2, _LONGEST_DELAY)

    async def _run_child(self, tell: Tell) -> float:
        """Run one child to its end; give the seconds that it served, and leave the reason of its end behind."""
        served = 0.0
        log: deque[str] = deque(maxlen=_LOG_LINES)
        try:
            async with _child(self._environment) as process, anyio.create_task_group() as tasks:
                self.pid = process.pid
                tasks.start_soon(_collect, process.stderr, log)
                key = secrets.token_urlsafe(32)
                address = await _introduce(process, self._config(key))
                if address is not None:
                    served = await self._serve(process, address, key, tell)
                await process.wait()
                self._reason = f"The embedded model stopped (exit status {process.returncode})."
        except Exception as error:
            # Whatever goes wrong with a child, the gateway goes on and another child is tried.
            self._reason = "The embedded model could not be started."
            logger.debug("The embedded model's process failed.", exc_info=error)
        finally:
            self.pid = None
        if not served and (said := _cause(log)):
            said = said.replace(str(self._path), self._model).removesuffix(".")
            self._reason = f"The embedded model could not be started: {said}."
        return served

    def _config(self, key: str) -> dict[str, Json]:
        return {
            "model_path": str(self._path),
            "model_name": self._model,
            "api_key": key,
            "parallel": self._parallel,
            "threads": self._threads,
            "context_length": self._context_length,
            "parent_pid": os.getpid(),
            "import_path": sys.path,
        }

    async def _serve(self, process: Process, address: str, key: str, tell: Tell) -> float:
        begun = anyio.current_time()
        await tell(EmbeddedStatus(EmbeddedState.READY, self._reason, address, key))
        await process.wait()
        return anyio.current_time() - begun


@asynccontextmanager
async def _child(environment: Mapping[str, str]) -> AsyncGenerator[Process]:
    """Start the program in a session of its own, out of reach of the terminal's Ctrl-C, and stop it on leaving."""
    process = await anyio.open_process(
        # -P keeps this folder, whose http.py would hide the standard library's, off the child's path.
        [sys.executable, "-P", str(_PROGRAM)],
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
        env=environment,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with anyio.CancelScope(shield=True):
            await _stop(process)


async def _stop(process: Process) -> None:
    if process.stdin is not None:
        await process.stdin.aclose()
    with anyio.move_on_after(_STOP_SECONDS):
        await process.wait()
    if process.returncode is None:
        process.kill()
    await process.aclose()


async def _introduce(process: Process, config: dict[str, Json]) -> str | None:
    """Tell the child what to serve; give its address, or None when it ends instead of serving."""
    assert process.stdin is not None  # noqa: S101 # both are pipes, as `_child` asked for
    assert process.stdout is not None  # noqa: S101
    try:
        await process.stdin.send(orjson.dumps(config) + b"\n")
        line = await BufferedByteReceiveStream(process.stdout).receive_until(b"\n", 4096)
    except (anyio.BrokenResourceError, anyio.IncompleteRead):
        return None
    return as_text(as_object(orjson.loads(line)).get("address"))


async def _collect(stream: ByteReceiveStream | None, log: deque[str]) -> None:
    """Keep the last lines that llama.cpp logs, out of the gateway's own log unless that is set to debug."""
    if stream is None:
        return
    rest = ""
    async for text in TextReceiveStream(stream, errors="replace"):
        *lines, rest = (rest[-_LONGEST_LOG_LINE:] + text).split("\n")
        for line in lines:
            log.append(line)
            logger.debug("llama.cpp: %s", line)
    if rest:  # its last words, where it ended within them
        log.append(rest)


def _cause(log: Sequence[str]) -> str | None:
    """Find why a start failed: llama.cpp's first error (`time level function: words`), or Python's last line."""
    for line in log:
        match line.split(maxsplit=2):
            case [_, "E", words]:
                return words
            case _:
                continue
    return log[-1] if log and "Error: " in log[-1] else None
