"""Speaks Ollama's native API (api/types.go): its `/v1` endpoints hide errors that come in mid-stream."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import uuid4

from backends.errors import BackendFailed, BackendModelNotFound, BackendProtocolError, BackendRejected
from backends.http import fetch_json, make_client, server_message
from backends.ndjson import NdjsonDecoder
from backends.protocol import (
    BackendKind,
    Capability,
    ChatRequest,
    Chunk,
    FinishChunk,
    FinishReason,
    Json,
    Message,
    ModelInfo,
    Options,
    TextChunk,
    ThinkingChunk,
    ToolCall,
    ToolCallChunk,
    Usage,
)
from backends.streaming import stream_chunks
from backends.wire import as_count, as_list, as_object, as_text, json_object

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

_FINISH_REASONS = {"length": FinishReason.LENGTH}
"""Ollama's `done_reason`; every other one (`stop`, `load`, `unload`, none at all on old servers) is a stop."""


class OllamaBackend:
    """One Ollama server.

    `base_url` is its address without a path, `connect_timeout` in seconds. Who makes one closes it (`aclose`).
    """

    def __init__(self, name: str, base_url: str, *, connect_timeout: float = 5.0) -> None:
        self._name = name
        self._client = make_client(base_url, connect_timeout=connect_timeout)
        self._shown: dict[str, _Shown] = {}

    @property
    def name(self) -> str:
        """The backend's name, as the operator gave it."""
        return self._name

    @property
    def kind(self) -> BackendKind:
        """Ollama's API."""
        return BackendKind.OLLAMA

    async def aclose(self) -> None:
        """Close the connections. Answers still under way end with BackendUnavailable."""
        await self._client.aclose()

    async def models(self) -> list[ModelInfo]:
        """List the models pulled to the server, with what `describe` has found out before. Raises BackendError."""
        listing = await fetch_json(self._client, "GET", "/api/tags")
        models = [_model_info(as_object(entry)) for entry in as_list(listing.get("models"))]
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

    async def ping(self) -> None:
        """Ask for the server's version. Raises BackendError."""
        await fetch_json(self._client, "GET", "/api/version")

    def generate(self, request: ChatRequest) -> AbstractAsyncContextManager[AsyncIterator[Sequence[Chunk]]]:
        """Ask `/api/chat`. Raises BackendError."""
        return stream_chunks(self._client, "/api/chat", chat_body(request), OllamaDecoder())

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
    """Build the body of `/api/chat`. What the request leaves out stays out, for the server's own default."""
    body: dict[str, Json] = {
        "model": request.model,
        "messages": [_message(message) for message in request.messages],
        "stream": True,
    }
    if options := _options(request.options):
        body["options"] = options
    if request.format is not None:
        body["format"] = request.format
    if request.tools:
        body["tools"] = [
            {
                "type": "function",
                "function": {"name": tool.name, "description": tool.description, "parameters": tool.parameters},
            }
            for tool in request.tools
        ]
    if request.think is not None:
        body["think"] = request.think
    return body


def _options(options: Options) -> dict[str, Json]:
    wire = {theirs: value for ours, theirs in _OPTION_NAMES.items() if (value := getattr(options, ours)) is not None}
    if options.stop:
        wire["stop"] = list(options.stop)
    return wire


def _message(message: Message) -> dict[str, Json]:
    wire: dict[str, Json] = {"role": message.role, "content": message.content}
    if message.images:
        wire["images"] = list(message.images)
    if message.tool_calls:
        wire["tool_calls"] = [
            {"id": call.id, "function": {"name": call.name, "arguments": call.arguments}} for call in message.tool_calls
        ]
    for field in ("thinking", "tool_name", "tool_call_id"):
        if (value := getattr(message, field)) is not None:
            wire[field] = value
    return wire


class OllamaDecoder:
    """Turns the lines of `/api/chat` into chunks."""

    def __init__(self) -> None:
        self.finished = False
        self._lines = NdjsonDecoder()
        self._called = False

    def feed(self, data: bytes, into: list[Chunk]) -> None:
        """Append the chunks that `data` completes. Raises BackendFailed or BackendProtocolError."""
        for line in self._lines.feed(data):
            self._line(line, into)
            if self.finished:
                return

    def end(self, into: list[Chunk]) -> None:
        """Take a last line without a line end. An end without `done` is a real outcome in Ollama, and an error."""
        for line in self._lines.end():
            self._line(line, into)
        if not self.finished:
            raise BackendProtocolError("The model server ended the answer without saying that it is done.")

    def _line(self, line: bytes, into: list[Chunk]) -> None:
        value = json_object(line)
        if "error" in value:
            raise BackendFailed(server_message(value) or "The model server failed while answering.")
        message = as_object(value.get("message"))
        if thinking := as_text(message.get("thinking")):
            into.append(ThinkingChunk(thinking))
        if content := as_text(message.get("content")):
            into.append(TextChunk(content))
        for call in as_list(message.get("tool_calls")):
            into.append(ToolCallChunk(_tool_call(as_object(call))))
            self._called = True
        if value.get("done"):
            into.append(self._finish(value))
            self.finished = True

    def _finish(self, value: dict[str, Json]) -> FinishChunk:
        reason = _FINISH_REASONS.get(as_text(value.get("done_reason")), FinishReason.STOP)
        if self._called and reason is FinishReason.STOP:
            reason = FinishReason.TOOL_CALLS
        load = as_count(value.get("load_duration"))
        usage = Usage(
            prompt_tokens=as_count(value.get("prompt_eval_count")),
            completion_tokens=as_count(value.get("eval_count")),
        )
        return FinishChunk(reason=reason, usage=usage, load_ms=None if load is None else load // 1_000_000)


def _tool_call(call: dict[str, Json]) -> ToolCall:
    function = as_object(call.get("function"))
    return ToolCall(
        # Older servers give no id, and one is needed to answer the call.
        id=as_text(call.get("id")) or f"call_{uuid4().hex}",
        name=as_text(function.get("name")),
        arguments=as_object(function.get("arguments")),
    )


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
        name=as_text(entry.get("name")),
        capabilities=_capabilities(entry),
        context_length=as_count(details.get("context_length")) or None,
        size_bytes=as_count(entry.get("size")),
        family=as_text(details.get("family")) or None,
        parameter_size=as_text(details.get("parameter_size")) or None,
        quantization=as_text(details.get("quantization_level")) or None,
        digest=as_text(entry.get("digest")) or None,
        modified_at=_timestamp(entry.get("modified_at")),
    )


def _capabilities(entry: dict[str, Json]) -> frozenset[Capability] | None:
    if entry.get("capabilities") is None:
        return None
    told = as_list(entry["capabilities"])
    return frozenset(capability for capability in Capability if capability.value in told)


def _context_length(model_info: dict[str, Json]) -> int | None:
    return as_count(model_info.get(f"{model_info.get('general.architecture')}.context_length"))


def _timestamp(value: Json) -> datetime | None:
    try:
        return datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
