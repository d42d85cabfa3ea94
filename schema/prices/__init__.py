"""What the use of models costs. Apart from the limits: a price tells who set it, and a user which limits apply."""

from schema.prices.price import (
    Price,
    PriceConnection,
    PriceEdge,
    PriceFilter,
    SetPriceInput,
    SetPriceResult,
    SetPriceSuccess,
)

__all__ = [
    "Price",
    "PriceConnection",
    "PriceEdge",
    "PriceFilter",
    "SetPriceInput",
    "SetPriceResult",
    "SetPriceSuccess",
]
