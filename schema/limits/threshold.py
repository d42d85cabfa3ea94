"""What is told of a limit that is nearly used up."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Self

import strawberry

from gateway import limits
from schema.limits.status import LimitStatus, plain_status


@strawberry.type(description="A limit of which a share is used up: told once for each share in each window.")
class LimitThreshold:
    threshold: int = strawberry.field(
        description="How much of the limit is used at least, in percent: one of `OLLAGRAPH_LIMIT_THRESHOLDS`."
    )
    limit: LimitStatus = strawberry.field(description="The limit, and how it stood at that moment.")
    at: datetime = strawberry.field(description="The moment.")

    @classmethod
    def of(cls, reached: limits.LimitThreshold) -> Self:
        """Give the gateway's."""
        return cls(threshold=reached.threshold, limit=LimitStatus.of(reached.limit), at=reached.at)


def threshold_data(reached: limits.LimitThreshold) -> Mapping[str, Any]:
    """Give what a webhook tells: the fields of LimitThreshold."""
    return {
        "threshold": reached.threshold,
        "limit": plain_status(LimitStatus.of(reached.limit)),
        "at": reached.at.isoformat(),
    }
