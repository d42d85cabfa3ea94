"""The statements about usage: the ledger's rows, their sums, and what becomes of them."""

from db.queries.usage import ledger, rollups, waiting
from db.queries.usage.ledger import DIMENSIONS, BucketRun, Span
from db.queries.usage.rollups import SUMMED, Segment
from db.queries.usage.sums import (
    GROUP,
    NANO,
    STATES,
    TAG,
    TOKENS,
    BinGroup,
    TimedGroup,
    UsageChoice,
    UsageGroup,
    UsageSums,
    UsageValues,
    added,
)

__all__ = [
    "DIMENSIONS",
    "GROUP",
    "NANO",
    "STATES",
    "SUMMED",
    "TAG",
    "TOKENS",
    "BinGroup",
    "BucketRun",
    "Segment",
    "Span",
    "TimedGroup",
    "UsageChoice",
    "UsageGroup",
    "UsageSums",
    "UsageValues",
    "added",
    "ledger",
    "rollups",
    "waiting",
]
