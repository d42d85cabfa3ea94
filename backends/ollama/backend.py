"""Speaks Ollama's native API (api/types.go): its `/v1` endpoints hide errors that come in mid-stream."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace

from backends.errors import BackendModelNotFound, BackendRejected, BackendUnsupported
from backends.listing import usable_models
from backends.loading import OnLoading, watching
from backends.ollama.continuation import raw_body, raw_prompt
from backends.ollama.loading import LoadingWatch, loaded_models
from backends.ollama.stream import OllamaDecoder
from backends.protocol import (
    BackendKind,
    Capability,
    ChatRequest,
    Chunk,
    Json,
    LoadedModel,
    MediaKind,
    Message,
    ModelInfo,
    Options,
    OutputFormat,
    ThinkingLevel,
    ToolChoiceMode,
)
from backends.streaming import stream_chunks
from backends.wire import (
    as_count,
    as_list,
    as_moment,
    as_object,
    as_size,
    as_text,
    fetch_json,
    fetch_list,
    make_client,
    ollama_address,
)

_OPTION_NAMES = {
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "max_tokens": "num_predict",
    "seed": "seed",
    "context_length": "num_ctx",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
    "repeat_penalty": "repeat_penalty",
}


_THINK: dict[ThinkingLevel, bool | str] = {
    ThinkingLevel.OFF: False,
    ThinkingLevel.ON: True,
    ThinkingLevel.MINIMAL: "low",
    ThinkingLevel.LOW: "low",
    ThinkingLevel.MEDIUM: "medium",
    ThinkingLevel.HIGH: "high",
    ThinkingLevel.MAX: "max",
}
"""Ollama's `think`. Models without levels take each of them for true; one that always thinks ignores true and false."""

_LESS: dict[bool | str, bool | str] = {"max": "high", "low": True, "medium": True, "high": True}
"""What is next to a level that a server does not know: `max` is younger than the others, and they than true."""


class OllamaBackend:
    """One Ollama server.

    `base_url` is its address, with `/api` at the end or without; `parallel` how many answers it makes at once, which
    is 1 where its operator has not set OLLAMA_NUM_PARALLEL; `connect_timeout` is in seconds, and so is
    `event_interval`, the least time between two batches of an answer. Who makes one closes it (`aclose`).
    """

    def __init__(
        self,
        name: str,
        base_url: str,
        *,
        parallel: int = 1,
        connect_timeout: float = 5.0,
        event_interval: float = 0,
    ) -> None:
        self._name = name
        self._event_interval = event_interval
        self._parallel = parallel
        self._client = make_client(ollama_address(base_url), connect_timeout=connect_timeout)
        self._shown: dict[str, _Shown] = {}
        self._remote: set[str] = set()

    @property
    def name(self) -> str:
        """The backend's name, as the operator gave it."""
        return self._name

    @property
    def kind(self) -> BackendKind:
        """Ollama's API."""
        return BackendKind.OLLAMA

    @property
    def parallel(self) -> int:
        """Its OLLAMA_NUM_PARALLEL, which it does not tell."""
        return self._parallel

    def takes(self, kind: MediaKind, model: str) -> bool:
        """Tell whether it is an image: the API has no place for anything else."""
        return kind is MediaKind.IMAGE

    async def aclose(self) -> None:
        """Close the connections. Answers still under way end with BackendUnavailable."""
        await self._client.aclose()

    async def models(self) -> list[ModelInfo]:
        """List the models pulled to the server, with what `describe` has found out before. Raises BackendError."""
        listing = await fetch_list(self._client, "/api/tags", "models")
        entries = [as_object(entry) for entry in listing]
        models = usable_models([_model_info(entry) for entry in entries])
        self._remote = {_name(entry) for entry in entries if entry.get("remote_host")}
        digests = {model.digest for model in models}
        self._shown = {digest: shown for digest, shown in self._shown.items() if digest in digests}
        return [self._complete(model) for model in models]

    async def describe(self, model: ModelInfo) -> ModelInfo:
        """Ask for the capabilities and the context length that old servers do not list. Raises BackendError.

        It is asked once for each digest, also where the server has nothing to tell.
        """
        if model.digest and model.digest not in self._shown and _incomplete(model):
            self._shown[model.digest] = await self._show(model.name)
        return self._complete(model)

    async def loaded_models(self) -> dict[str, LoadedModel]:
        """List what is in memory (`/api/ps`). Raises BackendError."""
        return await loaded_models(self._client)

    async def ping(self) -> None:
        """Ask for the server's version. Raises BackendError."""
        await fetch_json(self._client, "GET", "/api/version")

    @asynccontextmanager
    async def generate(
        self, request: ChatRequest, on_loading: OnLoading | None = None
    ) -> AsyncGenerator[AsyncIterator[Sequence[Chunk]]]:
        """Ask `/api/chat`, or `/api/generate` for the rest of an answer. Raises BackendError."""
        path, body = "/api/chat", chat_body(request)
        if request.continues and (prompt := await raw_prompt(self._client, request, body)) is not None:
            path, body = "/api/generate", raw_body(body, prompt)
        async with AsyncExitStack() as stack:
            if on_loading is None or request.model in self._remote:
                batches = await self._ask(stack, path, body)
            else:
                async with watching(LoadingWatch(self._client, request.model).is_loading, on_loading):
                    batches = await self._ask(stack, path, body)
            yield batches

    async def _ask(self, stack: AsyncExitStack, path: str, body: dict[str, Json]) -> AsyncIterator[Sequence[Chunk]]:
        """Ask; a server that does not know the level of thinking is asked for the next one to it."""
        while True:
            decoder = OllamaDecoder(logprobs="logprobs" in body)
            try:
                answer = stream_chunks(self._client, path, body, decoder, self._event_interval)
                return await stack.enter_async_context(answer)
            except BackendRejected as error:
                if "think value" not in str(error) or body.get("think") not in _LESS:
                    raise
                body = {**body, "think": _LESS[body["think"]]}

    async def _show(self, name: str) -> "_Shown":
        try:
            answer = await fetch_json(self._client, "POST", "/api/show", {"model": name})
        except (BackendModelNotFound, BackendRejected):
            return _Shown(None, None)
        return _Shown(_capabilities(answer), _context_length(as_object(answer.get("model_info"))))

    def _complete(self, model: ModelInfo) -> ModelInfo:
        shown = self._shown.get(model.digest or "")
        if shown is None:
            return model
        return replace(
            model,
            capabilities=shown.capabilities if model.capabilities is None else model.capabilities,
            context_length=model.context_length or shown.context_length,
        )


