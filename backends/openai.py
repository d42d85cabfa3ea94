"""Speaks the OpenAI chat API to any server that offers it: vLLM, llama.cpp, LM Studio, OpenAI itself."""

import logging
import math
import time
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from urllib.parse import urlsplit

import anyio
import orjson

from backends.errors import (
    BackendError,
    BackendModelNotFound,
    BackendProtocolError,
    BackendRejected,
    BackendTimeout,
    BackendUnavailable,
    BackendUnsupported,
)
from backends.listing import usable_models
from backends.llama_server import LlamaServer, llama_server
from backends.loading import OnLoading
from backends.openai_stream import OpenAIDecoder
from backends.protocol import BackendKind, ChatRequest, Chunk, Json, Message, ModelInfo, Options, Tool, ToolCall
from backends.streaming import stream_chunks
from backends.wire import as_count, as_object, as_size, as_text, fetch_json, fetch_list, make_client, openai_address

logger = logging.getLogger(__name__)

_OPTION_NAMES: dict[str, tuple[str, ...]] = {
    "temperature": ("temperature",),
    "top_p": ("top_p",),
    "max_tokens": ("max_tokens",),
    "seed": ("seed",),
    "presence_penalty": ("presence_penalty",),
    "frequency_penalty": ("frequency_penalty",),
    # The rest is not OpenAI's. vLLM and llama.cpp take them as they stand here, and each ignores the name that
    # is the other's; OpenAI itself refuses them with a 400, which is the honest answer there.
    "top_k": ("top_k",),
    "min_p": ("min_p",),
    "repeat_penalty": ("repeat_penalty", "repetition_penalty"),
}

_COUNTING = "timings_per_token"
_ASKS_FOR_USAGE = {"stream_options": ("stream_options", "include_usage"), _COUNTING: (_COUNTING,)}

INSPECT_SECONDS = 2.0
"""How long a server may take to say whether it is llama.cpp."""

INSPECT_AGAIN_SECONDS = 60.0
"""How long one that could not say so is left alone with the question."""

_IMAGE_TYPES = {
    "/9j/": "image/jpeg",
    "R0lGOD": "image/gif",
    "UklGR": "image/webp",
    "Qk": "image/bmp",
    "SUkq": "image/tiff",
    "TU0A": "image/tiff",
    "AAAA": "image/avif",
}
"""How the base64 of each kind of image begins; a PNG is assumed for everything else."""


USUAL_PARALLEL = 64
"""Answers at once that are asked of a server that does not tell: fewer than vLLM makes (256)."""


class OpenAIBackend:
    """One OpenAI-compatible server.

    `base_url` may have a version in its path, or else `/v1` is added; `connect_timeout` is in seconds. `think_tags` is
    whether `<think>…</think>` at the beginning of a text is the model's reasoning. Who makes one closes it (`aclose`).

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
    ) -> None:
        self._name = name
        self._parallel = parallel
        self._refused: set[str] = set()
        self._llama: LlamaServer | None = None
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

    async def aclose(self) -> None:
        """Close the connections. Answers still under way end with BackendUnavailable."""
        await self._client.aclose()

    async def models(self) -> list[ModelInfo]:
        """List the models served. Raises BackendError. No server of this kind tells capabilities here."""
        with self._noticing_absence():
            listing = await fetch_list(self._client, f"{self._path}/models", "data", "models")
        entries = [{"id": entry} if isinstance(entry, str) else as_object(entry) for entry in listing]
        return usable_models([_model_info(entry) for entry in entries])

    async def loaded_models(self) -> None:
        """Tell nothing: no server of this kind says what it has in memory."""

    async def describe(self, model: ModelInfo) -> ModelInfo:
        """Give the model as it is: no server of this kind tells more. The server itself is inspected where due."""
        if time.monotonic() >= self._inspect_at:
            self._inspect_at = time.monotonic() + INSPECT_AGAIN_SECONDS
            try:
                with anyio.fail_after(INSPECT_SECONDS):
                    await self.inspect()
            except (BackendError, TimeoutError) as error:
                why = str(error) or f"no answer within {INSPECT_SECONDS:g} s"
                logger.debug("backend %s does not tell whether it is llama.cpp: %s", self._name, why)
        return model

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

        Raises BackendError; BackendUnsupported when a context length is asked for.
        A server that does not know a field with which only the usage is asked for is asked without from then on.
        """
        body = chat_body(request)
        if self._llama is not None:
            body[_COUNTING] = True
        async with AsyncExitStack() as stack:
            stack.enter_context(self._noticing_absence())
            while True:
                asked = {name: value for name, value in body.items() if name not in self._refused}
                try:
                    batches = await stack.enter_async_context(self._ask(asked))
                    break
                except BackendRejected as error:
                    refused = {
                        field
                        for field, words in _ASKS_FOR_USAGE.items()
                        if field in asked and any(word in str(error) for word in words)
                    }
                    if not refused:
                        raise
                    self._refused |= refused
            yield batches

    def _ask(self, body: dict[str, Json]) -> AbstractAsyncContextManager[AsyncIterator[Sequence[Chunk]]]:
        decoder = OpenAIDecoder(think_tags=self._think_tags)
        return stream_chunks(self._client, f"{self._path}/chat/completions", body, decoder)

    @contextmanager
    def _noticing_absence(self) -> Generator[None]:
        """Where the server was away, another may stand there when it is back."""
        try:
            yield
        except (BackendUnavailable, BackendTimeout):
            self._llama, self._inspect_at = None, -math.inf
            raise


