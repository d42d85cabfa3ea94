"""The session cookie on the wire: which name and which attributes it has, and whose pages may use it.

    https    __Host-ollagraph_session   Secure; HttpOnly; SameSite=Strict; Path=/
    http     ollagraph_session          HttpOnly; SameSite=Strict; Path=/        for development on one machine

With `__Host-` the browser itself sees to it that no other host, not even a subdomain, can have set it
(https://httpwg.org/http-extensions/draft-ietf-httpbis-rfc6265bis.html, section 4.1.3.2). Over https the other name is
not read.

Nothing but `login`, `refreshSession` and `logout` uses the cookie, all of them by POST of JSON, for which a browser
asks first. They look at the sender's origin, too, whatever OLLAGRAPH_CHECK_ORIGIN says.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from starlette.datastructures import MutableHeaders
from starlette.requests import Request

from db.clock import now
from schema.session_cookie import SessionCookie
from server.transports.origins import Origins

_SECURE_NAME = "__Host-ollagraph_session"
_PLAIN_NAME = "ollagraph_session"


@dataclass(frozen=True, slots=True)
class SessionCookies:
    """Reads and writes the cookie. `origins` are those whose pages may use it, beside the gateway's own."""

    origins: Origins

    @classmethod
    def of(cls, cors_origins: Sequence[str], *, credentials: bool) -> "SessionCookies":
        """Let pages of the named origins use the cookie, where they may send credentials."""
        return cls(Origins(cors_origins if credentials else []))

    def read(self, request: Request) -> SessionCookie:
        """Give the cookie of a request."""
        sent = request.cookies.get(_name(request))
        return SessionCookie(sent, self.origins.are_foreign(request.scope, request.headers))

    def write(self, request: Request, cookie: SessionCookie, headers: MutableHeaders) -> None:
        """Add to the head of an answer what the operation did to the cookie."""
        if cookie.kept is None and not cookie.is_cleared:
            return
        value = "" if cookie.kept is None else cookie.kept.token
        secure = "; Secure" if _is_secure(request) else ""
        headers.append(
            "set-cookie",
            f"{_name(request)}={value}; Max-Age={cookie.max_age(now())}; Path=/; HttpOnly{secure}; SameSite=Strict",
        )


def _is_secure(request: Request) -> bool:
    return request.scope["scheme"] == "https"


def _name(request: Request) -> str:
    return _SECURE_NAME if _is_secure(request) else _PLAIN_NAME