def chat_body(request: ChatRequest) -> dict[str, Json]:
    """Build the body of `/api/chat`. What the request leaves out stays out, for the server's own default.

    Raises BackendUnsupported for what Ollama cannot be told.
    """
    body: dict[str, Json] = {
        "model": request.model,
        "messages": [_message(message) for message in request.messages],
        "stream": True,
        "truncate": False,  # else a prompt that does not fit is cut, and nobody told; Ollama knows it since 0.12.6
    }
    if options := _options(request.options):
        body["options"] = options
    if request.format is not None:
        body["format"] = _format(request.format)
    if request.tool_choice not in {None, ToolChoiceMode.AUTO, ToolChoiceMode.NONE}:
        raise BackendUnsupported("Ollama cannot force a tool call. Leave out toolChoice, or use the mode AUTO or NONE.")
    if request.tools and request.tool_choice is not ToolChoiceMode.NONE:
        body["tools"] = [
            {
                "type": "function",
                "function": {"name": tool.name, "description": tool.description, "parameters": tool.parameters},
            }
            for tool in request.tools
        ]
    if request.thinking is not None:
        body["think"] = _THINK[request.thinking]
    if request.logprobs:
        body["logprobs"] = True  # known since 0.12.11, and ignored before
    return body


def _format(wanted: OutputFormat) -> Json:
    if wanted.json_object:
        return "json"
    if wanted.json_schema is None:
        raise BackendUnsupported(
            "Ollama does not support regex, grammar and choice. Use the format jsonObject or jsonSchema."
        )
    return wanted.json_schema


def _options(options: Options) -> dict[str, Json]:
    wire = {theirs: value for ours, theirs in _OPTION_NAMES.items() if (value := getattr(options, ours)) is not None}
    if options.stop:
        wire["stop"] = list(options.stop)
    return wire


def _message(message: Message) -> dict[str, Json]:
    # Ollama takes text and images apart, and knows no developer: a template drops a role that it does not know.
    role = "system" if message.role == "developer" else message.role
    if any(kind is not MediaKind.IMAGE for kind in message.media):
        raise BackendUnsupported("Ollama supports text and images only. Leave out audio and files.")
    wire: dict[str, Json] = {"role": role, "content": message.text}
    if images := message.images:
        wire["images"] = images
    if message.tool_calls:
        wire["tool_calls"] = [
            {"id": call.id, "function": {"name": call.name, "arguments": call.arguments}} for call in message.tool_calls
        ]
    for field in ("thinking", "tool_name", "tool_call_id"):
        if (value := getattr(message, field)) is not None:
            wire[field] = value
    return wire


@dataclass(frozen=True, slots=True)
class _Shown:
    """What `/api/show` told about one digest; None is "does not tell"."""

    capabilities: frozenset[Capability] | None
    context_length: int | None


def _incomplete(model: ModelInfo) -> bool:
    return model.capabilities is None or model.context_length is None


def _model_info(entry: dict[str, Json]) -> ModelInfo:
    details = as_object(entry.get("details"))
    return ModelInfo(
        name=_name(entry),
        capabilities=_capabilities(entry),
        context_length=as_count(details.get("context_length")) or None,
        size_bytes=as_size(entry.get("size")),
        family=as_text(details.get("family")) or None,
        parameter_size=as_text(details.get("parameter_size")) or None,
        quantization=as_text(details.get("quantization_level")) or None,
        digest=as_text(entry.get("digest")) or None,
        modified_at=as_moment(entry.get("modified_at")),
    )


def _name(entry: dict[str, Json]) -> str:
    return as_text(entry.get("name")) or as_text(entry.get("model"))


def _capabilities(entry: dict[str, Json]) -> frozenset[Capability] | None:
    if entry.get("capabilities") is None:
        return None
    told = as_list(entry["capabilities"])
    return frozenset(capability for capability in Capability if capability.value in told)


def _context_length(model_info: dict[str, Json]) -> int | None:
    """Give what the model was made for. A `num_ctx` of its Modelfile is only a default, which a request may exceed."""
    return as_count(model_info.get(f"{model_info.get('general.architecture')}.context_length")) or None
