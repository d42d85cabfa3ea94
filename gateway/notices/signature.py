"""How webhooks are signed: Standard Webhooks, version 1 (standardwebhooks.com)."""

import binascii
import hashlib
import hmac
from base64 import b64decode, b64encode
from collections.abc import Sequence

PREFIX = "whsec_"

LEAST_BYTES, MOST_BYTES = 24, 64
"""Of a secret, as the specification has it."""


class WebhookSecretError(ValueError):
    """The text is no secret. The message does not repeat it."""


def parse_webhook_secrets(text: str) -> tuple[bytes, ...]:
    """Parse a secret, or several parted by spaces: all sign, so that receivers can change theirs one by one.

    Raises WebhookSecretError with a sentence.
    """
    secrets: list[bytes] = []
    for part in text.split():
        try:
            secret = b64decode(part.removeprefix(PREFIX), validate=True)
        except (binascii.Error, ValueError):
            secret = b""
        if not part.startswith(PREFIX) or not LEAST_BYTES <= len(secret) <= MOST_BYTES:
            raise WebhookSecretError(
                f"must be {PREFIX} and {LEAST_BYTES} to {MOST_BYTES} bytes in Base64: "
                f'echo "{PREFIX}$(openssl rand -base64 32)"'
            )
        secrets.append(secret)
    if not secrets:
        raise WebhookSecretError("is empty")
    return tuple(secrets)


def signature(secrets: Sequence[bytes], message_id: str, timestamp: int, body: bytes) -> str:
    """Give the header `webhook-signature` of a message, which is sent at `timestamp` in seconds since the epoch."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    digests = [hmac.new(secret, signed, hashlib.sha256).digest() for secret in secrets]
    return " ".join(f"v1,{b64encode(digest).decode()}" for digest in digests)
