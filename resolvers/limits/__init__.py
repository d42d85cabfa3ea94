"""The root fields of what use costs."""

from resolvers.limits.prices import PriceMutation, PriceQuery

__all__ = ["PriceMutation", "PriceQuery"]
