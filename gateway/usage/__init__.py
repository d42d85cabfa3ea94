"""What was used, summed up."""

from gateway.usage.calendar import Granularity
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
    "UsageFilter",
    "UsageOrder",
    "UsagePage",
    "UsageReport",
    "UsageRequest",
    "UsageRow",
    "UsageSums",
]
