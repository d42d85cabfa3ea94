"""What happens around every request, as pure ASGI: for HTTP and WebSocket alike, and without a task of its own."""

import logging
import re
import time
from urllib.parse import quote
from uuid import uuid4

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

logger = logging.getLogger("ollagraph.access")

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")

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

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or connection."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        request_id = _given_id(scope) or uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        started = time.perf_counter()
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] in {"http.response.start", "websocket.http.response.start"}:
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = request_id
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
                if scope["path"] in GRAPHQL_PATHS:
                    headers["Cache-Control"] = "no-store"
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        finally:
            elapsed = (time.perf_counter() - started) * 1000
            kind = scope.get("method", "WEBSOCKET")
            path = quote(scope["path"])  # a line break in it would make two lines
            logger.info("%s %s %s %.1f ms %s", kind, path, status or "-", elapsed, request_id)


def _given_id(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
            return value.decode()
    return None
