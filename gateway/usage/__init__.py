"""What was used: kept in sums, and told."""

from gateway.usage.calendar import Granularity
from gateway.usage.elsewhere import UsageElsewhere
from gateway.usage.feed import UsageFeed, UsageFollower, UsageUpdate
from gateway.usage.histograms import Measure, Percentiles, tokens_per_second
from gateway.usage.names import UsageNames
from gateway.usage.reports import (
    EarlierPeriod,
    Times,
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
from gateway.usage.rollups import Rollups
from gateway.usage.upkeep import UsageUpkeep

__all__ = [
    "EarlierPeriod",
    "Granularity",
    "Measure",
    "Percentiles",
    "Rollups",
    "Times",
    "Usage",
    "UsageDimension",
    "UsageElsewhere",
    "UsageFeed",
    "UsageFilter",
    "UsageFollower",
    "UsageNames",
    "UsageOrder",
    "UsagePage",
    "UsageReport",
    "UsageRequest",
    "UsageRow",
    "UsageSums",
    "UsageUpdate",
    "UsageUpkeep",
    "tokens_per_second",
]
