"""The keys of access tokens: a secret (HS256), or key pairs (EdDSA, RS256) that are published and rotated.

A key decides its algorithm, and nothing else does (RFC 8725 §3.1). A key pair is named by its thumbprint (RFC 7638), so
that the same key has the same `kid` in every replica, whatever its file is called.

A new pair is published first and signs later, when each replica and each reader of the key set has had the time to
read it. Of those that are old enough the last one in the order of their names signs; all of them verify:

    name            first seen             publish delay over
    2026-01.pem     ── signs ───────────────────┼── verifies ─────────▶ until its file is removed
    2026-11.pem                ── verifies ─────┼── signs ────────────▶
"""

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey, generate_private_key

MIN_SECRET_BYTES = 32
"""A key for HS256 must have at least as many bits as its output (RFC 7518 §3.2)."""

MIN_RSA_BITS = 2048
"""RFC 7518 §3.3."""

MAX_RSA_BITS = 8192
"""A token signed with a larger key would not fit into what is read of a header."""

NEW_RSA_BITS = 3072
"""As strong as 128 bits (NIST SP 800-57), as Ed25519 is."""

_RSA_EXPONENT = 65_537
"""The smallest that FIPS 186-5 §5.1 allows, and the one in use everywhere."""

PairAlgorithm = Literal["EdDSA", "RS256"]
Algorithm = Literal["HS256", "EdDSA", "RS256"]


class WeakSecretError(ValueError):
    """The secret is too short to sign with. The message does not hold it."""


class UnusableKeyError(ValueError):
    """A file holds no key that can be used. The message says why, without its name and without what is in it."""


@dataclass(frozen=True, slots=True)
class TokenKey:
    """A key and its one algorithm. `kid` is None for the secret, `signing` where only the public half is here."""

    kid: str | None
    algorithm: Algorithm
    verifying: Ed25519PublicKey | RSAPublicKey | bytes = field(repr=False)
    signing: Ed25519PrivateKey | RSAPrivateKey | bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Published:
    """A key pair, and since when it is known to have been there. The order of the names is the order of the keys."""

    name: str
    key: TokenKey
    since: datetime


class TokenKeys:
    """The keys of this gateway as they are now.

    `secret` signs until the first pair is old enough, and is the only key that tokens without a `kid` are verified
    by. `publish_delay` is how long a pair is published before it signs. `former` is the secret of before a rotation,
    and until when it verifies. Raises WeakSecretError for a secret of less than 32 bytes.
    """

    def __init__(
        self,
        secret: str | None,
        *,
        publish_delay: timedelta = timedelta(0),
        former: tuple[str, datetime] | None = None,
    ) -> None:
        self.publish_delay = publish_delay
        self._secret = None if secret is None else _secret_key(secret)
        self._former = None if former is None else (_secret_key(former[0]), former[1])
        self._pairs: tuple[Published, ...] = ()
        self._by_kid: Mapping[str, TokenKey] = {}
        self._public: tuple[Mapping[str, str], ...] = ()

    def publish(self, pairs: Iterable[Published]) -> None:
        """Take these key pairs in the place of those of before. A pair that is already known stays as old as it is.

        Of the same key under two names, the one with the private half counts.
        """
        known = {pair.key.kid: pair.since for pair in self._pairs}
        kept: dict[str | None, Published] = {}
        for pair in sorted(pairs, key=lambda pair: pair.name):
            before = kept.get(pair.key.kid)
            if before is None or before.key.signing is None:
                since = min(pair.since, known.get(pair.key.kid, pair.since))
                kept[pair.key.kid] = Published(pair.name, pair.key, since)
        self._pairs = tuple(sorted(kept.values(), key=lambda pair: pair.name))
        self._by_kid = {pair.key.kid: pair.key for pair in self._pairs if pair.key.kid is not None}
        self._public = tuple(public_jwk(pair.key) for pair in self._pairs)

    def for_signing(self, now: datetime) -> TokenKey:
        """Give the key to sign with. Raises LookupError where there is none.

        While no pair is old enough it is the secret or, without one, the pair whose name comes first.
        """
        pairs = [pair for pair in self._pairs if pair.key.signing is not None]
        ready = [pair.key for pair in pairs if pair.since + self.publish_delay <= now]
        if ready:
            return ready[-1]
        if self._secret is not None:
            return self._secret
        if not pairs:
            raise LookupError("there is no key to sign with")
        return pairs[0].key

    def for_verifying(self, kid: str | None) -> TokenKey | None:
        """Give the key of this name, or the secret for None; None where there is no such key."""
        return self._secret if kid is None else self._by_kid.get(kid)

    def former(self, now: datetime) -> TokenKey | None:
        """Give the secret of before a rotation, while tokens that it signed are still taken."""
        return self._former[0] if self._former is not None and now < self._former[1] else None

    @property
    def can_sign(self) -> bool:
        """Tell whether there is any key to sign with."""
        return self._secret is not None or any(pair.key.signing is not None for pair in self._pairs)

    @property
    def public(self) -> tuple[Mapping[str, str], ...]:
        """The public halves of all pairs as JSON Web Keys (RFC 7517). The secret is not among them."""
        return self._public


