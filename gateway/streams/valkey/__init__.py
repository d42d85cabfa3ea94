"""The streams as Valkey keeps them: commands, scripts, and whether a server will do."""

from gateway.streams.valkey.check import UnusableValkey, check_valkey
from gateway.streams.valkey.client import (
    FENCED,
    Batch,
    Fenced,
    StoredStream,
    StreamDamaged,
    Valkey,
    ValkeyUnavailable,
    opened,
)

__all__ = [
    "FENCED",
    "Batch",
    "Fenced",
    "StoredStream",
    "StreamDamaged",
    "UnusableValkey",
    "Valkey",
    "ValkeyUnavailable",
    "check_valkey",
    "opened",
]
