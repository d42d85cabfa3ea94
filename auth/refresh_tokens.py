"""Refresh tokens: opaque secrets that begin with `olr_`. Each is used once, and leads to the next (RFC 9700 §4.14).

token ──┬── HMAC-SHA256 ──▶ next token        a client that lost the answer sends `token` again and gets the same
nonce ──┘                                     next one; the database, which has the nonce and hashes, cannot make it
"""

import secrets

from auth.opaque_secrets import SecretFormat, hash_secret

REFRESH_PREFIX = "olr_"

_FORMAT = SecretFormat(REFRESH_PREFIX)
_NONCE_BYTES = 32


def generate_refresh_token() -> str:
    """Make the first token of a session, with 178 random bits."""
    return _FORMAT.generate()


def generate_nonce() -> str:
    """Make what decides about the next token, as 64 hexadecimal digits; a fresh one for each use."""
    return secrets.token_hex(_NONCE_BYTES)


def next_refresh_token(token: str, nonce: str) -> str:
    """Give the token that follows when `token` is used with `nonce`."""
    return _FORMAT.derive(bytes.fromhex(nonce), token)


def is_refresh_token(secret: str) -> bool:
    """Tell whether this can be a refresh token at all: prefix, length, alphabet and checksum. Needs no database."""
    return _FORMAT.is_well_formed(secret)


def hash_refresh_token(secret: str) -> str:
    """Give the SHA-256 of a token as 64 hexadecimal digits: what is stored, and what a token is looked up by."""
    return hash_secret(secret)
