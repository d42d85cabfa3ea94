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
    return _of_random("".join(secrets.choice(_BASE62) for _ in range(_RANDOM_CHARACTERS)))


def derive_api_key(derivation_key: bytes, *parts: str) -> GeneratedKey:
    """Make the one key that belongs to these parts, which only who has `derivation_key` (32 bytes) can make again.

    HMAC-SHA256 gives 256 bits, of which 178 are taken: the digits are as evenly spread as random ones, to 2^-77.
    """
    told = b"".join(len(part.encode()).to_bytes(4, "big") + part.encode() for part in parts)
    number = int.from_bytes(hmac.digest(derivation_key, told, hashlib.sha256), "big")
    return _of_random(_base62(number % len(_BASE62) ** _RANDOM_CHARACTERS, _RANDOM_CHARACTERS))


def shown_prefix(secret: str) -> str:
    """Give the first characters of a secret, which are kept and shown."""
    return secret[:_SHOWN_CHARACTERS]


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


def _of_random(random: str) -> GeneratedKey:
    secret = KEY_PREFIX + random + _checksum(random)
    return GeneratedKey(secret=secret, prefix=shown_prefix(secret), secret_hash=hash_api_key(secret))


def _checksum(random: str) -> str:
    """Give the CRC-32 of the random part in base62."""
    return _base62(zlib.crc32(random.encode()), _CHECKSUM_CHARACTERS)


def _base62(number: int, length: int) -> str:
    """Write a number in base62, padded with leading zeros."""
    digits = ""
    for _ in range(length):
        number, digit = divmod(number, len(_BASE62))
        digits = _BASE62[digit] + digits
    return digits
