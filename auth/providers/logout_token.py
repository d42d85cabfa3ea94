"""Logout tokens: a provider tells that somebody has signed out there (OpenID Connect Back-Channel Logout 1.0 §2.6)."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import cast

from auth.providers.errors import untrusted
from auth.providers.http import Json
from auth.providers.id_token import LEEWAY_SECONDS, signed_claims
from auth.providers.issuer import Issuer

EVENT = "http://schemas.openid.net/event/backchannel-logout"


@dataclass(frozen=True, slots=True)
class LogoutClaims:
    """Whose sessions ended: `sub`, `sid` or both; and until which moment they may have begun."""

    sub: str | None
    sid: str | None
    at: datetime


async def verified_logout(token: str, issuer: Issuer, *, client_id: str, algorithms: tuple[str, ...]) -> LogoutClaims:
    """Give what a logout token says. Raises SignInRefused, and ProviderUnavailable if the keys cannot be had.

    An ID token is none: it has a nonce, and not the event. A token that comes twice needs no memory, for it speaks of
    sessions that began before it alone.
    """
    claims, _ = await signed_claims(token, issuer, client_id=client_id, algorithms=algorithms, needed=("events", "jti"))
    events = claims["events"]
    if not isinstance(events, dict) or not isinstance(cast("Json", events).get(EVENT), dict):
        raise untrusted("the token is no logout token: it lacks the event")
    if "nonce" in claims:
        raise untrusted("the token is no logout token: it has a nonce")
    sub, sid = claims.get("sub"), claims.get("sid")
    if not _text_or_none(sub) or not _text_or_none(sid) or (sub is None and sid is None):
        raise untrusted("the logout token names neither a subject nor a session")
    issued = float(cast("float", claims["iat"])) + LEEWAY_SECONDS
    return LogoutClaims(cast("str | None", sub), cast("str | None", sid), datetime.fromtimestamp(issued, UTC))


def _text_or_none(value: object) -> bool:
    return value is None or (isinstance(value, str) and value != "")
