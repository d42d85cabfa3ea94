"""Speaks the OpenAI chat API to any server that offers it: vLLM, llama.cpp, LM Studio, OpenAI itself."""

import logging
import math
import time
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from urllib.parse import urlsplit

import anyio

from backends.errors import (
    BackendError,
    BackendModelNotFound,
    BackendProtocolError,
    BackendRejected,
    BackendTimeout,
    BackendUnavailable,
)
from backends.listing import usable_models
from backends.loading import OnLoading
from backends.openai.llama_server import LlamaServer, llama_server
from backends.openai.request import EFFORT, LOGPROBS, TEMPLATE, TOP_LOGPROBS, ServerKind, chat_body, media_taken
from backends.openai.stream import OpenAIDecoder
from backends.protocol import BackendKind, ChatRequest, Chunk, Json, MediaKind, ModelInfo
from backends.streaming import stream_chunks
from backends.wire import as_count, as_object, as_size, as_text, fetch_json, fetch_list, make_client, openai_address

logger = logging.getLogger(__name__)

_COUNTING = "timings_per_token"
_ASKS_FOR_MORE = {
    "stream_options": ("stream_options", "include_usage"),
    _COUNTING: (_COUNTING,),
    LOGPROBS: (LOGPROBS,),
    TOP_LOGPROBS: (LOGPROBS,),
}
"""Fields with which something is asked for beside the answer, and the words by which a server refuses each."""

_BY_MODEL = {EFFORT, LOGPROBS, TOP_LOGPROBS}
"""What another model of the same server may take: its levels of thinking differ, and some tell no logprobs."""

INSPECT_SECONDS = 2.0
"""How long a server may take to say whether it is llama.cpp."""

INSPECT_AGAIN_SECONDS = 60.0
"""How long one that could not say so is left alone with the question."""

USUAL_PARALLEL = 64
"""Answers at once that are asked of a server that does not tell: fewer than vLLM makes (256)."""


