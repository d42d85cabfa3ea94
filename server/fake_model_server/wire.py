"""How the fake model server writes an answer: once in Ollama's words, once in OpenAI's."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol

import orjson

from server.fake_model_server.scripts import Prompt

Body = Mapping[str, Any]


class Wire(Protocol):
    """One protocol, for one answer."""

    content_type: bytes

    def begin(self) -> bytes: ...
    def text(self, piece: str) -> bytes: ...
    def thinking(self, piece: str) -> bytes: ...
    def tool_call(self, index: int, name: str, arguments: Mapping[str, Any]) -> list[bytes]: ...
    def finish(self, reason: str, prompt_tokens: int, completion_tokens: int, *, usage: bool) -> list[bytes]: ...
    def error(self, message: str) -> bytes: ...
    def malformed(self) -> bytes: ...


TURN, END = "<|{}|>", "<|end|>"


def rendered_prompt(body: Body, *, closes_turns: bool) -> str:
    """Give what the template of Ollama's fake models makes of a conversation."""
    turns = [TURN.format(message["role"]) + message["content"] for message in body["messages"]]
    if body["messages"][-1]["role"] == "assistant" and not closes_turns:
        return END.join(turns)
    return END.join([*turns, TURN.format("assistant")])


def read_prompt(body: Body) -> Prompt:
    """Read each protocol's request."""
    if "prompt" in body:  # as it was rendered, and what was said behind it
        before, _, begun = body["prompt"].rpartition(TURN.format("assistant"))
        last = before.removesuffix(END).rpartition("|>")[2]
        words = len(last.split()) + len(begun.split())
        return Prompt(last, words, (), body.get("options", {}).get("num_predict"), begun)
    texts = [_text(message["content"]) for message in body["messages"]]
    begun = texts[-1] if len(texts) > 1 and body["messages"][-1]["role"] == "assistant" else ""
    return Prompt(
        last=texts[-2] if begun else texts[-1],
        words=sum(len(text.split()) for text in texts),
        tools=[tool["function"]["name"] for tool in body.get("tools", ())],
        max_tokens=body.get("max_tokens") or body.get("options", {}).get("num_predict"),
        begun=begun,
    )


CONTEXT_EXCEEDED = "the input length exceeds the context length"
_KEPT = 4
"""Ollama's `num_keep`: the tokens at the beginning that are never left out."""


