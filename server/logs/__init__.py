"""The log: what it looks like, where it goes, and of which request each line is.

The code logs with the standard library; structlog renders what it logged. What it logs may name models, users and
paths, and never holds prompts, answers, passwords, tokens or keys.
"""

from server.logs.lines import formatter
from server.logs.output import Log, configure
from server.logs.requests import NO_REQUEST, UNOBSERVED, RequestLine, RequestObserver, note, request_line, trace_id_of

__all__ = [
    "NO_REQUEST",
    "UNOBSERVED",
    "Log",
    "RequestLine",
    "RequestObserver",
    "configure",
    "formatter",
    "note",
    "request_line",
    "trace_id_of",
]
