"""What is used, as it happens."""

from datetime import datetime
from typing import Self

import strawberry

from gateway import usage
from schema.limits.usage_sums import UsageCounts, costs_of, counts_of


@strawberry.type(description="Sums over the generations that ended within a moment.")
class UsageUpdate(UsageCounts):
    from_: datetime = strawberry.field(
        name="from",
        description="The start of the moment: the end of the update before, or when the subscription began.",
    )
    to: datetime = strawberry.field(description="The end of the moment.")

    @classmethod
    def of(cls, update: usage.UsageUpdate) -> Self:
        """Give the gateway's update."""
        return cls(from_=update.start, to=update.end, **counts_of(update.sums), costs=costs_of(update.sums.costs))
