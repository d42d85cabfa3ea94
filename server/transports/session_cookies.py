"""The cookies on the wire: which names and which attributes they have, and whose pages may use them.

    https    __Host-ollagraph_session   Secure; HttpOnly; SameSite=Strict; Path=/
             __Host-ollagraph_sign_in   Secure; HttpOnly; SameSite=Lax; Path=/      for a browser at a provider
    http     ollagraph_session          HttpOnly; SameSite=Strict; Path=/           for development on one machine
             ollagraph_sign_in          HttpOnly; SameSite=Lax; Path=/

With `__Host-` the browser itself sees to it that no other host, not even a subdomain, can have set it
(https://httpwg.org/http-extensions/draft-ietf-httpbis-rfc6265bis.html, section 4.1.3.2). Over https the other name is
not read.

Nothing but `login`, `refreshSession`, `logout` and `linkProvider` uses them, all of them by POST of JSON, for which a
browser asks first; they look at the sender's origin, too, whatever OLLAGRAPH_CHECK_ORIGIN says. The second cookie is
also read where a provider sends the browser back, from another site: so it is `Lax`. It signs nobody in.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from starlette.datastructures import MutableHeaders
from starlette.requests import Request

from db.clock import now
from gateway.identity import PENDING_TIME
from schema.session_cookie import SessionCookie, SignInCookie
from server.transports.middleware import path_prefix
from server.transports.origins import Origins

_SECURE_NAME = "__Host-ollagraph_session"
_PLAIN_NAME = "ollagraph_session"
_SECURE_SIGN_IN_NAME = "__Host-ollagraph_sign_in"
_PLAIN_SIGN_IN_NAME = "ollagraph_sign_in"


@dataclass(frozen=True, slots=True)
class SessionCookies:
    """Reads and writes the cookies. `origins` are those whose pages may use them, beside the gateway's own.

    `public_url` is the address under which browsers reach the gateway, where that is not the one of the request.
    """

    origins: Origins
    public_url: str | None = None

    @classmethod
    def of(cls, cors_origins: Sequence[str], *, credentials: bool, public_url: str | None = None) -> "SessionCookies":
        """Let pages of the named origins use the cookies, where they may send credentials."""
        return cls(Origins(cors_origins if credentials else []), public_url)

    def read(self, request: Request) -> SessionCookie:
        """Give the session cookie of a request."""
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

    def read_sign_in(self, request: Request) -> SignInCookie:
        """Give the cookie of a browser that is away. The host of the request was checked before."""
        here = f"{request.scope['scheme']}://{request.headers['host']}{path_prefix(request.scope)}"
        return SignInCookie(self.public_url or here, request.cookies.get(_sign_in_name(request)))

    def write_sign_in(self, request: Request, cookie: SignInCookie, headers: MutableHeaders) -> None:
        """Add to the head of an answer what was done to that cookie; an empty secret removes it."""
        if cookie.kept is None:
            return
        seconds = int(PENDING_TIME.total_seconds()) if cookie.kept else 0
        secure = "; Secure" if _is_secure(request) else ""
        headers.append(
            "set-cookie",
            f"{_sign_in_name(request)}={cookie.kept}; Max-Age={seconds}; Path=/; HttpOnly{secure}; SameSite=Lax",
        )


def _is_secure(request: Request) -> bool:
    return request.scope["scheme"] == "https"


def _name(request: Request) -> str:
    return _SECURE_NAME if _is_secure(request) else _PLAIN_NAME


def _sign_in_name(request: Request) -> str:
    return _SECURE_SIGN_IN_NAME if _is_secure(request) else _PLAIN_SIGN_IN_NAME
