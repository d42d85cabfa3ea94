"""The streams as Valkey keeps them: commands, scripts, one server or a cluster, and whether it will do."""

from gateway.streams.valkey.check import UnusableValkey, check_valkey
from gateway.streams.valkey.client import FENCED, Batch, StoredStream, Valkey, opened
from gateway.streams.valkey.failures import Fenced, NodeUnavailable, StreamDamaged, ValkeyUnavailable
from gateway.streams.valkey.open_counts import OpenCounts
from gateway.streams.valkey.probe import ValkeyCondition, probe_valkey
from gateway.streams.valkey.request_counts import RequestCounts

__all__ = [
    "FENCED",
    "Batch",
    "Fenced",
    "NodeUnavailable",
    "OpenCounts",
    "RequestCounts",
    "StoredStream",
    "StreamDamaged",
    "UnusableValkey",
    "Valkey",
    "ValkeyCondition",
    "ValkeyUnavailable",
    "check_valkey",
    "opened",
    "probe_valkey",
]
