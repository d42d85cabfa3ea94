"""What the use of models costs."""

from gateway.limits.prices import (
    MAX_PATTERNS,
    MOST_PER_MILLION,
    Cost,
    NewPrice,
    PriceList,
    Prices,
    PricesWanted,
)

__all__ = [
    "MAX_PATTERNS",
    "MOST_PER_MILLION",
    "Cost",
    "NewPrice",
    "PriceList",
    "Prices",
    "PricesWanted",
]