def _secret_key(secret: str) -> TokenKey:
    data = secret.encode()
    if len(data) < MIN_SECRET_BYTES:
        raise WeakSecretError(
            f"The secret for access tokens has {len(data)} bytes; it needs {MIN_SECRET_BYTES} or more. "
            'Make one with: python -c "import secrets; print(secrets.token_urlsafe(32))"'
        )
    return TokenKey(None, "HS256", data, data)


def read_pem(pem: bytes) -> TokenKey:
    """Read a private or a public key. Raises UnusableKeyError with the end of a sentence that begins with its file."""
    if b"-----BEGIN PUBLIC KEY-----" in pem or b"-----BEGIN RSA PUBLIC KEY-----" in pem:
        if b"PRIVATE KEY-----" in pem:
            raise UnusableKeyError("holds more than one key: put each in a file of its own.")
        return _read_public(pem)
    if b"PRIVATE KEY-----" not in pem:
        raise UnusableKeyError("is no PEM file of a private or a public key.")
    try:
        private = serialization.load_pem_private_key(pem, password=None)
    except TypeError:
        raise UnusableKeyError(
            "is encrypted with a passphrase: store it without one, readable by its owner only."
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise UnusableKeyError("is damaged, or of a kind that is not known.") from None
    if isinstance(private, Ed25519PrivateKey | RSAPrivateKey):
        return _pair(private.public_key(), private)
    raise UnusableKeyError(_OTHER_KIND)


def _read_public(pem: bytes) -> TokenKey:
    try:
        public = serialization.load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm):
        raise UnusableKeyError("is damaged, or of a kind that is not known.") from None
    if isinstance(public, Ed25519PublicKey | RSAPublicKey):
        return _pair(public, None)
    raise UnusableKeyError(_OTHER_KIND)


_OTHER_KIND = (
    f"holds a key that is neither Ed25519 nor RSA of {MIN_RSA_BITS} bits or more. "
    "Make one with: ollagraph create-signing-key"
)


def _pair(public: Ed25519PublicKey | RSAPublicKey, private: Ed25519PrivateKey | RSAPrivateKey | None) -> TokenKey:
    if isinstance(public, RSAPublicKey):
        if not MIN_RSA_BITS <= public.key_size <= MAX_RSA_BITS:
            raise UnusableKeyError(
                f"holds an RSA key of {public.key_size} bits; it must have {MIN_RSA_BITS} to {MAX_RSA_BITS}."
            )
        if public.public_numbers().e < _RSA_EXPONENT:
            raise UnusableKeyError(f"holds an RSA key whose public exponent is less than {_RSA_EXPONENT}.")
        return TokenKey(_thumbprint(_members(public)), "RS256", public, private)
    return TokenKey(_thumbprint(_members(public)), "EdDSA", public, private)


def new_pem(algorithm: PairAlgorithm) -> bytes:
    """Make a private key, as the text of its file (PKCS #8, not encrypted)."""
    if algorithm == "EdDSA":
        private = Ed25519PrivateKey.generate()
    else:
        private = generate_private_key(_RSA_EXPONENT, NEW_RSA_BITS)
    return private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def public_jwk(key: TokenKey) -> dict[str, str]:
    """Give the public half as a JSON Web Key. Raises TypeError for the secret, which has none."""
    if key.kid is None or isinstance(key.verifying, bytes):
        raise TypeError("a secret is not published")
    return {**_members(key.verifying), "kid": key.kid, "use": "sig", "alg": key.algorithm}


def _members(public: Ed25519PublicKey | RSAPublicKey) -> dict[str, str]:
    """Give what makes the key, in the order that a thumbprint needs (RFC 7638 §3.2, RFC 8037 §2)."""
    if isinstance(public, RSAPublicKey):
        numbers = public.public_numbers()
        return {"e": _number(numbers.e), "kty": "RSA", "n": _number(numbers.n)}
    return {"crv": "Ed25519", "kty": "OKP", "x": _base64url(public.public_bytes_raw())}


def _thumbprint(members: Mapping[str, str]) -> str:
    return _base64url(hashlib.sha256(json.dumps(members, separators=(",", ":"), sort_keys=True).encode()).digest())


def _number(number: int) -> str:
    return _base64url(number.to_bytes((number.bit_length() + 7) // 8, "big"))


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