class OpenAIBackend:
    """One OpenAI-compatible server.

    `base_url` may have a version in its path, or else `/v1` is added; `connect_timeout` is in seconds, and so is
    `event_interval`, the least time between two batches of an answer. `think_tags` is whether `<think>…</think>` at the
    beginning of a text is the model's reasoning. Who makes one closes it (`aclose`).

    What `inspect` finds to be llama.cpp is asked to count tokens as it goes, which makes the usage of a cancelled
    answer exact. `describe` sees to that behind the list of models, so no answer waits for it.
    """

    def __init__(
        self,
        name: str,
        base_url: str,
        api_key: str | None = None,
        *,
        connect_timeout: float = 5.0,
        parallel: int | None = None,
        think_tags: bool = False,
        event_interval: float = 0,
    ) -> None:
        self._name = name
        self._event_interval = event_interval
        self._parallel = parallel
        self._refused: set[str] = set()
        self._llama: LlamaServer | None = None
        self._vllm: set[str] = set()
        self._inspect_at = -math.inf
        self._think_tags = think_tags
        address = openai_address(base_url)
        self._path = urlsplit(address).path
        self._client = make_client(
            address.removesuffix(self._path),
            headers={"authorization": f"Bearer {api_key}"} if api_key else None,
            connect_timeout=connect_timeout,
        )

    @property
    def name(self) -> str:
        """The backend's name, as the operator gave it."""
        return self._name

    @property
    def kind(self) -> BackendKind:
        """OpenAI's API."""
        return BackendKind.OPENAI

    @property
    def parallel(self) -> int:
        """What its operator has set, else what llama.cpp tells, else the usual number."""
        told = self._llama.total_slots if self._llama else None
        return self._parallel or told or USUAL_PARALLEL

    def takes(self, kind: MediaKind, model: str) -> bool:
        """Tell what the server takes, as far as is known which one it is."""
        return kind in media_taken(self._server_of(model))

    async def aclose(self) -> None:
        """Close the connections. Answers still under way end with BackendUnavailable."""
        await self._client.aclose()

    async def models(self) -> list[ModelInfo]:
        """List the models served. Raises BackendError. No server of this kind tells capabilities here."""
        with self._noticing_absence():
            listing = await fetch_list(self._client, f"{self._path}/models", "data", "models")
        entries = [{"id": entry} if isinstance(entry, str) else as_object(entry) for entry in listing]
        self._vllm = {as_text(entry.get("id")) for entry in entries if entry.get("owned_by") == "vllm"}
        return usable_models([_model_info(entry) for entry in entries])

    async def loaded_models(self) -> None:
        """Tell nothing: no server of this kind says what it has in memory."""

    async def describe(self, model: ModelInfo) -> ModelInfo:
        """Give the model as it is: no server of this kind tells more. The server itself is inspected where due."""
        await self._inspect_if_due()
        return model

    async def _inspect_if_due(self) -> None:
        if time.monotonic() >= self._inspect_at:
            self._inspect_at = time.monotonic() + INSPECT_AGAIN_SECONDS
            try:
                with anyio.fail_after(INSPECT_SECONDS):
                    await self.inspect()
            except (BackendError, TimeoutError) as error:
                why = str(error) or f"no answer within {INSPECT_SECONDS:g} s"
                logger.debug("backend %s does not tell whether it is llama.cpp: %s", self._name, why)

    async def ping(self) -> None:
        """Ask for the list of models, the one question every such server answers. Raises BackendError."""
        with self._noticing_absence():
            await fetch_list(self._client, f"{self._path}/models", "data", "models")

    async def inspect(self) -> LlamaServer | None:
        """Find out whether it is llama.cpp's server, and keep that until it is away; None where it is another.

        Raises BackendError where it cannot be told now.
        """
        try:
            self._llama = llama_server(await fetch_json(self._client, "GET", f"{self._path.removesuffix('/v1')}/props"))
        except (BackendRejected, BackendModelNotFound, BackendProtocolError):
            self._llama = None  # it does not know the question, or answers another
        self._inspect_at = math.inf
        return self._llama

    @asynccontextmanager
    async def generate(
        self, request: ChatRequest, on_loading: OnLoading | None = None
    ) -> AsyncGenerator[AsyncIterator[Sequence[Chunk]]]:
        """Ask `/chat/completions`; no server of this kind tells that it loads a model.

        Raises BackendError; BackendUnsupported for what the server cannot be told, as far as is known of it.
        A server that does not know a field with which only the usage is asked for is asked without from then on; one
        that refuses one of the two fields that say how much to think, with the other alone; one whose model tells no
        logprobs, without.
        """
        if request.format is not None and self._server_of(request.model) is ServerKind.UNKNOWN:
            await self._inspect_if_due()
        body = chat_body(request, self._server_of(request.model))
        if self._llama is not None:
            body[_COUNTING] = True
        async with AsyncExitStack() as stack:
            stack.enter_context(self._noticing_absence())
            while True:
                unknown = self._refused if EFFORT in body else self._refused - {TEMPLATE}
                body = {name: value for name, value in body.items() if name not in unknown}
                try:
                    batches = await stack.enter_async_context(self._ask(body))
                    break
                except BackendRejected as error:
                    refused = _refused_fields(body, str(error))
                    if not refused:
                        raise
                    self._refused |= refused - _BY_MODEL
                    body = {name: value for name, value in body.items() if name not in refused}
            yield batches

    def _server_of(self, model: str) -> ServerKind:
        if self._llama is not None:
            return ServerKind.LLAMA_CPP
        return ServerKind.VLLM if model in self._vllm else ServerKind.UNKNOWN

    def _ask(self, body: dict[str, Json]) -> AbstractAsyncContextManager[AsyncIterator[Sequence[Chunk]]]:
        decoder = OpenAIDecoder(think_tags=self._think_tags, logprobs=LOGPROBS in body)
        return stream_chunks(self._client, f"{self._path}/chat/completions", body, decoder, self._event_interval)

    @contextmanager
    def _noticing_absence(self) -> Generator[None]:
        """Forget what was known: where the server was away, another may stand there when it is back."""
        try:
            yield
        except (BackendUnavailable, BackendTimeout):
            self._llama, self._inspect_at = None, -math.inf
            raise


def _refused_fields(asked: dict[str, Json], why: str) -> set[str]:
    """Give the fields that a server refuses and that may be left out.

    Those are what only usage or logprobs are asked for with, and one of the two that say how much to think.
    """
    refused = {
        field for field, words in _ASKS_FOR_MORE.items() if field in asked and any(word in why for word in words)
    }
    if {EFFORT, TEMPLATE} <= asked.keys():
        refused |= {field for field in (EFFORT, TEMPLATE) if field in why}
    return refused


def _model_info(entry: dict[str, Json]) -> ModelInfo:
    meta = as_object(entry.get("meta"))
    # vLLM tells max_model_len; llama.cpp the context it runs with, and older ones only what it was trained for.
    lengths = (entry.get("max_model_len"), meta.get("n_ctx"), meta.get("n_ctx_train"))
    return ModelInfo(
        name=as_text(entry.get("id")),
        context_length=next((length for length in map(as_count, lengths) if length), None),
        size_bytes=as_size(meta.get("size")),
        parameter_size=_parameter_size(as_size(meta.get("n_params"))),
        quantization=as_text(meta.get("ftype")) or None,
    )


def _parameter_size(count: int | None) -> str | None:
    """Write a number of parameters as Ollama does: 134.52M, 3.2B."""
    if not count:
        return None
    unit, letter = (1e9, "B") if count >= 1e9 else (1e6, "M")
    return f"{round(count / unit, 2):g}{letter}"
