"""What pages of other sites may do in the browser of one of our users.

A page may send what it likes to any host; CORS only keeps it from reading the answer, and not even that on a WebSocket.
Requests that need a preflight are safe, for the browser asks first and CORS answers. What is left is checked here by
what the browser says of the page, in headers that no page can set: `Origin` (RFC 6454, section 7) and `Sec-Fetch-Site`
(https://www.w3.org/TR/fetch-metadata/). Clients that are no browsers send neither.
"""

import logging
from collections.abc import Awaitable, Iterable
from http import HTTPStatus

import orjson
from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from auth.addresses import NotAnAddress, parse_host, parse_origin, shown
from gateway.errors import TransportErrorCode
from server.transports.middleware import BLOBS_PATH, GRAPHQL_PATHS

logger = logging.getLogger(__name__)

PREFLIGHT_HEADERS = frozenset(
    {
        "apollo-require-preflight",
        "authorization",
        "graphql-preflight",
        "graphql-require-preflight",
        "traceparent",
        "x-api-key",
        "x-apollo-operation-name",
        "x-requested-with",
    }
)
"""A browser sends these across sites only after a preflight."""


class Origins:
    """The origins, such as `https://a.example`, whose pages may call the API beside those of its own host."""

    def __init__(self, allowed: Iterable[str]) -> None:
        self._allowed = frozenset(allowed)

    def are_foreign(self, scope: Scope, headers: Headers) -> bool:
        """Tell whether a page of another site made this request, and that site is not allowed."""
        given = headers.get("origin")
        if given is None:
            return headers.get("sec-fetch-site", "none") not in {"none", "same-origin"}
        if "*" in self._allowed:
            return False
        try:
            origin = parse_origin(given)
            if str(origin) in self._allowed:
                return False
            own = origin.is_of(parse_host(headers.get("host", "")))
        except NotAnAddress:  # such as `null`, which stands for every page that must not tell where it is from
            return True
        # The scheme is lost at a proxy that ends TLS and is not named in the settings; where it is told, it counts.
        return not own or (scope["scheme"] in {"https", "wss"} and origin.scheme != "https")


class OriginCheck:
    """Refuses WebSockets, and requests that came without a preflight, of pages that may not call the API: 403."""

    def __init__(self, app: ASGIApp, origins: Origins) -> None:
        self._app = app
        self._origins = origins

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Serve, or refuse."""
        path: str = scope.get("path", "")
        of_blobs = path == BLOBS_PATH or path.startswith(f"{BLOBS_PATH}/")
        if scope["type"] not in {"http", "websocket"} or not (of_blobs or path in GRAPHQL_PATHS):
            return self._app(scope, receive, send)
        headers = Headers(scope=scope)
        if not self._origins.are_foreign(scope, headers):
            return self._app(scope, receive, send)
        # A POST to /graphql is JSON, for which browsers ask first; a file may be what a plain form can send.
        needs_header = of_blobs or scope.get("method") == "GET"
        if scope["type"] == "http" and not (needs_header and PREFLIGHT_HEADERS.isdisjoint(headers)):
            return self._app(scope, receive, send)
        logger.warning(
            "refused a page of another site: its origin is %s, the host %s://%s; OLLAGRAPH_CORS_ORIGINS lists the "
            "sites that may call, and behind a proxy OLLAGRAPH_TRUSTED_PROXIES whose word on the host is taken",
            shown(headers.get("origin")),
            scope["scheme"],
            shown(headers.get("host")),
        )
        return _REFUSAL(scope, receive, send)


class CrossOriginAnswers(CORSMiddleware):
    """CORS for origins that are written in any form."""

    def is_allowed_origin(self, origin: str) -> bool:
        """Tell whether pages of this origin may read the answers."""
        try:
            return super().is_allowed_origin(str(parse_origin(origin)))
        except NotAnAddress:
            return super().is_allowed_origin(origin)


_REFUSAL = Response(
    orjson.dumps(
        {
            "errors": [
                {
                    "message": "A page of another site sent this without a preflight. Send the header "
                    "GraphQL-Require-Preflight with it, and name the site in OLLAGRAPH_CORS_ORIGINS.",
                    "extensions": {"code": TransportErrorCode.FORBIDDEN},
                }
            ]
        }
    ),
    HTTPStatus.FORBIDDEN,
    media_type="application/json; charset=utf-8",
)
