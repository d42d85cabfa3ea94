"""Turns a streamed answer of the OpenAI chat API into chunks."""

import math
from collections.abc import Iterable, Sequence

from backends.content import Speech, logprobs_of, pieces
from backends.errors import BackendError, BackendFailed, BackendProtocolError
from backends.estimates import estimated_tokens
from backends.protocol import (
    Chunk,
    FinishChunk,
    FinishReason,
    Json,
    ToolCallChunk,
    Usage,
    UsageChunk,
)
from backends.think_tags import ThinkTags
from backends.tool_calls import ToolCallPieces
from backends.wire import (
    DONE,
    MAX_LINE_BYTES,
    ServerSentEvent,
    SseDecoder,
    as_count,
    as_list,
    as_milliseconds,
    as_object,
    as_text,
    decoded,
    failure,
    is_document,
    read_json,
    told_error,
)

_FINISH_REASONS = {
    "length": FinishReason.LENGTH,
    "max_tokens": FinishReason.LENGTH,
    "max_output_tokens": FinishReason.LENGTH,
    "model_length": FinishReason.LENGTH,
    "tool_calls": FinishReason.TOOL_CALLS,
    "tool_use": FinishReason.TOOL_CALLS,
    "function_call": FinishReason.TOOL_CALLS,
    "content_filter": FinishReason.CONTENT_FILTER,
    "safety": FinishReason.CONTENT_FILTER,
    "sensitive": FinishReason.CONTENT_FILTER,
    "repetition": FinishReason.REPETITION,
}
"""Every other reason, such as a server's own word for an end token, is a stop."""

_NO_REASON = {"", "null", "none"}
_BROKEN_OFF = {"error", "abort", "aborted", "network_error", "insufficient_system_resource"}
"""Said by Mistral, vLLM, Zhipu and DeepSeek of an answer that they could not finish."""

_BEFORE = b"\xef\xbb\xbf \t\r\n"
"""What may stand before a JSON document: a byte order mark and blanks."""

MAX_WHOLE_BYTES = 16 * MAX_LINE_BYTES
"""Longest answer that comes as one JSON document although a stream was asked for."""


