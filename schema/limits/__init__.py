"""What limits the use of models, and what is told of it."""

from schema.limits.limit import ASSUMED_LIMITS_OF_ALL, Limit, RemoveLimitInput, SetLimitInput
from schema.limits.money import Money
from schema.limits.refusals import QuotaExceeded, RateLimited
from schema.limits.status import (
    ASSUMED_LIMITS,
    ASSUMED_LIMITS_OF_EACH,
    WHO_MAY_SEE,
    LimitScope,
    LimitStatus,
    limits_extension,
)
from schema.limits.threshold import LimitThreshold, threshold_data
from schema.limits.token_usage import TokenUsage
from schema.limits.usage_sums import UsageCounts, costs_of, counts_of
from schema.limits.usage_update import UsageUpdate

__all__ = [
    "ASSUMED_LIMITS",
    "ASSUMED_LIMITS_OF_ALL",
    "ASSUMED_LIMITS_OF_EACH",
    "WHO_MAY_SEE",
    "Limit",
    "LimitScope",
    "LimitStatus",
    "LimitThreshold",
    "Money",
    "QuotaExceeded",
    "RateLimited",
    "RemoveLimitInput",
    "SetLimitInput",
    "TokenUsage",
    "UsageCounts",
    "UsageUpdate",
    "costs_of",
    "counts_of",
    "limits_extension",
    "threshold_data",
]