def fitted(prompt: Prompt, body: Body, num_ctx: int) -> Prompt | None:
    """Give what Ollama makes of a prompt for a context of `num_ctx` tokens; None where it refuses it.

    One that fills the context is cut to about half of that, unless `truncate` is false. With `shift` an answer goes on
    behind the end of the context; without, it ends there.
    """
    num_ctx = body.get("options", {}).get("num_ctx", num_ctx)
    if prompt.words >= num_ctx:
        if body.get("truncate") is False:
            return None
        left = num_ctx - max((num_ctx - _KEPT) // 2, 1)
        prompt = replace(prompt, words=left, last=" ".join(prompt.last.split()[-left:]))
    if body.get("shift") is False:
        room = num_ctx - prompt.words
        prompt = replace(prompt, max_tokens=min(prompt.max_tokens or room, room))
    return prompt


def _text(content: str | list[dict[str, Any]]) -> str:
    if isinstance(content, str):
        return content
    return "".join(part["text"] for part in content if part["type"] == "text")


PROMPT_MS = 20.9
"""How long each fake model reads its prompt."""

DURATIONS = {"load_duration": 42_000_000, "prompt_eval_duration": round(PROMPT_MS * 1_000_000)}
"""In nanoseconds."""


def logprob(piece: str, place: int) -> dict[str, Any]:
    """Give what both protocols tell of a token: the n-th has a probability of e to the power of -n/4."""
    return {"token": piece, "logprob": -place / 4, "bytes": list(piece.encode()), "top_logprobs": []}


class OllamaWire:
    """NDJSON lines of `/api/chat`; with logprobs when the request asks for them."""

    content_type = b"application/x-ndjson"

    def __init__(self, body: Body) -> None:
        self._base = {"model": body["model"], "created_at": "2026-08-21T10:00:00.123456789Z"}
        self._logprobs = body.get("logprobs") is True
        self._said = 0

    def begin(self) -> bytes:
        return b""

    def text(self, piece: str) -> bytes:
        return self._line(message={"role": "assistant", "content": piece}, done=False, **self._told(piece))

    def thinking(self, piece: str) -> bytes:
        message = {"role": "assistant", "content": "", "thinking": piece}
        return self._line(message=message, done=False, **self._told(piece))

    def tool_call(self, index: int, name: str, arguments: Mapping[str, Any]) -> list[bytes]:
        call = {"id": f"call_{index}", "function": {"index": index, "name": name, "arguments": arguments}}
        return [self._line(message={"role": "assistant", "content": "", "tool_calls": [call]}, done=False)]

    def finish(self, reason: str, prompt_tokens: int, completion_tokens: int, *, usage: bool) -> list[bytes]:
        counts = {"prompt_eval_count": prompt_tokens, "eval_count": completion_tokens} if usage else {}
        message = {"role": "assistant", "content": ""}
        return [self._line(message=message, done=True, done_reason=reason, **DURATIONS, **counts)]

    def error(self, message: str) -> bytes:
        return orjson.dumps({"error": message}) + b"\n"

    def malformed(self) -> bytes:
        return b'{"message": {"content": "hal\n'

    def _told(self, piece: str) -> dict[str, Any]:
        self._said += 1
        return {"logprobs": [logprob(piece, self._said - 1)]} if self._logprobs else {}

    def _line(self, **fields: Any) -> bytes:
        return orjson.dumps(self._base | fields) + b"\n"


class OllamaGenerateWire(OllamaWire):
    """NDJSON lines of `/api/generate`."""

    def text(self, piece: str) -> bytes:
        return self._line(response=piece, done=False, **self._told(piece))


class OpenAIWire:
    """Server-sent events of `/v1/chat/completions`; with llama.cpp's timings and logprobs when asked for them."""

    content_type = b"text/event-stream"

    def __init__(self, body: Body) -> None:
        self._base = {"id": "chatcmpl-fake", "object": "chat.completion.chunk", "created": 1, "model": body["model"]}
        self._usage = bool(body.get("stream_options", {}).get("include_usage"))
        self._timed = bool(body.get("timings_per_token"))
        self._logprobs = body.get("logprobs") is True
        self._prompt_tokens = read_prompt(body).words
        self._predicted = 0
        self._thought = 0

    def begin(self) -> bytes:
        return self._choice({"role": "assistant", "content": None})

    def text(self, piece: str) -> bytes:
        return self._token({"content": piece}, piece)

    def thinking(self, piece: str) -> bytes:
        self._thought += 1
        return self._token({"reasoning_content": piece}, piece)

    def tool_call(self, index: int, name: str, arguments: Mapping[str, Any]) -> list[bytes]:
        text = orjson.dumps(arguments).decode()
        half = len(text) // 2
        head = {"index": index, "id": f"call_{index}", "type": "function", "function": {"name": name, "arguments": ""}}
        rest = [{"index": index, "function": {"arguments": piece}} for piece in (text[:half], text[half:])]
        return [self._choice({"tool_calls": [piece]}) for piece in (head, *rest)]

    def finish(self, reason: str, prompt_tokens: int, completion_tokens: int, *, usage: bool) -> list[bytes]:
        events = [self._choice({}, reason)]
        if usage and self._usage:
            counts: dict[str, Any] = {
                "prompt_tokens": prompt_tokens,
                "completion_tokens": completion_tokens,
                "total_tokens": prompt_tokens + completion_tokens,
            }
            if self._thought:
                counts["completion_tokens_details"] = {"reasoning_tokens": self._thought}
            events.append(self._event(choices=[], usage=counts))
        return [*events, b"data: [DONE]\n\n"]

    def error(self, message: str) -> bytes:
        return b"data: " + orjson.dumps({"error": {"message": message, "type": "server_error"}}) + b"\n\n"

    def malformed(self) -> bytes:
        return b'data: {"choices": [{"delta": {"content": "hal\n\n'

    def _token(self, delta: dict[str, Any], piece: str) -> bytes:
        told = {"logprobs": {"content": [logprob(piece, self._predicted)]}} if self._logprobs else {}
        self._predicted += 1
        if not self._timed:
            return self._choice(delta, told=told)
        timings = {
            "cache_n": 1,
            "prompt_n": self._prompt_tokens - 1,
            "prompt_ms": PROMPT_MS,
            "predicted_n": self._predicted,
        }
        return self._choice(delta, told=told, timings=timings)

    def _choice(self, delta: dict[str, Any], reason: str | None = None, told: Body | None = None, **more: Any) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": reason} | dict(told or {})
        return self._event(choices=[choice], **more)

    def _event(self, **fields: Any) -> bytes:
        return b"data: " + orjson.dumps(self._base | fields) + b"\n\n"
