"""Turns a streamed answer of the OpenAI chat API into chunks."""

from dataclasses import dataclass, field
from uuid import uuid4

from backends.errors import BackendFailed, BackendProtocolError
from backends.http import server_message
from backends.lines import MAX_LINE_BYTES
from backends.protocol import (
    Chunk,
    FinishChunk,
    FinishReason,
    Json,
    TextChunk,
    ThinkingChunk,
    ToolCall,
    ToolCallChunk,
    Usage,
    UsageChunk,
)
from backends.sse import SseDecoder
from backends.wire import as_count, as_list, as_object, as_text, json_object

_FINISH_REASONS = {
    "length": FinishReason.LENGTH,
    "tool_calls": FinishReason.TOOL_CALLS,
    "function_call": FinishReason.TOOL_CALLS,
    "content_filter": FinishReason.CONTENT_FILTER,
}
"""Every other reason, such as a server's own word for an end token, is a stop."""


class OpenAIDecoder:
    """Turns the events of `/v1/chat/completions` into chunks.

    The usage comes after the finish reason, in an event of its own, so the FinishChunk waits for `[DONE]` or for
    the end of the stream. Usage told before that (llama.cpp's `timings`, vLLM's continuous usage) is handed on
    as one UsageChunk per read.
    """

    def __init__(self) -> None:
        self.finished = False
        self._events = SseDecoder()
        self._reason: FinishReason | None = None
        self._calls: dict[int, _PartialCall] = {}
        self._usage: Usage | None = None
        self._reported: Usage | None = None
        self._counted = 0

    def feed(self, data: bytes, into: list[Chunk]) -> None:
        """Append the chunks that `data` completes. Raises BackendFailed or BackendProtocolError."""
        try:
            for event in self._events.feed(data):
                if event.data == b"[DONE]":
                    self.end(into)
                    return
                self._chunk(json_object(event.data), into)
        finally:
            if self._usage is not self._reported and not self.finished:
                self._reported = self._usage
                into.append(UsageChunk(self._usage or Usage()))

    def end(self, into: list[Chunk]) -> None:
        """Finish. An end without a finish reason is an answer cut off, whatever the server says after it."""
        if self._reason is None:
            raise BackendProtocolError("The model server ended the answer without a reason to finish.")
        reason = self._reason
        for call in self._calls.values():
            into.append(ToolCallChunk(call.whole()))
            if reason is FinishReason.STOP:
                reason = FinishReason.TOOL_CALLS
        into.append(FinishChunk(reason, self._usage or Usage()))
        self.finished = True

    def _chunk(self, value: dict[str, Json], into: list[Chunk]) -> None:
        if value.get("error") is not None:
            raise BackendFailed(server_message(value) or "The model server failed while answering.")
        tokens = self._tokens(value["timings"]) if "timings" in value else 1
        if value.get("usage") is not None:
            self._usage = _usage(as_object(value["usage"]))
        for choice in as_list(value.get("choices")):
            self._choice(as_object(choice), tokens, into)

    def _choice(self, choice: dict[str, Json], tokens: int, into: list[Chunk]) -> None:
        delta = as_object(choice.get("delta"))
        # Two names for one thing: llama.cpp's, DeepSeek's and older vLLM's, and the one newer vLLM and Ollama use.
        if thinking := as_text(delta.get("reasoning_content") or delta.get("reasoning")):
            into.append(ThinkingChunk(thinking, tokens))
        if content := as_text(delta.get("content")):
            into.append(TextChunk(content, tokens))
        for call in as_list(delta.get("tool_calls")):
            self._call(as_object(call))
        if reason := as_text(choice.get("finish_reason")):
            self._reason = _FINISH_REASONS.get(reason, FinishReason.STOP)

    def _call(self, piece: dict[str, Json]) -> None:
        index = as_count(piece.get("index"))
        if index is None:  # some servers leave it out: then an id begins a call, and what has none goes on with it
            index = len(self._calls) if piece.get("id") else max(len(self._calls) - 1, 0)
        call = self._calls.setdefault(index, _PartialCall())
        function = as_object(piece.get("function"))
        call.id = call.id or as_text(piece.get("id"))
        call.name = call.name or as_text(function.get("name"))
        call.add(as_text(function.get("arguments")))

    def _tokens(self, timings: Json) -> int:
        """Take llama.cpp's counts so far; give how many tokens were made since the last ones."""
        counts = as_object(timings)
        cached = as_count(counts.get("cache_n")) or 0
        prompt = cached + (as_count(counts.get("prompt_n")) or 0)
        predicted = as_count(counts.get("predicted_n")) or 0
        if prompt:
            self._usage = Usage(prompt_tokens=as_count(prompt), completion_tokens=predicted, cached_tokens=cached)
        new, self._counted = predicted - self._counted, predicted
        return max(new, 0)


@dataclass(slots=True)
class _PartialCall:
    """A tool call whose arguments are still coming, as pieces of JSON text."""

    id: str = ""
    name: str = ""
    pieces: list[str] = field(default_factory=list[str])
    length: int = 0

    def add(self, arguments: str) -> None:
        self.pieces.append(arguments)
        self.length += len(arguments)
        if self.length > MAX_LINE_BYTES:
            raise BackendProtocolError(f"The arguments of a tool call are longer than {MAX_LINE_BYTES} characters.")

    def whole(self) -> ToolCall:
        text = "".join(self.pieces).strip()
        return ToolCall(
            id=self.id or f"call_{uuid4().hex}",
            name=self.name,
            arguments=json_object(text.encode()) if text else {},
        )


def _usage(value: dict[str, Json]) -> Usage:
    return Usage(
        prompt_tokens=as_count(value.get("prompt_tokens")),
        completion_tokens=as_count(value.get("completion_tokens")),
        cached_tokens=as_count(as_object(value.get("prompt_tokens_details")).get("cached_tokens")),
    )
