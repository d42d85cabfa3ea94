"""The statements about usage: the ledger's rows, their sums, and what becomes of them."""

from db.queries.usage import ledger, months, rollups, waiting
from db.queries.usage.ledger import DIMENSIONS, BucketRun, Span
from db.queries.usage.months import Month
from db.queries.usage.rollups import SUMMED, Segment
from db.queries.usage.sums import (
    DAY,
    GROUP,
    MONTH,
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
    "DAY",
    "DIMENSIONS",
    "GROUP",
    "MONTH",
    "NANO",
    "STATES",
    "SUMMED",
    "TAG",
    "TOKENS",
    "BinGroup",
    "BucketRun",
    "Month",
    "Segment",
    "Span",
    "TimedGroup",
    "UsageChoice",
    "UsageGroup",
    "UsageSums",
    "UsageValues",
    "added",
    "ledger",
    "months",
    "rollups",
    "waiting",
]
