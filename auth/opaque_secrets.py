"""Secrets that mean nothing by themselves: a prefix, 30 random characters, 6 of checksum, as GitHub's tokens are made.

The prefix lets scanners find leaked secrets, and the checksum lets anybody tell a mistyped one from an unknown one
without asking the database.
https://github.blog/engineering/platform-security/behind-githubs-new-authentication-token-formats/
"""

import hashlib
import hmac
import secrets
import string
import zlib
from dataclasses import dataclass

_BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase
_CHARACTERS = frozenset(_BASE62)
_RANDOM_CHARACTERS = 30
_CHECKSUM_CHARACTERS = 6


@dataclass(frozen=True, slots=True)
class SecretFormat:
    """One kind of secret, known by its prefix."""

    prefix: str

    def generate(self) -> str:
        """Make a secret with 178 random bits."""
        return self._with_checksum("".join(secrets.choice(_BASE62) for _ in range(_RANDOM_CHARACTERS)))

    def derive(self, key: bytes, *parts: str) -> str:
        """Make the secret that belongs to a key and these parts: always the same, and not to be had without the key.

        HMAC-SHA256 gives 256 bits, of which 178 are taken: the digits are as evenly spread as random ones, to 2^-77.
        """
        told = b"".join(len(part.encode()).to_bytes(4, "big") + part.encode() for part in parts)
        number = int.from_bytes(hmac.digest(key, told, "sha256"))
        return self._with_checksum(_base62(number, _RANDOM_CHARACTERS))

    def is_well_formed(self, secret: str) -> bool:
        """Tell whether this can be such a secret at all: prefix, length, alphabet and checksum. Needs no database."""
        if len(secret) != len(self.prefix) + _RANDOM_CHARACTERS + _CHECKSUM_CHARACTERS:
            return False
        random = secret[len(self.prefix) : -_CHECKSUM_CHARACTERS]
        return _CHARACTERS.issuperset(random) and secret == self._with_checksum(random)

    def _with_checksum(self, random: str) -> str:
        return self.prefix + random + _base62(zlib.crc32(random.encode()), _CHECKSUM_CHARACTERS)


def hash_secret(secret: str) -> str:
    """Give the SHA-256 of a secret as 64 hexadecimal digits: what is stored, and what a secret is looked up by.

    A fast hash without salt is right here, unlike for passwords: a secret has 178 random bits, so there is no list
    of likely ones to try, and 2^178 guesses are out of reach at any speed (NIST SP 800-63B §5.1.2.2 asks for no
    more from 112 bits on). And it is computed at every request, so it has to be fast.
    """
    return hashlib.sha256(secret.encode()).hexdigest()


def _base62(number: int, length: int) -> str:
    """Give the last digits of a number in base62, padded with leading zeros."""
    digits = ""
    for _ in range(length):
        number, digit = divmod(number, len(_BASE62))
        digits = _BASE62[digit] + digits
    return digits
