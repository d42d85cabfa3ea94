"""What pages of other sites may do in the browser of one of our users.

A page may send what it likes to any host; CORS only keeps it from reading the answer, and not even that on a WebSocket.
Requests that need a preflight are safe, for the browser asks first and CORS answers. What is left is checked here by
what the browser says of the page, in headers that no page can set: `Origin` (RFC 6454, section 7) and `Sec-Fetch-Site`
(https://www.w3.org/TR/fetch-metadata/). Clients that are no browsers send neither.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import urlsplit

import orjson
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.errors import ErrorCode

PATH = "/graphql"

PREFLIGHT_HEADERS = frozenset(
    {"authorization", "x-api-key", "apollo-require-preflight", "graphql-require-preflight", "x-apollo-operation-name"}
)
"""A browser sends these across sites only after a preflight."""


@dataclass(frozen=True, slots=True)
class Origins:
    """The origins, such as `https://a.example`, whose pages may call the API beside those of its own host."""

    allowed: frozenset[str]

    def are_foreign(self, headers: Mapping[str, str]) -> bool:
        """Whether a page of another site made this request, and that site is not allowed."""
        origin = headers.get("origin")
        if origin is None:
            return headers.get("sec-fetch-site", "none") not in {"none", "same-origin"}
        own = urlsplit(origin).netloc == headers.get("host")  # the scheme may be lost at a proxy that ends TLS
        return not (own or origin in self.allowed or "*" in self.allowed)


class OriginCheck:
    """Refuses WebSockets, and requests that came without a preflight, of pages that may not call the API: 403."""

    def __init__(self, app: ASGIApp, origins: Origins) -> None:
        self._app = app
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve, or refuse."""
        if scope["type"] not in {"http", "websocket"} or scope["path"] != PATH:
            return await self._app(scope, receive, send)
        headers = Headers(scope=scope)
        if not self._origins.are_foreign(headers):
            return await self._app(scope, receive, send)
        if scope["type"] == "websocket":
            return await send({"type": "websocket.close"})  # before it was accepted: the handshake ends with 403
        if scope["method"] != "GET" or not PREFLIGHT_HEADERS.isdisjoint(headers):
            return await self._app(scope, receive, send)
        return await _REFUSAL(scope, receive, send)


_REFUSAL = Response(
    orjson.dumps(
        {
            "errors": [
                {
                    "message": "A page of another site sent this without a preflight. Send the header "
                    "GraphQL-Require-Preflight with it, and name the site in OLLAGRAPH_CORS_ORIGINS.",
                    "extensions": {"code": ErrorCode.FORBIDDEN},
                }
            ]
        }
    ),
    HTTPStatus.FORBIDDEN,
    media_type="application/json; charset=utf-8",
)
