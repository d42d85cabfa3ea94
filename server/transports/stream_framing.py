"""How the responses of one operation follow each other in the body of one HTTP response.

Two protocols carry the same responses: server-sent events, as the distinct connections mode of GraphQL over SSE
(https://github.com/enisdenjo/graphql-sse/blob/master/PROTOCOL.md), and multipart, as Apollo's clients want it
(https://www.apollographql.com/docs/graphos/routing/operations/subscriptions/multipart-protocol).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

EVENT_STREAM = "text/event-stream"
MULTIPART = "multipart/mixed;subscriptionspec=1.0"

_Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Framing:
    """One protocol: pure functions from responses to bytes.

    `next` gets a response and, of an event, its sequence number. `opening` makes proxies and clients see at once that
    the stream stands, `heartbeat` that it still does. `failure` tells errors of the connection itself, as of
    credentials that hold no longer; `end` is the last word.
    """

    content_type: str
    opening: bytes
    heartbeat: bytes
    end: bytes
    next: Callable[[_Json, int | None], bytes]
    failure: Callable[[Sequence[_Json]], bytes]


def _event(response: _Json, sequence: int | None = None) -> bytes:
    """Write an event, with its number as the id that a client sends back as `Last-Event-ID`.

    Lines end with LF alone, which all clients read; JSON by orjson holds neither LF nor CR.
    """
    number = b"" if sequence is None else b"\nid: %d" % sequence
    return b"event: next" + number + b"\ndata: " + orjson.dumps(response) + b"\n\n"


def _part(payload: _Json) -> bytes:
    """Give a part with the delimiter behind it: only then does a client know that the part is whole."""
    return b"content-type: application/json\r\n\r\n" + orjson.dumps(payload) + b"\r\n--graphql\r\n"


FRAMINGS = {
    EVENT_STREAM: Framing(
        content_type=f"{EVENT_STREAM}; charset=utf-8",
        opening=b":\n",  # with an empty line behind it Spring's client takes it for an event, and ends
        heartbeat=b":\n",
        end=b"event: complete\ndata: {}\n\n",  # without data Spring, EventSource and others see no event at all
        next=_event,
        failure=lambda errors: _event({"errors": errors}),
    ),
    MULTIPART: Framing(
        content_type='multipart/mixed;boundary="graphql";subscriptionSpec=1.0',
        opening=b"\r\n--graphql\r\n",
        heartbeat=_part({}),
        end=b'content-type: application/json\r\n\r\n{"payload":null}\r\n--graphql--\r\n',
        next=lambda response, _: _part({"payload": response}),
        failure=lambda errors: _part({"payload": None, "errors": errors}),
    ),
}
"""By the name under which a client asks for it."""
