"""Keys for one purpose each, derived from the one secret of the gateway."""

import hashlib
import hmac

KEY_BYTES = 32


def derive_key(secret: str, label: str) -> bytes:
    """Give 32 bytes that tell nothing of the secret or of the key of another label.

    HKDF with SHA-256 and no salt, of which one block is taken (RFC 5869).
    """
    extracted = hmac.digest(bytes(KEY_BYTES), secret.encode(), hashlib.sha256)
    return hmac.digest(extracted, label.encode() + b"\x01", hashlib.sha256)
