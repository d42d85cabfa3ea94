"""What happens around every request, as pure ASGI: for HTTP and WebSocket alike, and without a task of its own."""

import re
from urllib.parse import quote
from uuid import uuid4

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.logs import UNOBSERVED, RequestLine, RequestObserver, request_line, trace_id_of

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

GRAPHQL_PATHS = frozenset({"/graphql", "/graphql/"})
"""The one endpoint, however its address is written."""

BLOBS_PATH = "/blobs"
"""Where files come in; what is below it is one file."""

SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
}


class RequestContext:
    """Gives each request an id (the client's `X-Request-ID` where it is harmless), and writes the access log."""

    def __init__(self, app: ASGIApp, observer: RequestObserver = UNOBSERVED) -> None:
        self._app = app
        self._observer = observer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or connection."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        request_id = _given_id(scope) or uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        kind = scope.get("method", "WEBSOCKET")
        trace, state = _header(scope, b"traceparent"), _header(scope, b"tracestate")
        line = RequestLine(f"{kind} {quote(scope['path'])}", request_id, trace_id_of(trace), trace, state)
        is_operation = scope["type"] == "http" and scope["path"] in GRAPHQL_PATHS

        async def send_with_headers(message: Message) -> None:
            if message["type"] in {"http.response.start", "websocket.http.response.start"}:
                line.fields["status"] = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = request_id
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
                if scope["path"] in GRAPHQL_PATHS:
                    headers["Cache-Control"] = "no-store"
            await send(message)

        with request_line(line, self._observer, is_operation=is_operation):
            await self._app(scope, receive, send_with_headers)


def _given_id(scope: Scope) -> str | None:
    given = _header(scope, b"x-request-id")
    return given if given is not None and _REQUEST_ID.fullmatch(given) else None


def _header(scope: Scope, wanted: bytes) -> str | None:
    """Give a header as text. Whoever sends one twice means nothing by it."""
    found = [value for name, value in scope["headers"] if name == wanted]
    return found[0].decode("latin-1") if len(found) == 1 else None
