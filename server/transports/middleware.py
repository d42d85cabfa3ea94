"""What happens around every request, as pure ASGI: for HTTP and WebSocket alike, and without a task of its own."""

import re
from http import HTTPStatus
from urllib.parse import quote
from uuid import uuid4

from starlette.datastructures import MutableHeaders
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.logs import UNOBSERVED, RequestLine, RequestObserver, request_line, trace_id_of

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

GRAPHQL_PATHS = frozenset({"/graphql", "/graphql/"})
"""The one endpoint, however its address is written."""

BLOBS_PATH = "/blobs"
"""Where files come in; what is below it is one file."""

_PREFIX = "path_prefix"

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


class PathPrefix:
    """Serves the gateway below a path, whether the proxy in front leaves that path in the request or takes it off.

    Inside, every path is as it is without a prefix. Where an answer sends a browser to a path, the prefix is added;
    what else names an address asks `path_prefix`.
    """

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        self._app = app
        self._prefix = prefix
        self._raw = prefix.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or connection."""
        if scope["type"] not in {"http", "websocket"}:
            return await self._app(scope, receive, send)
        scope.setdefault("state", {})[_PREFIX] = self._prefix
        path: str = scope["path"]
        if path == self._prefix and scope["type"] == "http":  # the page's own addresses are relative to its folder
            return await RedirectResponse(f"{self._prefix}/", HTTPStatus.PERMANENT_REDIRECT)(scope, receive, send)
        if path.startswith(f"{self._prefix}/"):
            scope["path"] = path.removeprefix(self._prefix)
            scope["raw_path"] = scope.get("raw_path", b"").removeprefix(self._raw)

        async def send_with_prefix(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                location = headers.get("location", "")
                if location.startswith("/") and not location.startswith(f"{self._prefix}/"):
                    headers["location"] = f"{self._prefix}{location}"
            await send(message)

        return await self._app(scope, receive, send_with_prefix)


def path_prefix(scope: Scope) -> str:
    """Give the path below which the gateway is reached; nothing where it is at the root."""
    return scope.get("state", {}).get(_PREFIX, "")


def _given_id(scope: Scope) -> str | None:
    given = _header(scope, b"x-request-id")
    return given if given is not None and _REQUEST_ID.fullmatch(given) else None


def _header(scope: Scope, wanted: bytes) -> str | None:
    """Give a header as text. Whoever sends one twice means nothing by it."""
    found = [value for name, value in scope["headers"] if name == wanted]
    return found[0].decode("latin-1") if len(found) == 1 else None
