"""Turns a streamed answer of Ollama's own API into chunks."""

from backends.content import Speech, logprobs_of, pieces, plain_text
from backends.errors import BackendProtocolError
from backends.protocol import (
    Chunk,
    FinishChunk,
    FinishReason,
    Json,
    ToolCallChunk,
    Usage,
)
from backends.tool_calls import tool_call
from backends.wire import (
    NdjsonDecoder,
    as_count,
    as_list,
    as_milliseconds,
    as_object,
    as_text,
    failure,
    read_json,
    told_error,
)

_FINISH_REASONS = {"length": FinishReason.LENGTH}
"""Ollama's `done_reason`; every other one (`stop`, `load`, `unload`, none at all on old servers) is a stop."""

_ANSWER = {"done", "response", "model"}
"""What stands in each line of an answer; a line that has none of it may be an error."""

NANOSECONDS = 1_000_000
"""So many are one of our milliseconds: Ollama writes durations as Go does."""

LOOP_TOKENS = 30
"""Ollama ends an answer, without a last line, after more equal tokens than these (llm/llama_server.go)."""


class OllamaDecoder:
    """Turns the lines of `/api/chat`, or of `/api/generate`, into chunks. `logprobs` is whether they were asked for."""

    def __init__(self, *, logprobs: bool = False) -> None:
        self._logprobs = logprobs
        self.finished = False
        self._lines = NdjsonDecoder()
        self._called = False
        self._speech = Speech()
        self._last = ""
        self._repeated = 0

    @property
    def complete(self) -> bool:
        """Whether nothing more is wanted: the last line has everything in it."""
        return self.finished

    def feed(self, data: bytes, into: list[Chunk]) -> None:
        """Append the chunks that `data` completes. Raises BackendError."""
        for line in self._lines.feed(data):
            self._line(line, into)
            if self.finished:
                return

    def end(self, into: list[Chunk]) -> None:
        """Take a last line without a line end.

        Ollama ends an answer that goes round in a loop without saying so. Every other end without `done` is an answer
        cut off: BackendProtocolError.
        """
        for line in self._lines.end():
            self._line(line, into)
        if not self.finished and self._repeated >= LOOP_TOKENS:
            self._speech.end(into)
            into.append(FinishChunk(FinishReason.REPETITION))
            self.finished = True
        if not self.finished:
            raise BackendProtocolError("The model server ended the answer without saying that it is done.")

    def _line(self, line: bytes, into: list[Chunk]) -> None:
        decoded = read_json(line)
        value = as_object(decoded)
        if value.get("done") is False and not value.get("error") and not self._logprobs:  # nearly every line
            text = plain_text(value.get("message"))
            if text is not None:
                if text:
                    self._count_repeated(text)
                    self._speech.add(False, text, 1, into)
                return
        if (value.get("error") or not value.keys() & _ANSWER) and told_error(decoded) is not None:
            raise failure(decoded)
        message = as_object(value.get("message")) or {**value, "content": value.get("response")}
        if self._logprobs:
            self._speech.owe_logprobs(logprobs_of(value.get("logprobs")))
        for thinks, text in pieces(message):
            self._count_repeated(text)
            self._speech.add(thinks, text, 1, into)
        for call in as_list(message.get("tool_calls")):
            into.append(ToolCallChunk(tool_call(as_object(call))))
            self._called = True
            self._speech.forget_logprobs()
        if value.get("done"):
            self._speech.end(into)
            into.append(self._finish(value))
            self.finished = True

    def _count_repeated(self, text: str) -> None:
        token = text.strip()
        self._repeated = self._repeated + 1 if token == self._last else 1
        self._last = token

    def _finish(self, value: dict[str, Json]) -> FinishChunk:
        reason = _FINISH_REASONS.get(as_text(value.get("done_reason")), FinishReason.STOP)
        if self._called and reason is FinishReason.STOP:
            reason = FinishReason.TOOL_CALLS
        usage = Usage(
            prompt_tokens=as_count(value.get("prompt_eval_count")),
            completion_tokens=as_count(value.get("eval_count")),
        )
        return FinishChunk(
            reason,
            usage,
            load_ms=as_milliseconds(value.get("load_duration"), NANOSECONDS),
            eval_ms=as_milliseconds(value.get("eval_duration"), NANOSECONDS),
            prompt_ms=as_milliseconds(value.get("prompt_eval_duration"), NANOSECONDS),
        )
