"""API keys: `olg_`, 30 random characters, 6 of checksum, as GitHub's tokens are made.

The prefix lets scanners find leaked keys, and the checksum lets anybody tell a mistyped key from an unknown one
without asking the database.
https://github.blog/engineering/platform-security/behind-githubs-new-authentication-token-formats/
"""

import hashlib
import hmac
import secrets
import string
import zlib
from dataclasses import dataclass, field

KEY_PREFIX = "olg_"

_BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase
_RANDOM_CHARACTERS = 30
_CHECKSUM_CHARACTERS = 6
_KEY_LENGTH = len(KEY_PREFIX) + _RANDOM_CHARACTERS + _CHECKSUM_CHARACTERS
_SHOWN_CHARACTERS = 12


@dataclass(frozen=True, slots=True)
class GeneratedKey:
    """A new key. `secret` is shown to its user once; `prefix` and `secret_hash` are what is kept."""

    secret: str = field(repr=False)
    prefix: str
    secret_hash: str = field(repr=False)


def generate_api_key() -> GeneratedKey:
    """Make a key with 178 random bits."""
    random = "".join(secrets.choice(_BASE62) for _ in range(_RANDOM_CHARACTERS))
    secret = KEY_PREFIX + random + _checksum(random)
    return GeneratedKey(secret=secret, prefix=secret[:_SHOWN_CHARACTERS], secret_hash=hash_api_key(secret))


def is_well_formed(secret: str) -> bool:
    """Tell whether this can be a key at all: prefix, length, alphabet and checksum. Needs no database."""
    if len(secret) != _KEY_LENGTH or not secret.startswith(KEY_PREFIX):
        return False
    random = secret[len(KEY_PREFIX) : -_CHECKSUM_CHARACTERS]
    return all(character in _BASE62 for character in random) and secret.endswith(_checksum(random))


def hash_api_key(secret: str) -> str:
    """Give the SHA-256 of a key as 64 hexadecimal digits: what is stored, and what a key is looked up by.

    A fast hash without salt is right here, unlike for passwords: a key has 178 random bits, so there is no list
    of likely ones to try, and 2^178 guesses are out of reach at any speed (NIST SP 800-63B §5.1.2.2 asks for no
    more from 112 bits on). And it is computed at every request, so it has to be fast.
    """
    return hashlib.sha256(secret.encode()).hexdigest()


def same_hash(left: str, right: str) -> bool:
    """Compare two hashes in a time that does not depend on where they differ; for use after the look-up."""
    return hmac.compare_digest(left.encode(), right.encode())


def _checksum(random: str) -> str:
    """Give the CRC-32 of the random part in base62, padded with leading zeros."""
    rest = zlib.crc32(random.encode())
    digits = ""
    for _ in range(_CHECKSUM_CHARACTERS):
        rest, digit = divmod(rest, len(_BASE62))
        digits = _BASE62[digit] + digits
    return digits
