"""A line of the log, as text for people or as JSON. Nothing that is logged can make two lines, or move a cursor."""

import logging
import re
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import orjson
from structlog.stdlib import ExtraAdder, ProcessorFormatter
from structlog.types import EventDict, WrappedLogger

from server.logs.requests import RequestLine

_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, what ends a line or turns its direction around, and halves of characters."""

_PLAIN = re.compile(r"[^\s\"=\\]+")
"""What needs no quotation marks as a value."""

_COLORS = {"debug": "\x1b[2m", "info": "\x1b[32m", "warning": "\x1b[33m", "error": "\x1b[31m", "critical": "\x1b[31m"}
_NO_COLOR = "\x1b[0m"

_NOT_FIELDS = {"request", "worker", "message", "asctime"}
"""What the handler adds to each record, which `_heading` tells in a place of its own; and what other formatters add."""

Renderer = Callable[[WrappedLogger, str, EventDict], str]


def formatter(*, json: bool, colors: bool = False) -> logging.Formatter:
    """Make what renders records of the standard library."""
    renderer: Renderer = _as_json if json else _ForPeople(colors)
    return ProcessorFormatter(
        foreign_pre_chain=[ExtraAdder(), _heading, _exception],
        processors=[ProcessorFormatter.remove_processors_meta, renderer],
    )


def _heading(_: WrappedLogger, level: str, event: EventDict) -> EventDict:
    """Put what each line begins with before what belongs to this one."""
    record: logging.LogRecord = event["_record"]
    request: RequestLine | None = event.get("request")
    heading: EventDict = {
        "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "level": level,
        **({} if event.get("worker") is None else {"worker": event["worker"]}),
        "logger": record.name,
    }
    heading |= {name: value for name, value in event.items() if name not in _NOT_FIELDS}
    if request is not None and request.request_id is not None:
        heading["request_id"] = request.request_id
        if request.trace_id is not None:
            heading["trace_id"] = request.trace_id
    return heading


def _exception(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    if info := event.pop("exc_info", None):
        event["exception"] = "".join(traceback.format_exception(*info)).rstrip()
    if stack := event.pop("stack_info", None):
        event["stack"] = stack
    return event


def _as_json(_: WrappedLogger, __: str, event: EventDict) -> str:
    try:
        text = orjson.dumps(event, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
    except orjson.JSONEncodeError:  # half of a character
        text = orjson.dumps({name: _escaped(str(value)) for name, value in event.items()}).decode()
    # Such a character stands in a string and nowhere else: within JSON it may be written so.
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


class _ForPeople:
    """Writes `time LEVEL logger: event name=value …`, and a traceback below it, indented."""

    def __init__(self, colors: bool) -> None:
        self._colors = colors

    def __call__(self, _: WrappedLogger, __: str, event: EventDict) -> str:
        """Give the text of an entry."""
        level, below = event.pop("level"), [event.pop(name, None) for name in ("stack", "exception")]
        name = level.upper()
        if self._colors:
            name = f"{_COLORS.get(level, '')}{name}{_NO_COLOR}"
        worker = event.pop("worker", None)
        who = "" if worker is None else f"worker {worker} "
        line = f"{event.pop('time')} {name} {who}{event.pop('logger')}: {_escaped(str(event.pop('event')))}"
        line += "".join(f" {_escaped(str(name))}={_value(value)}" for name, value in event.items())
        return "\n".join([line, *(_indented(text) for text in below if text)])


def _value(value: Any) -> str:
    text = str(value)
    if _PLAIN.fullmatch(text):
        return _escaped(text)
    return '"' + _escaped(text.replace("\\", "\\\\").replace('"', '\\"')) + '"'


def _escaped(text: str) -> str:
    return _UNSAFE.sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    character = found[0]
    return character.encode("unicode_escape", "surrogatepass").decode()


def _indented(text: str) -> str:
    """Give the lines of a traceback, each so that it cannot pass for an entry."""
    return "\n".join(f"    {_escaped(line)}" for line in text.split("\n"))
