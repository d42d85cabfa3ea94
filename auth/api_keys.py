"""API keys: opaque secrets that begin with `olg_`."""

import hmac
from dataclasses import dataclass, field

from auth.opaque_secrets import SecretFormat, hash_secret

KEY_PREFIX = "olg_"

_FORMAT = SecretFormat(KEY_PREFIX)
_SHOWN_CHARACTERS = 12


@dataclass(frozen=True, slots=True)
class GeneratedKey:
    """A new key. `secret` is shown to its user once; `prefix` and `secret_hash` are what is kept."""

    secret: str = field(repr=False)
    prefix: str
    secret_hash: str = field(repr=False)


def generate_api_key() -> GeneratedKey:
    """Make a key with 178 random bits."""
    return _key(_FORMAT.generate())


def derive_api_key(derivation_key: bytes, *parts: str) -> GeneratedKey:
    """Make the one key that belongs to these parts, which only who has `derivation_key` (32 bytes) can make again."""
    return _key(_FORMAT.derive(derivation_key, *parts))


def shown_prefix(secret: str) -> str:
    """Give the first characters of a secret, which are kept and shown."""
    return secret[:_SHOWN_CHARACTERS]


def is_well_formed(secret: str) -> bool:
    """Tell whether this can be a key at all: prefix, length, alphabet and checksum. Needs no database."""
    return _FORMAT.is_well_formed(secret)


def hash_api_key(secret: str) -> str:
    """Give the SHA-256 of a key as 64 hexadecimal digits: what is stored, and what a key is looked up by."""
    return hash_secret(secret)


def same_hash(left: str, right: str) -> bool:
    """Compare two hashes in a time that does not depend on where they differ; for use after the look-up."""
    return hmac.compare_digest(left.encode(), right.encode())


def _key(secret: str) -> GeneratedKey:
    return GeneratedKey(secret=secret, prefix=shown_prefix(secret), secret_hash=hash_api_key(secret))
