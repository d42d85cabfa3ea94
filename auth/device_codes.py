"""The two codes of a device that signs in (RFC 8628): one for the device to keep, one for a person to type.

The device's begins with `old_` and has 178 random bits. The person's has eight letters, `WDJB-MJHT`: consonants alone,
so that they form no word, from an alphabet of 20 without look-alikes. That is 34.5 bits, and safe because such a code
lives for minutes and few may be guessed (RFC 8628, section 6.1 and 5.1).
"""

import secrets

from auth.opaque_secrets import SecretFormat, hash_secret

DEVICE_PREFIX = "old_"

USER_CODE_LETTERS = "BCDFGHJKLMNPQRSTVWXZ"
USER_CODE_LENGTH = 8

_FORMAT = SecretFormat(DEVICE_PREFIX)
_IGNORED = str.maketrans("", "", "-\N{EN DASH}\N{NON-BREAKING HYPHEN}\N{HYPHEN} \t")
_LONGEST = 64
"""Characters of a typed code that are looked at."""


def generate_device_code() -> str:
    """Make the code that a device polls with."""
    return _FORMAT.generate()


def is_device_code(secret: str) -> bool:
    """Tell whether this can be a device's code at all: prefix, length, alphabet and checksum. Needs no database."""
    return _FORMAT.is_well_formed(secret)


def generate_user_code() -> str:
    """Make the code that a person types, as it is shown: `WDJB-MJHT`."""
    return shown_user_code("".join(secrets.choice(USER_CODE_LETTERS) for _ in range(USER_CODE_LENGTH)))


def read_user_code(typed: str) -> str | None:
    """Give the letters of a code as somebody typed it, in any case, with or without hyphen; None for what is none."""
    letters = typed[:_LONGEST].translate(_IGNORED).upper()
    if len(letters) != USER_CODE_LENGTH or any(letter not in USER_CODE_LETTERS for letter in letters):
        return None
    return letters


def shown_user_code(letters: str) -> str:
    """Give the letters of a code with the hyphen."""
    half = USER_CODE_LENGTH // 2
    return f"{letters[:half]}-{letters[half:]}"


def hash_device_code(secret: str) -> str:
    """Give the SHA-256 of a device's code as 64 hexadecimal digits: what is stored, and what it is looked up by."""
    return hash_secret(secret)


def hash_user_code(letters: str) -> str:
    """Give the SHA-256 of the letters of a person's code. Whoever reads the database can find the code by trying all,
    and can then do no more than anybody who is shown it: approve the device, signed in as themselves.
    """
    return hash_secret(letters)
