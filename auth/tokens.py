"""Session tokens: JWTs (RFC 7519) that only this gateway can make, following RFC 8725 and the typing of RFC 9068.

A token says who it is and until when, not what they may do: that is looked up at each use, so a permission taken
away is gone at once.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from uuid import UUID, uuid4

import jwt

from auth.errors import ExpiredToken, InvalidToken

MIN_SECRET_BYTES = 32
"""A key for HS256 must have at least as many bits as its output (RFC 7518 §3.2)."""

CLOCK_SKEW = timedelta(seconds=30)
"""How far another replica's clock may be ahead of ours."""

_ALGORITHM = "HS256"
_TYPE = "at+jwt"
_CLAIMS = ["iss", "aud", "sub", "exp", "iat", "jti"]


class WeakSecretError(ValueError):
    """The secret is too short to sign with. The message does not hold it."""


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A new token, and the moment from which it holds no longer."""

    token: str = field(repr=False)
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class TokenClaims:
    """What a valid token says. `jti` is unique among all tokens; the times are in UTC.

    `session_id` is the claim `sid`: the session that the token belongs to; None for a token that belongs to none.
    """

    user_id: UUID
    jti: str
    issued_at: datetime
    expires_at: datetime
    session_id: UUID | None = None


class TokenSigner:
    """Issues tokens and verifies them.

    `issuer` and `audience` are compared as they are; tokens made with others are refused, though the secret be the
    same. Raises WeakSecretError for a secret of less than 32 bytes.
    """

    def __init__(self, secret: str, *, issuer: str, audience: str, lifetime: timedelta) -> None:
        self._secret = secret.encode()
        if len(self._secret) < MIN_SECRET_BYTES:
            raise WeakSecretError(
                f"The secret for session tokens has {len(self._secret)} bytes; it needs {MIN_SECRET_BYTES} or more. "
                'Make one with: python -c "import secrets; print(secrets.token_urlsafe(32))"'
            )
        self._issuer = issuer
        self._audience = audience
        self._lifetime = lifetime

    def issue(self, user_id: UUID, session_id: UUID | None = None, *, now: datetime | None = None) -> IssuedToken:
        """Make a token for a user, as part of a session if one is given.

        `now` has a zone; a token counts in whole seconds.
        """
        issued_at = (now or datetime.now(UTC)).replace(microsecond=0)
        expires_at = issued_at + self._lifetime
        claims = {
            "iss": self._issuer,
            "aud": self._audience,
            "sub": str(user_id),
            "iat": issued_at,
            "exp": expires_at,
            "jti": str(uuid4()),
        }
        if session_id is not None:
            claims["sid"] = str(session_id)
        # PyJWT's types name cryptography's key classes, which are not installed and not needed for HS256.
        token = jwt.encode(  # pyright: ignore[reportUnknownMemberType]
            claims,
            self._secret,
            algorithm=_ALGORITHM,
            headers={"typ": _TYPE},
        )
        return IssuedToken(token=token, expires_at=expires_at)

    def verify(self, token: str, *, now: datetime | None = None) -> TokenClaims:
        """Give what a token says. Raises ExpiredToken, and InvalidToken for everything else that is wrong with it."""
        now = now or datetime.now(UTC)
        claims = self._read(token)
        try:
            found = TokenClaims(
                user_id=UUID(claims["sub"]),
                jti=claims["jti"],
                issued_at=_moment(claims["iat"]),
                expires_at=_moment(claims["exp"]),
                session_id=UUID(claims["sid"]) if "sid" in claims else None,
            )
        except (ValueError, TypeError, AttributeError, OverflowError, OSError):  # UUID asks a text of what it is given
            raise InvalidToken from None
        if found.issued_at > now + CLOCK_SKEW:
            raise InvalidToken
        if now >= found.expires_at:
            raise ExpiredToken
        return found

    def _read(self, token: str) -> dict[str, Any]:
        """Check the signature, the type, and whom the token is from and for. The times are checked by the caller."""
        try:
            decoded = jwt.decode_complete(  # pyright: ignore[reportUnknownMemberType] - as above
                token,
                self._secret,
                algorithms=[_ALGORITHM],
                issuer=self._issuer,
                audience=self._audience,
                options={"require": _CLAIMS, "strict_aud": True, "verify_exp": False, "verify_iat": False},
            )
        except (jwt.PyJWTError, ValueError):  # ValueError: half a surrogate pair has no bytes to be signed
            raise InvalidToken from None
        if decoded["header"].get("typ") != _TYPE:
            raise InvalidToken
        return cast("dict[str, Any]", decoded["payload"])


def _moment(seconds: object) -> datetime:
    """Read a NumericDate (RFC 7519 §2). Raises ValueError, TypeError, OverflowError or OSError for what is none."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise TypeError("not a number")
    return datetime.fromtimestamp(seconds, UTC)
