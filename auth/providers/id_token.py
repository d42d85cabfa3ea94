"""ID tokens: made by this issuer, for this gateway and for this attempt (OpenID Connect Core §3.1.3.7)?"""

import hashlib
import hmac
from base64 import urlsafe_b64encode
from typing import Any, cast

import jwt
from jwt import PyJWK
from jwt.exceptions import ExpiredSignatureError, PyJWTError
from jwt.types import Options

from auth.providers.errors import RefusalReason, SignInRefused, untrusted
from auth.providers.http import Json
from auth.providers.issuer import Issuer

LEEWAY_SECONDS = 60
"""How far the provider's clock may be from ours."""

MAX_TOKEN = 64 * 1024
"""Characters; some providers put hundreds of groups in."""

_KEY_TYPES = {"RS": "RSA", "PS": "RSA", "ES": "EC", "Ed": "OKP"}
_MAX_KEYS = 16


async def verified_claims(
    token: str, issuer: Issuer, *, client_id: str, nonce: str, algorithms: tuple[str, ...], access_token: str
) -> Json:
    """Give the claims of an ID token. Raises SignInRefused, and ProviderUnavailable if the keys cannot be had."""
    claims, algorithm = await signed_claims(token, issuer, client_id=client_id, algorithms=algorithms, needed=("sub",))
    audience = claims["aud"]
    if isinstance(audience, list) and len(cast("list[object]", audience)) > 1 and "azp" not in claims:
        raise untrusted("the ID token is for several audiences and does not say for whom it was issued (azp)")
    if claims.get("azp", client_id) != client_id:
        raise untrusted(f"the ID token was issued to another client, {claims.get('azp')!r}")
    if not isinstance(given := claims.get("nonce"), str) or not hmac.compare_digest(given.encode(), nonce.encode()):
        raise untrusted("the nonce of the ID token is not the one of this attempt")
    if "at_hash" in claims and claims["at_hash"] != half_hash(access_token, algorithm):
        raise untrusted("the access token does not belong to the ID token")
    return claims


async def signed_claims(
    token: str, issuer: Issuer, *, client_id: str, algorithms: tuple[str, ...], needed: tuple[str, ...]
) -> tuple[Json, str]:
    """Give the claims of a token that the issuer has signed for this client, and the algorithm. Raises as above."""
    algorithm, key_id = _header(token, algorithms)
    key = _signer(token, await issuer.keys(key_id), algorithm)
    if key is None:
        key = _signer(token, await issuer.keys(key_id, again=True), algorithm)
    if key is None:
        raise untrusted(f"no {algorithm} key {key_id!r} of the issuer has signed the token")
    return _checked(token, key, issuer.url, client_id, needed), algorithm


def _header(token: str, algorithms: tuple[str, ...]) -> tuple[str, str | None]:
    """Give algorithm and key id. The algorithm must be one that is allowed here: the token has no say in that."""
    if len(token) > MAX_TOKEN:
        raise untrusted("the ID token is too long")
    try:
        header = jwt.get_unverified_header(token)
    except (PyJWTError, ValueError) as error:
        raise untrusted(f"the ID token cannot be read: {error}") from None
    algorithm, key_id = header.get("alg"), header.get("kid")
    if algorithm not in algorithms:
        raise untrusted(f"the ID token is signed with {algorithm!r}, which is not allowed")
    if "crit" in header or not (key_id is None or isinstance(key_id, str)):
        raise untrusted("the header of the ID token asks for what is not understood here")
    return algorithm, key_id


def _signer(token: str, published: list[Json], algorithm: str) -> PyJWK | None:
    """Give the key that has signed a token; None if it is none of these."""
    for candidate in [key for key in published if _fits(key, algorithm)][:_MAX_KEYS]:
        if (key := _key(candidate, algorithm)) is not None and _signed_by(token, key):
            return key
    return None


def _fits(key: Json, algorithm: str) -> bool:
    """Tell whether a published key is for such signatures, and is public."""
    return (
        key.get("kty") == _KEY_TYPES[algorithm[:2]]
        and key.get("use", "sig") == "sig"
        and key.get("alg", algorithm) in {algorithm, "Ed25519" if algorithm == "EdDSA" else algorithm}
        and "d" not in key
    )


def _key(candidate: Json, algorithm: str) -> PyJWK | None:
    """Give a key that can be used; None for one that is malformed, which is as good as not published."""
    try:
        return PyJWK(cast("dict[str, Any]", candidate), algorithm=algorithm)
    except (PyJWTError, ValueError, TypeError, KeyError):
        return None


def _signed_by(token: str, key: PyJWK) -> bool:
    options: Options = {"enforce_minimum_key_length": True}
    try:
        jwt.PyJWS().decode(token, key, algorithms=[key.algorithm_name], options=options)
    except (PyJWTError, ValueError, TypeError):
        return False
    return True


def _checked(token: str, key: PyJWK, issuer: str, client_id: str, needed: tuple[str, ...]) -> Json:
    options: Options = {
        "require": ["iss", "aud", "exp", "iat", *needed],
        "enforce_minimum_key_length": True,
    }
    try:
        claims = jwt.decode(
            token,
            key,
            algorithms=[key.algorithm_name],
            audience=client_id,
            issuer=issuer,
            leeway=LEEWAY_SECONDS,
            options=options,
        )
    except ExpiredSignatureError:
        message = "The answer of the identity provider has expired. Start signing in again."
        raise SignInRefused(RefusalReason.EXPIRED, message, detail="the ID token has expired") from None
    except (PyJWTError, ValueError, TypeError) as error:
        raise untrusted(f"the ID token does not hold: {error}") from None
    return cast("Json", claims)


def half_hash(access_token: str, algorithm: str) -> str:
    """Give the left half of the access token's hash, by the algorithm's own function (OpenID Connect Core §3.1.3.6)."""
    size = "512" if algorithm == "EdDSA" else algorithm[2:]
    digest = hashlib.new(f"sha{size}", access_token.encode()).digest()
    return urlsafe_b64encode(digest[: len(digest) // 2]).rstrip(b"=").decode("ascii")
