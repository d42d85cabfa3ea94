"""The cookies of a browser, as a resolver sees them: the one that keeps its refresh token, and the one by which it is
known again when it comes back from an identity provider."""

from dataclasses import dataclass, field
from datetime import datetime

from auth.tokens import IssuedToken
from gateway.errors import Forbidden


@dataclass(slots=True)
class SessionCookie:
    """The cookie of one request, and what its answer does to it.

    `is_foreign` tells that a page of a site that may not use the cookie sent the request: it would act as the one who
    is signed in (CSRF), or sign them in as somebody else.
    """

    sent: str | None = field(repr=False)
    is_foreign: bool
    kept: IssuedToken | None = field(default=None, repr=False)
    is_cleared: bool = False

    def check(self) -> None:
        """Raise Forbidden where the cookie may not be used."""
        if self.is_foreign:
            raise Forbidden(
                "A page of another site must not use the session cookie. Keep the refresh token in the page there, or "
                "name the site in OLLAGRAPH_CORS_ORIGINS and set OLLAGRAPH_CORS_CREDENTIALS."
            )

    def keep(self, token: IssuedToken) -> None:
        """Let the answer put a new token into the browser, until that expires."""
        self.kept, self.is_cleared = token, False

    def clear(self) -> None:
        """Let the answer take the token from the browser, where it may be touched and there is one."""
        if self.sent is not None and not self.is_foreign:
            self.kept, self.is_cleared = None, True

    def max_age(self, at: datetime) -> int:
        """Give for how many seconds from `at` the browser is to keep the token."""
        return 0 if self.kept is None else max(0, int((self.kept.expires_at - at).total_seconds()))


@dataclass(slots=True)
class SignInCookie:
    """The cookie of a browser that is away at an identity provider, and what the answer does to it.

    `origin` is where the browser reaches the gateway, with the path prefix if there is one, and where providers send it
    back to.
    """

    origin: str
    sent: str | None = field(repr=False)
    kept: str | None = field(default=None, repr=False)

    def keep(self, secret: str) -> None:
        """Let the answer put the secret into the browser."""
        self.kept = secret
