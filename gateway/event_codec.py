"""Events as bytes, for a log outside this process and for the database.

A JSON array of arrays: a letter for the kind, then the fields in the order of the dataclass.
"""

import zlib
from collections.abc import Callable, Iterable
from dataclasses import fields
from typing import Any

import orjson

from backends.protocol import ToolCall
from gateway.errors import ErrorCode
from gateway.events import (
    Completed,
    Event,
    Failed,
    FinishReason,
    Loss,
    Queued,
    Resumed,
    Started,
    TextDelta,
    ThinkingDelta,
    ToolCallRequested,
)
from gateway.metering import TokenUsage, UsageSource

_LETTERS: dict[type[Event], str] = {
    Queued: "q",
    Started: "s",
    TextDelta: "t",
    ThinkingDelta: "h",
    ToolCallRequested: "c",
    Resumed: "r",
    Completed: "e",
    Failed: "f",
}

_FIELDS = {kind: tuple(field.name for field in fields(kind)) for kind in _LETTERS}


def _tool_call(sequence: int, call: dict[str, Any]) -> ToolCallRequested:
    return ToolCallRequested(sequence, ToolCall(**call))


def _resumed(sequence: int, reason: str, backend: str) -> Resumed:
    return Resumed(sequence, Loss(reason), backend)


def _completed(sequence: int, reason: str, usage: dict[str, Any]) -> Completed:
    return Completed(sequence, FinishReason(reason), _usage(usage))


def _failed(sequence: int, code: str, message: str, retryable: bool, usage: dict[str, Any]) -> Failed:
    return Failed(sequence, ErrorCode(code), message, retryable, _usage(usage))


def _usage(value: dict[str, Any]) -> TokenUsage:
    counts = value["prompt_tokens"], value["completion_tokens"], value["cached_tokens"]
    return TokenUsage(*counts, source=UsageSource(value["source"]))


_MAKE: dict[str, Callable[..., Event]] = {
    "q": Queued,
    "s": Started,
    "t": TextDelta,
    "h": ThinkingDelta,
    "c": _tool_call,
    "r": _resumed,
    "e": _completed,
    "f": _failed,
}


def encode(events: Iterable[Event]) -> bytes:
    """The events as JSON."""
    return orjson.dumps([_row(event) for event in events])


def decode(data: bytes) -> list[Event]:
    """The events again. Raises ValueError for what `encode` did not make."""
    rows: list[list[Any]] = orjson.loads(data)
    try:
        return [_MAKE[letter](*values) for letter, *values in rows]
    except (KeyError, TypeError) as error:
        raise ValueError("these are not events") from error


def encode_usage(usage: TokenUsage) -> bytes:
    """Token counts as JSON."""
    return orjson.dumps(usage)


def decode_usage(data: bytes) -> TokenUsage:
    """The counts again."""
    return _usage(orjson.loads(data))


def encode_transcript(events: Iterable[Event]) -> bytes:
    """The events, compressed, for the database."""
    return zlib.compress(encode(events))


def decode_transcript(data: bytes) -> list[Event]:
    """The events again."""
    return decode(zlib.decompress(data))


def _row(event: Event) -> list[Any]:
    kind = type(event)
    if isinstance(event, TextDelta | ThinkingDelta):  # the usual one, and the quickest way
        return [_LETTERS[kind], event.sequence, event.text, event.offset, event.tokens]
    return [_LETTERS[kind], *(getattr(event, name) for name in _FIELDS[kind])]
