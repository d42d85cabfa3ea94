"""The root fields of limits, and of what use costs."""

from resolvers.limits.limits import LimitMutation, LimitQuery
from resolvers.limits.prices import PriceMutation, PriceQuery

__all__ = ["LimitMutation", "LimitQuery", "PriceMutation", "PriceQuery"]