def chat_body(request: ChatRequest) -> dict[str, Json]:
    """Build the body of `/v1/chat/completions`. Raises BackendUnsupported for what the API cannot say."""
    body: dict[str, Json] = {
        "model": request.model,
        "messages": [_message(message) for message in request.messages],
        "stream": True,
        "stream_options": {"include_usage": True},
        **_options(request.options),
    }
    if request.format == "json":
        body["response_format"] = {"type": "json_object"}
    elif request.format is not None:
        body["response_format"] = {"type": "json_schema", "json_schema": {"name": "answer", "schema": request.format}}
    if request.tools:
        body["tools"] = [_tool(tool) for tool in request.tools]
    if request.think is not None:
        # vLLM and llama.cpp hand this to the model's chat template; a template that does not know it ignores it.
        body["chat_template_kwargs"] = {"enable_thinking": request.think}
    if request.continues:
        # For vLLM; llama.cpp goes on with an assistant's last message by itself and ignores both.
        body |= {"continue_final_message": True, "add_generation_prompt": False}
    return body


def _options(options: Options) -> dict[str, Json]:
    if options.context_length is not None:
        raise BackendUnsupported(
            "An OpenAI-compatible server fixes the context length when it starts: leave the context length out."
        )
    wire: dict[str, Json] = {}
    for ours, theirs in _OPTION_NAMES.items():
        if (value := getattr(options, ours)) is not None:
            wire |= dict.fromkeys(theirs, value)
    if options.stop:
        wire["stop"] = list(options.stop)
    return wire


def _message(message: Message) -> dict[str, Json]:
    # `thinking` stays out: the chat API has no place for it in a request, and templates drop it anyway.
    wire: dict[str, Json] = {"role": message.role, "content": message.content}
    if message.images:
        wire["content"] = [
            *([{"type": "text", "text": message.content}] if message.content else []),
            *({"type": "image_url", "image_url": {"url": _data_url(image)}} for image in message.images),
        ]
    if message.tool_calls:
        wire["tool_calls"] = [_tool_call(call) for call in message.tool_calls]
    if message.tool_call_id is not None:
        wire["tool_call_id"] = message.tool_call_id
    return wire


def _data_url(image: str) -> str:
    media_type = next((kind for start, kind in _IMAGE_TYPES.items() if image.startswith(start)), "image/png")
    return f"data:{media_type};base64,{image}"


def _tool(tool: Tool) -> dict[str, Json]:
    return {
        "type": "function",
        "function": {"name": tool.name, "description": tool.description, "parameters": tool.parameters},
    }


def _tool_call(call: ToolCall) -> dict[str, Json]:
    function = {"name": call.name, "arguments": orjson.dumps(call.arguments).decode()}
    return {"id": call.id, "type": "function", "function": function}


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
