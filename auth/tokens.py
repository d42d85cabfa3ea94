"""Access tokens: JWTs (RFC 7519) that only this gateway can make, following RFC 8725 and the typing of RFC 9068.

A token says who it is and until when, not what they may do: that is looked up at each use, so a permission taken
away is gone at once.
"""

import base64
import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from uuid import UUID, uuid4

import jwt

from auth.errors import ExpiredToken, InvalidToken
from auth.signing_keys import TokenKey, TokenKeys

CLOCK_SKEW = timedelta(seconds=30)
"""How far another replica's clock may be ahead of ours."""

MAX_TOKEN_LENGTH = 4096
"""Characters. Ours have a few hundred, and up to 1,800 with the largest RSA key."""

_TYPE = "at+jwt"
_CLAIMS = ["iss", "aud", "sub", "exp", "iat", "jti"]

_HEADER = frozenset({"alg", "typ", "kid"})
"""What our headers hold. Others name keys to be fetched (`jku`, `x5u`), bring one along (`jwk`, `x5c`), or ask for what
we do not do (`crit`): a token that has any of them is not ours."""

_FORM = re.compile(r"([A-Za-z0-9_-]+)\.[A-Za-z0-9_-]+\.([A-Za-z0-9_-]+)")


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
    """Issues tokens and verifies them, with whatever keys `keys` holds at that moment.

    `issuer` and `audience` are compared as they are; tokens made with others are refused, though the key be the same.
    """

    def __init__(self, keys: TokenKeys, *, issuer: str, audience: str, lifetime: timedelta) -> None:
        self._keys = keys
        self._issuer = issuer
        self._audience = audience
        self._lifetime = lifetime

    def issue(self, user_id: UUID, session_id: UUID | None = None, *, now: datetime | None = None) -> IssuedToken:
        """Make a token for a user, as part of a session if one is given.

        `now` has a zone; a token counts in whole seconds.
        """
        now = now or datetime.now(UTC)
        issued_at = now.replace(microsecond=0)
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
        key = self._keys.for_signing(now)
        if key.signing is None:
            raise LookupError("a key without its private half cannot sign")
        header = {"typ": _TYPE} if key.kid is None else {"typ": _TYPE, "kid": key.kid}
        token = jwt.encode(claims, key.signing, algorithm=key.algorithm, headers=header)
        return IssuedToken(token=token, expires_at=expires_at)

    def verify(self, token: str, *, now: datetime | None = None) -> TokenClaims:
        """Give what a token says. Raises ExpiredToken, and InvalidToken for everything else that is wrong with it."""
        now = now or datetime.now(UTC)
        claims = self._read(token, now)
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

    def _read(self, token: str, now: datetime) -> dict[str, Any]:
        """Check the signature, the type, and whom the token is from and for. The times are checked by the caller."""
        key = self._key_of(token)
        former = self._keys.former(now) if key.kid is None else None
        try:
            return self._decoded(token, key)
        except jwt.InvalidSignatureError:
            if former is None:
                raise InvalidToken from None
        except (jwt.PyJWTError, ValueError):
            raise InvalidToken from None
        try:
            return self._decoded(token, former)
        except (jwt.PyJWTError, ValueError):
            raise InvalidToken from None

    def _decoded(self, token: str, key: TokenKey) -> dict[str, Any]:
        return jwt.decode(
            token,
            key.verifying,
            algorithms=[key.algorithm],
            issuer=self._issuer,
            audience=self._audience,
            options={"require": _CLAIMS, "strict_aud": True, "verify_exp": False, "verify_iat": False},
        )

    def _key_of(self, token: str) -> TokenKey:
        """Find the key that the token must be signed with: by its `kid`, and without one the secret.

        The signature must be in the one form that we write, for base64 decoders take several for the same.
        """
        form = _FORM.fullmatch(token) if len(token) <= MAX_TOKEN_LENGTH else None
        if form is None or not _is_canonical(form[2]):
            raise InvalidToken
        header = _header(form[1])
        kid = header.get("kid")
        if header.get("typ") != _TYPE or not header.keys() <= _HEADER or ("kid" in header and not isinstance(kid, str)):
            raise InvalidToken
        key = self._keys.for_verifying(kid)
        if key is None or header.get("alg") != key.algorithm:
            raise InvalidToken
        return key


def _header(part: str) -> dict[str, Any]:
    """Read the header of a token that nobody has verified yet. Raises InvalidToken."""
    try:
        header = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (ValueError, RecursionError):  # the latter for a thousand brackets, which whoever has no key may send
        raise InvalidToken from None
    if not isinstance(header, dict):
        raise InvalidToken
    return cast("dict[str, Any]", header)


def _is_canonical(part: str) -> bool:
    """Tell whether base64url without padding is written in its one form: no other letters, no loose bits at the end."""
    try:
        data = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except ValueError:
        return False
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode() == part


def _moment(seconds: object) -> datetime:
    """Read a NumericDate (RFC 7519 §2). Raises ValueError, TypeError, OverflowError or OSError for what is none."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise TypeError("not a number")
    return datetime.fromtimestamp(seconds, UTC)
