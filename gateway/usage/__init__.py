"""What was used, summed up."""

from gateway.usage.calendar import Granularity
from gateway.usage.feed import UsageFeed, UsageFollower, UsageUpdate
from gateway.usage.reports import (
    Usage,
    UsageDimension,
    UsageFilter,
    UsageOrder,
    UsagePage,
    UsageReport,
    UsageRequest,
    UsageRow,
    UsageSums,
)

__all__ = [
    "Granularity",
    "Usage",
    "UsageDimension",
    "UsageFeed",
    "UsageFilter",
    "UsageFollower",
    "UsageOrder",
    "UsagePage",
    "UsageReport",
    "UsageRequest",
    "UsageRow",
    "UsageSums",
    "UsageUpdate",
]
