"""Events as bytes, for a log outside this process and for the database.

A JSON array of arrays: a letter for the kind, then the fields in the order of the dataclass.
"""

import zlib
from collections.abc import Callable, Iterable
from dataclasses import fields
from typing import Any

import orjson

from backends.logprobs import TokenLogprob
from backends.protocol import ToolCall
from gateway.errors import ErrorCode
from gateway.streams.events import (
    Cancelled,
    CancelReason,
    Completed,
    Event,
    Failed,
    FinishReason,
    LossReason,
    Queued,
    QueueReason,
    Resumed,
    Started,
    TextDelta,
    ThinkingDelta,
    TokenUsage,
    ToolCallRequested,
    UsageSource,
    UsageSources,
)

_LETTERS: dict[type[Event], str] = {
    Queued: "q",
    Started: "s",
    TextDelta: "t",
    ThinkingDelta: "h",
    ToolCallRequested: "c",
    Resumed: "r",
    Completed: "e",
    Cancelled: "x",
    Failed: "f",
}

_FIELDS = {kind: tuple(field.name for field in fields(kind)) for kind in _LETTERS}


MOST = 2**31 - 1
"""No number in an event is larger; it fits into every column and array that it may come to."""


def _number(value: Any, least: int = 0) -> int:
    if type(value) is not int or not least <= value <= MOST:
        raise TypeError("not a count")
    return value


def _number_if_told(value: Any) -> int | None:
    return None if value is None else _number(value)


def _text(value: Any) -> str:
    if type(value) is not str:
        raise TypeError("not a text")
    return value


def _queued(sequence: int, position: int, reason: str = QueueReason.BUSY) -> Queued:
    return Queued(sequence, _number(position), QueueReason(reason))


def _started(sequence: int, queued_ms: int, backend: str = "") -> Started:
    return Started(sequence, _number(queued_ms), _text(backend))


def _text_delta(
    sequence: int, text: str, offset: int, tokens: int, logprobs: list[list[Any]] | None = None, *_later: Any
) -> TextDelta:
    told = None if logprobs is None else [_logprob(*entry) for entry in logprobs]
    return TextDelta(sequence, _text(text), _number(offset), _number(tokens), told)


def _logprob(token: str, logprob: float, utf8: str | None) -> TokenLogprob:
    if type(logprob) is not float:
        raise TypeError("not a logarithm")
    return TokenLogprob(_text(token), logprob, None if utf8 is None else bytes.fromhex(utf8))


def _thinking_delta(sequence: int, text: str, offset: int, tokens: int) -> ThinkingDelta:
    return ThinkingDelta(sequence, _text(text), _number(offset), _number(tokens))


def _tool_call(sequence: int, call: dict[str, Any]) -> ToolCallRequested:
    arguments: Any = call["arguments"]
    if not isinstance(arguments, dict):
        raise TypeError("not an object")
    return ToolCallRequested(sequence, ToolCall(_text(call["id"]), _text(call["name"]), {**arguments}))


def _resumed(sequence: int, reason: str, backend: str) -> Resumed:
    return Resumed(sequence, LossReason(reason), _text(backend))


def _completed(sequence: int, reason: str, usage: dict[str, Any]) -> Completed | Cancelled:
    if reason == "cancelled":  # as gateways before 1.0 told it, without the reason
        return Cancelled(sequence, CancelReason.REQUESTED, _usage(usage))
    return Completed(sequence, FinishReason(reason), _usage(usage))


def _cancelled(sequence: int, reason: str, usage: dict[str, Any]) -> Cancelled:
    return Cancelled(sequence, CancelReason(reason), _usage(usage))


def _failed(
    sequence: int,
    code: str,
    message: str,
    retryable: bool,
    usage: dict[str, Any],
    retry_after_ms: int | None = None,
) -> Failed:
    pause = _number_if_told(retry_after_ms)
    return Failed(sequence, ErrorCode(code), _text(message), bool(retryable), _usage(usage), pause)


def _usage(value: dict[str, Any]) -> TokenUsage:
    prompt, completion = _number(value["prompt_tokens"]), _number(value["completion_tokens"])
    cached = _number_if_told(value["cached_tokens"])
    thinking = _number_if_told(value.get("thinking_tokens"))  # gateways before 1.0 did not write it
    weakest, told = UsageSource(value["source"]), value.get("sources")  # nor these
    sources = UsageSources.of_weakest(weakest, prompt, cached, thinking) if told is None else _sources(*told)
    return TokenUsage(prompt, completion, cached, sources, thinking)


def _sources(prompt: str, completion: str, cached: str | None, thinking: str | None) -> UsageSources:
    told = [None if source is None else UsageSource(source) for source in (cached, thinking)]
    return UsageSources(UsageSource(prompt), UsageSource(completion), *told)


def _usage_row(usage: TokenUsage) -> dict[str, Any]:
    """Give the counts as they are written: with the weakest source, which gateways before 1.0 need."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "cached_tokens": usage.cached_tokens,
        "source": usage.source,
        "thinking_tokens": usage.thinking_tokens,
        "sources": list(usage.sources),
    }


_MAKE: dict[str, Callable[..., Event]] = {
    "q": _queued,
    "s": _started,
    "t": _text_delta,
    "h": _thinking_delta,
    "c": _tool_call,
    "r": _resumed,
    "e": _completed,
    "x": _cancelled,
    "f": _failed,
}


def encode(events: Iterable[Event]) -> bytes:
    """Give the events as JSON."""
    return orjson.dumps([_row(event) for event in events])


def decode(data: bytes) -> list[Event]:
    """Give the events again. Raises ValueError for what `encode` did not make, or a newer version's did."""
    rows: list[list[Any]] = orjson.loads(data)
    try:
        return [_MAKE[letter](_number(sequence, 1), *values) for letter, sequence, *values in rows]
    except (KeyError, TypeError) as error:
        raise ValueError("these are not events") from error


def encode_usage(usage: TokenUsage) -> bytes:
    """Token counts as JSON."""
    return orjson.dumps(_usage_row(usage))


def decode_usage(data: bytes) -> TokenUsage:
    """Give the counts again. Raises ValueError for what `encode_usage` did not make."""
    try:
        return _usage(orjson.loads(data))
    except (KeyError, TypeError) as error:
        raise ValueError("these are not counts") from error


def encode_transcript(events: Iterable[Event]) -> bytes:
    """Give the events, compressed, for the database."""
    return zlib.compress(encode(events))


def decode_transcript(data: bytes) -> list[Event]:
    """Give the events again. Raises ValueError for what `encode_transcript` did not make."""
    try:
        return decode(zlib.decompress(data))
    except zlib.error as error:
        raise ValueError("this is not a transcript") from error


def _row(event: Event) -> list[Any]:
    kind = type(event)
    if isinstance(event, TextDelta | ThinkingDelta):  # the usual one, and the quickest way
        row: list[Any] = [_LETTERS[kind], event.sequence, event.text, event.offset, event.tokens]
        if isinstance(event, TextDelta) and event.logprobs is not None:  # older gateways know no fifth field
            row.append([_logprob_row(logprob) for logprob in event.logprobs])
        return row
    values = (getattr(event, name) for name in _FIELDS[kind])
    return [_LETTERS[kind], *(_usage_row(value) if isinstance(value, TokenUsage) else value for value in values)]


def _logprob_row(told: TokenLogprob) -> list[Any]:
    return [told.token, told.logprob, None if told.utf8 is None else told.utf8.hex()]
