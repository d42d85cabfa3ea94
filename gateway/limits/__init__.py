"""Limits on what is used: rules, what is reserved and settled against them, and what the use of models costs."""

from gateway.limits.administration import LimitAdministration, WantedException, WantedLimit
from gateway.limits.limits import KEPT_AFTER_WINDOW, Limits, Standings, Used
from gateway.limits.prices import (
    MAX_PATTERNS,
    MOST_PER_MILLION,
    Cost,
    NewPrice,
    PriceList,
    Prices,
    PricesWanted,
)
from gateway.limits.refusals import LimitReached, QuotaExceeded, RateLimited, shown_amount
from gateway.limits.rules import (
    NO_CONDITIONS,
    Asking,
    Claim,
    Conditions,
    ExceptionKind,
    LimitDimension,
    LimitRule,
    Measure,
    Needs,
    digest,
)
from gateway.limits.standing import LimitStandings
from gateway.limits.status import LimitStatus
from gateway.limits.thresholds import LimitThreshold, is_seen_by, parse_thresholds, thresholds_of
from gateway.limits.told import LimitsTold
from gateway.limits.windows import LimitWindow

__all__ = [
    "KEPT_AFTER_WINDOW",
    "MAX_PATTERNS",
    "MOST_PER_MILLION",
    "NO_CONDITIONS",
    "Asking",
    "Claim",
    "Conditions",
    "Cost",
    "ExceptionKind",
    "LimitAdministration",
    "LimitDimension",
    "LimitReached",
    "LimitRule",
    "LimitStandings",
    "LimitStatus",
    "LimitThreshold",
    "LimitWindow",
    "Limits",
    "LimitsTold",
    "Measure",
    "Needs",
    "NewPrice",
    "PriceList",
    "Prices",
    "PricesWanted",
    "QuotaExceeded",
    "RateLimited",
    "Standings",
    "Used",
    "WantedException",
    "WantedLimit",
    "digest",
    "is_seen_by",
    "parse_thresholds",
    "shown_amount",
    "thresholds_of",
]