class OpenAIDecoder:
    """Turns the events of `/v1/chat/completions` into chunks.

    The FinishChunk is given as soon as the finish reason is known, behind all that came in the same read; usage that
    comes later is a UsageChunk behind it. Usage told before (llama.cpp's `timings`, vLLM's continuous usage) is handed
    on as one UsageChunk per read. A server that answers with one JSON document instead of a stream is understood too,
    and one that sends a document a line.
    `think_tags` is whether `<think>…</think>` at the beginning of the text is the model's reasoning; `logprobs` whether
    they were asked for.
    """

    def __init__(self, *, think_tags: bool = False, logprobs: bool = False) -> None:
        self.finished = False
        self.complete = False
        self._events = SseDecoder()
        self._begun = False
        self._whole: bytearray | None = None
        self._at_once = False
        self._reason: FinishReason | None = None
        self._calls = ToolCallPieces()
        self._usage: Usage | None = None
        self._reported: Usage | None = None
        self._counted = 0
        self._eval_ms: int | None = None
        self._prompt_ms: int | None = None
        self._speech = Speech()
        self._tags = ThinkTags() if think_tags else None
        self._logprobs = logprobs

    def feed(self, data: bytes, into: list[Chunk]) -> None:
        """Append the chunks that `data` completes. Raises BackendError, but not once there is a finish reason."""
        if not self._begun and data.strip():
            self._begun = True
            self._whole = bytearray() if data.lstrip(_BEFORE).startswith((b"{", b"[")) else None
        if self._whole is None:
            self._take(self._events.feed(data), into)
            return
        self._whole += data
        if len(self._whole) > MAX_WHOLE_BYTES:
            raise BackendProtocolError(f"The model server sent more than {MAX_WHOLE_BYTES} bytes at once.")
        if data.rstrip().endswith((b"}", b"]")):
            self._take_documents(into)

    def end(self, into: list[Chunk]) -> None:
        """Finish with the end of the stream. Without a finish reason the answer was cut off: BackendProtocolError."""
        if self._whole is None:
            self._take(self._events.end(), into)
        else:
            self._take([ServerSentEvent(bytes(self._whole))], into)
        if not self.finished:
            raise BackendProtocolError("The model server ended the answer without a reason to finish.")

    def _take_documents(self, into: list[Chunk]) -> None:
        """Take the document that came without being an event, or one a line, if they are whole."""
        whole = bytes(self._whole or b"").lstrip(_BEFORE)
        documents = [whole] if is_document(whole) else [line for line in whole.splitlines() if line.strip()]
        if all(map(is_document, documents)):
            self._whole = bytearray()
            self._take([ServerSentEvent(document) for document in documents], into)
            if self._at_once:
                self._take([ServerSentEvent(DONE)], into)

    def _take(self, events: Sequence[ServerSentEvent], into: list[Chunk]) -> None:
        try:
            for event in events:
                self._event(event, into)
                if self.complete:
                    break
        except BackendError:
            if self._reason is None:
                raise
        finally:
            self._report(into)
        if self._reason is not None and not self.finished:
            self._finish(self._reason, into)

    def _event(self, event: ServerSentEvent, into: list[Chunk]) -> None:
        data = event.data.strip()
        if data == DONE:
            if self._reason is None and not (self._speech.begun or self._calls):
                raise BackendProtocolError("The model server ended the answer without a reason to finish.")
            self._reason = self._reason or FinishReason.STOP  # it said that it is done, and only not why
            self.complete = True
        elif event.event == "error" and data and not is_document(data):
            raise failure(decoded(data))
        elif data.startswith((b"{", b"[")):  # what is none, such as "ping", is no part of an answer
            value = read_json(data)
            if event.event in {"message", "error"} or as_object(value).get("choices"):
                self._chunk(value, into)

    def _chunk(self, value: Json, into: list[Chunk]) -> None:
        chunk = as_object(value)
        choices = as_list(chunk.get("choices"))
        if (chunk.get("error") or not choices) and told_error(value) is not None:
            raise failure(value)
        tokens = self._tokens(as_object(chunk["timings"])) if "timings" in chunk else 1
        if usage := as_object(chunk.get("usage")):
            self._usage = (self._usage or Usage()).updated(_usage(usage))
        for choice in choices[:1]:  # one answer was asked for
            self._choice(as_object(choice), tokens, into)

    def _choice(self, choice: dict[str, Json], tokens: int, into: list[Chunk]) -> None:
        said = delta = as_object(choice.get("delta"))
        if not delta:  # the whole answer at once
            said = as_object(choice.get("message"))
            self._at_once = self._at_once or bool(said)
        if self._logprobs:
            self._speech.owe_logprobs(logprobs_of(as_object(choice.get("logprobs")).get("content")))
        if found := pieces(said):
            self._say(found, tokens if delta else math.ceil(sum(estimated_tokens(text) for _, text in found)), into)
        if "tool_calls" in said:
            for call in as_list(said["tool_calls"]):
                self._calls.add(as_object(call))
                self._speech.forget_logprobs()
        elif call := as_object(said.get("function_call")):  # what tool calls were called before
            self._calls.add({"function": call})
        if self._reason is None and (reason := as_text(choice.get("finish_reason")).lower()) not in _NO_REASON:
            if reason in _BROKEN_OFF:
                raise BackendFailed(f"The model server aborted the answer ({reason}).")
            self._reason = _FINISH_REASONS.get(reason, FinishReason.STOP)

    def _say(self, found: Iterable[tuple[bool, str]], tokens: int, into: list[Chunk]) -> None:
        """Hand on the texts of one chunk, whose tokens are counted once."""
        if self._tags is None:
            for thinks, text in found:
                self._speech.add(thinks, text, tokens, into)
                tokens = 0
            return
        said = False
        for thinks, piece in found:
            for is_thought, text in [(thinks, piece)] if thinks else self._tags.feed(piece):
                self._speech.add(is_thought, text, tokens, into)
                tokens, said = 0, True
        self._speech.owe(tokens)
        if self._tags.aside and not said:  # a tag, or a blank line behind one
            self._speech.forget_logprobs()

    def _finish(self, reason: FinishReason, into: list[Chunk]) -> None:
        for thinks, text in self._tags.end() if self._tags is not None else ():
            self._speech.add(thinks, text, 0, into)
        self._speech.end(into)
        into += [ToolCallChunk(call) for call in self._calls.calls()]
        if reason is FinishReason.STOP and self._calls:
            reason = FinishReason.TOOL_CALLS
        into.append(FinishChunk(reason, self._usage or Usage(), eval_ms=self._eval_ms, prompt_ms=self._prompt_ms))
        self.finished = True

    def _report(self, into: list[Chunk]) -> None:
        """Tell usage that came without the end, or behind it."""
        if self._usage is not self._reported and (self._reason is None or self.finished):
            into.append(UsageChunk(self._usage or Usage(), self._eval_ms, self._prompt_ms))
        self._reported = self._usage

    def _tokens(self, counts: dict[str, Json]) -> int:
        """Take llama.cpp's counts so far; give how many tokens were made since the last ones."""
        self._eval_ms = as_milliseconds(counts.get("predicted_ms"))
        self._prompt_ms = as_milliseconds(counts.get("prompt_ms"))
        cached = as_count(counts.get("cache_n")) or 0
        prompt = cached + (as_count(counts.get("prompt_n")) or 0)
        predicted = as_count(counts.get("predicted_n")) or 0
        if prompt:
            thought = self._usage.thinking_tokens if self._usage else None  # the timings do not tell it
            self._usage = Usage(as_count(prompt), predicted, cached, thought)
        new, self._counted = predicted - self._counted, predicted
        return max(new, 0)


def _usage(value: dict[str, Json]) -> Usage:
    return Usage(
        prompt_tokens=as_count(value.get("prompt_tokens")),
        completion_tokens=as_count(value.get("completion_tokens")),
        cached_tokens=as_count(as_object(value.get("prompt_tokens_details")).get("cached_tokens")),
        thinking_tokens=as_count(as_object(value.get("completion_tokens_details")).get("reasoning_tokens")),
    )
