"""Of which request a line of the log is, and the one line of each request."""

import logging
import re
import time
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, field

logger = logging.getLogger("ollagraph.access")

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")
"""https://www.w3.org/TR/trace-context/#traceparent-header; versions to come may add to it."""

Field = str | int | float


@dataclass(slots=True)
class RequestLine:
    """One request or operation, as its line tells of it when it has ended. `event` is what the line begins with."""

    event: str
    request_id: str | None = None
    trace_id: str | None = None
    traceparent: str | None = None
    tracestate: str | None = None
    fields: dict[str, Field] = field(default_factory=dict[str, Field])


NO_REQUEST = RequestLine("")
"""For what the gateway does by itself."""

current: ContextVar[RequestLine] = ContextVar("request_line", default=NO_REQUEST)
"""The request that is being served. What a request starts, as a generation, stays in its context."""


RequestEnded = Callable[[RequestLine, float], None]
"""Is told of each request that has ended, and how many seconds it took."""


@dataclass(frozen=True, slots=True)
class RequestObserver:
    """Whoever wants to know of requests: `ended` is told of all, `around` is entered for each GraphQL operation."""

    ended: RequestEnded | None = None
    around: Callable[[RequestLine], AbstractContextManager[None]] | None = None


UNOBSERVED = RequestObserver()


@contextmanager
def request_line(
    line: RequestLine, observer: RequestObserver = UNOBSERVED, *, is_operation: bool = True
) -> Generator[RequestLine]:
    """Have all that is logged within the block name this request, and write its one line at the end of the block."""
    token = current.set(line)
    started = time.perf_counter()
    around = observer.around if is_operation else None
    try:
        with nullcontext() if around is None else around(line):
            yield line
    finally:
        seconds = time.perf_counter() - started
        logger.info(line.event, extra={**line.fields, "ms": round(seconds * 1000, 1)})
        current.reset(token)
        if observer.ended is not None:
            observer.ended(line, seconds)


def note(**fields: Field | None) -> None:
    """Add to the line of the request that is being served; nothing outside of one. None stands for nothing."""
    line = current.get()
    if line is not NO_REQUEST:
        line.fields |= {name: value for name, value in fields.items() if value is not None}


def trace_id_of(traceparent: str | None) -> str | None:
    """Give the id of the trace that a header `traceparent` names; None where it names none."""
    found = _TRACEPARENT.fullmatch(traceparent or "")
    if found is None or found[1] == "0" * 32 or (traceparent or "").startswith("ff"):
        return None
    return found[1]
