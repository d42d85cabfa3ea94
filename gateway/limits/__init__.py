"""Limits on what is used: rules, what is reserved and settled against them, and what the use of models costs."""

from gateway.limits.limits import Limits, Used
from gateway.limits.prices import (
    MAX_PATTERNS,
    MOST_PER_MILLION,
    Cost,
    NewPrice,
    PriceList,
    Prices,
    PricesWanted,
)
from gateway.limits.refusals import LimitReached, QuotaExceeded, RateLimited
from gateway.limits.rules import (
    Asking,
    Claim,
    Conditions,
    ExceptionKind,
    LimitDimension,
    LimitRule,
    Measure,
    Needs,
)
from gateway.limits.status import LimitStatus
from gateway.limits.windows import LimitWindow

__all__ = [
    "MAX_PATTERNS",
    "MOST_PER_MILLION",
    "Asking",
    "Claim",
    "Conditions",
    "Cost",
    "ExceptionKind",
    "LimitDimension",
    "LimitReached",
    "LimitRule",
    "LimitStatus",
    "LimitWindow",
    "Limits",
    "Measure",
    "Needs",
    "NewPrice",
    "PriceList",
    "Prices",
    "PricesWanted",
    "QuotaExceeded",
    "RateLimited",
    "Used",
]
