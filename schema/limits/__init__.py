"""What the use of models costs."""

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

__all__ = [
    "Money",
    "Price",
    "PriceConnection",
    "PriceEdge",
    "PriceFilter",
    "SetPriceInput",
    "SetPriceResult",
    "SetPriceSuccess",
]
