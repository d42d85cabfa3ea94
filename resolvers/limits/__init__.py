"""The root fields of limits, and of what use costs."""

from resolvers.limits.limits import LimitMutation, LimitQuery
from resolvers.limits.prices import PriceMutation, PriceQuery
from resolvers.limits.thresholds import LimitSubscription

__all__ = ["LimitMutation", "LimitQuery", "LimitSubscription", "PriceMutation", "PriceQuery"]
