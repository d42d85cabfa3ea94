"""What limits the use of models, and what it costs."""

from schema.limits.money import Money
from schema.limits.price import (
    Price,
    PriceConnection,
    PriceEdge,
    PriceFilter,
    SetPriceInput,
    SetPriceResult,
    SetPriceSuccess,
)
from schema.limits.refusals import QuotaExceeded, RateLimited
from schema.limits.status import ASSUMED_LIMITS, LimitScope, LimitStatus
from schema.limits.usage_update import UsageUpdate

__all__ = [
    "ASSUMED_LIMITS",
    "LimitScope",
    "LimitStatus",
    "Money",
    "Price",
    "PriceConnection",
    "PriceEdge",
    "PriceFilter",
    "QuotaExceeded",
    "RateLimited",
    "SetPriceInput",
    "SetPriceResult",
    "SetPriceSuccess",
    "UsageUpdate",
]
