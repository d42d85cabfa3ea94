"""What OAuth 2.0 providers have in common: the way out, the way back, and the code's exchange (RFC 9700)."""

import hmac
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from hashlib import sha256
from typing import cast
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from auth.providers.errors import RefusalReason, SignInRefused, untrusted
from auth.providers.http import Json
from auth.providers.protocol import PendingSignIn, Started

MAX_PARAMETER = 8192
"""Characters of what a browser brings back; no provider's code is near it."""

_REASONS = {
    "access_denied": (RefusalReason.CANCELLED, "The sign-in was cancelled at the identity provider."),
    "login_required": (RefusalReason.EXPIRED, "The identity provider wants you to sign in there again."),
    "temporarily_unavailable": (RefusalReason.EXPIRED, "The identity provider is busy. Sign in again in a moment."),
}


def begin(
    provider: str, endpoint: str, *, client_id: str, redirect_uri: str, scopes: tuple[str, ...], openid: bool
) -> Started:
    """Give the URL that starts the authorization code flow with PKCE (S256), and what has to be kept.

    What stands in the query of the endpoint stays there. A nonce goes along with OpenID Connect only.
    """
    pending = PendingSignIn(
        provider=provider,
        redirect_uri=redirect_uri,
        state=secrets.token_urlsafe(32),
        nonce=secrets.token_urlsafe(32),
        code_verifier=secrets.token_urlsafe(48),
    )
    query = {
        "response_type": "code",
        "client_id": client_id,
        "redirect_uri": redirect_uri,
        "scope": " ".join(scopes),
        "state": pending.state,
        "code_challenge": challenge(pending.code_verifier),
        "code_challenge_method": "S256",
        **({"nonce": pending.nonce} if openid else {}),
    }
    return Started(with_query(endpoint, query), pending)


def code_of(pending: PendingSignIn, params: Mapping[str, str], *, issuer: str | None, issuer_required: bool) -> str:
    """Give the code that the browser came back with, once it is sure that it belongs to this attempt.

    `issuer` is whom the attempt was sent to: RFC 9207 has the answer name them, which ends mix-ups. Raises
    SignInRefused.
    """
    if any(len(value) > MAX_PARAMETER for value in params.values()):
        raise untrusted("a parameter of the answer is too long")
    if not _same(params.get("state", ""), pending.state):
        raise untrusted("the state is not the one of this attempt")
    named = params.get("iss")
    if (named is not None and issuer is not None and named != issuer) or (named is None and issuer_required):
        raise untrusted(f"the answer was to come from {issuer!r} and comes from {named!r}")
    if "error" in params:
        raise refusal(params["error"], params.get("error_description", ""))
    if not (code := params.get("code")):
        raise untrusted("the answer has neither a code nor an error")
    return code


def token_of(status: int, body: object, name: str) -> tuple[str, Json]:
    """Give one token of a token endpoint's answer, and the whole of it. Raises SignInRefused."""
    fields = cast("Json", body) if isinstance(body, dict) else {}
    if status != 200 or "error" in fields:
        error = fields.get("error")
        if error in {"invalid_grant", "bad_verification_code"}:
            message = "The sign-in took too long, or was used before. Start it again."
            raise SignInRefused(RefusalReason.EXPIRED, message, detail=_told(fields))
        message = "The identity provider did not accept this gateway. Ask an administrator to check its settings."
        raise SignInRefused(RefusalReason.UNTRUSTED, message, detail=f"status {status}: {_told(fields)}")
    token = fields.get(name)
    if not isinstance(token, str) or not token:
        raise untrusted(f"the token endpoint gave no {name}")
    if str(fields.get("token_type", "")).lower() != "bearer":
        raise untrusted("the token endpoint gave no bearer token")
    return token, fields


def refusal(error: str, description: str) -> SignInRefused:
    """Give the refusal for an error that the authorization endpoint sent back."""
    usual = (RefusalReason.UNTRUSTED, "The identity provider refused the sign-in. Ask an administrator.")
    reason, message = _REASONS.get(error, usual)
    return SignInRefused(reason, message, detail=f"{error[:100]!r}: {description[:200]!r}")


def challenge(code_verifier: str) -> str:
    """Give the S256 challenge of a verifier (RFC 7636 §4.2)."""
    return urlsafe_b64encode(sha256(code_verifier.encode("ascii")).digest()).rstrip(b"=").decode("ascii")


def with_query(url: str, query: Mapping[str, str]) -> str:
    """Add to the query of a URL."""
    parts = urlsplit(url)
    both = [*parse_qsl(parts.query, keep_blank_values=True), *query.items()]
    return urlunsplit(parts._replace(query=urlencode(both)))


def _same(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), expected.encode("utf-8"))


def _told(fields: Json) -> str:
    return f"{str(fields.get('error'))[:100]}: {str(fields.get('error_description', ''))[:200]}"
