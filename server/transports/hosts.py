"""The hosts by whose names the gateway may be called.

A page whose own name was made to lead to this address ("DNS rebinding", CWE-350) is no page of another site to the
browser, so the check of origins lets it pass. What gives it away is its name, in the `Host` header. And a proxy in
front may set that header, or `X-Forwarded-Host`: see server/transports/proxies.py.
"""

import logging
from collections.abc import Awaitable
from http import HTTPStatus

import orjson
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from auth.addresses import HostPatterns, NotAnAddress, parse_host, shown
from gateway.errors import TransportErrorCode

logger = logging.getLogger(__name__)

HEALTH_PATHS = frozenset({"/healthz", "/readyz"})
"""Load balancers and Kubernetes call these by address, or without any `Host`; they tell nothing that needs a name."""


class HostCheck:
    """Refuses what was sent to another host: 400 for a `Host` that is none, 421 for one that is not allowed.

    No coroutine of its own, as the other layers that only look: one would stand around every WebSocket.
    """

    def __init__(self, app: ASGIApp, allowed: HostPatterns) -> None:
        self._app = app
        self._allowed = allowed

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Serve, or refuse."""
        if scope["type"] not in {"http", "websocket"} or scope["path"] in HEALTH_PATHS:
            return self._app(scope, receive, send)
        given = Headers(scope=scope).getlist("host")
        try:
            (text,) = given
            host = parse_host(text)
        except (ValueError, NotAnAddress):
            refusal = _refusal(HTTPStatus.BAD_REQUEST, "The request must have one header Host, with a host in it.")
            return refusal(scope, receive, send)
        if self._allowed.match(host):
            return self._app(scope, receive, send)
        logger.warning("refused a request to the host %s; OLLAGRAPH_ALLOWED_HOSTS lists those allowed", shown(text))
        return _NOT_ALLOWED(scope, receive, send)


def _refusal(status: HTTPStatus, message: str) -> Response:
    code = TransportErrorCode.BAD_REQUEST if status is HTTPStatus.BAD_REQUEST else TransportErrorCode.FORBIDDEN
    body = {"errors": [{"message": message, "extensions": {"code": code}}]}
    return Response(orjson.dumps(body), status, media_type="application/json; charset=utf-8")


_NOT_ALLOWED = _refusal(
    HTTPStatus.MISDIRECTED_REQUEST,
    "This gateway does not answer under the host name of this request. To allow it, add it to OLLAGRAPH_ALLOWED_HOSTS.",
)
