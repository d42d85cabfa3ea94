"""Limits: how they stand for somebody, and what they refuse."""

from datetime import datetime
from decimal import Decimal
from typing import Any, Self

import strawberry

from gateway import limits
from gateway.limits import LimitDimension, LimitWindow, Measure
from gateway.money import decimal_of
from schema.cost import FEW, WITHIN, list_of
from schema.node import global_id
from schema.scalars import decimal_text

ASSUMED_LIMITS = 10
"""Limits that are assumed to apply to one caller."""

ASSUMED_LIMITS_OF_EACH = 3
"""Limits that are assumed to count each of many users, keys, groups or generations: they are read together."""

WHO_MAY_SEE = (
    "Null if the caller may not see it. Needs USAGE_READ; what is neither the caller's own nor of a group of theirs "
    "needs USAGE_READ_ALL."
)

_KINDS = {LimitDimension.USER: "User", LimitDimension.GROUP: "Group", LimitDimension.API_KEY: "ApiKey"}


@strawberry.type(description="A part of whose limit it is.")
class LimitScope:
    dimension: LimitDimension = strawberry.field(description="What the limit counts by.")
    value: str = strawberry.field(
        description="For USER, GROUP and API_KEY the global id; for MODEL the name, for END_USER and TAG the value."
    )


@strawberry.type(
    description="How a limit stands now. Amounts are numbers of requests, of tokens or of generations at once; of COST "
    "they are in the unit of `currency`."
)
class LimitStatus:
    name: str = strawberry.field(description="The limit's name.")
    measure: Measure = strawberry.field(description="What it counts.")
    window: LimitWindow | None = strawberry.field(
        description="How long what was used counts; null for what runs at once."
    )
    currency: str | None = strawberry.field(description="The currency of COST (ISO 4217), null for other measures.")
    scope: list[LimitScope] = strawberry.field(
        description="Whose it is; empty: it is shared by all whom the limit is for.",
        directives=[WITHIN, list_of(FEW)],
    )
    used: Decimal = strawberry.field(description="What generations that have ended used in this window.")
    reserved: Decimal = strawberry.field(description="The most that running generations may use.")
    limit: Decimal = strawberry.field(description="What is allowed in a window.")
    remaining: Decimal = strawberry.field(description="What is neither used nor reserved, 0 or more.")
    resets_at: datetime | None = strawberry.field(
        description="When what was used counts no longer; null for what runs at once, and for a minute that has not "
        "begun: it begins with the first request."
    )

    @classmethod
    def of(cls, status: limits.LimitStatus) -> Self:
        """Give the status of a limit of the gateway."""

        def amount(value: int) -> Decimal:
            return decimal_of(value) if status.measure is Measure.COST else Decimal(value)

        return cls(
            name=status.name,
            measure=status.measure,
            window=status.window,
            currency=status.currency,
            scope=[
                LimitScope(dimension=it, value=global_id(_KINDS[it], value) if it in _KINDS else value)
                for it, value in status.scope.items()
            ],
            used=amount(status.used),
            reserved=amount(status.reserved),
            limit=amount(status.limit),
            remaining=amount(status.remaining),
            resets_at=status.resets_at,
        )

    @classmethod
    def all(cls, statuses: list[limits.LimitStatus] | None) -> list[Self] | None:
        """Give several, or null for what may not be seen."""
        return None if statuses is None else [cls.of(status) for status in statuses]


def limits_extension(told: limits.LimitsTold) -> list[dict[str, Any]]:
    """Give what a response tells of limits in its `extensions`: the fields of LimitStatus."""
    return [plain_status(LimitStatus.of(status)) for status in told.statuses]


def plain_status(status: LimitStatus) -> dict[str, Any]:
    """Give the fields of a status as they stand in JSON."""
    amounts = {name: decimal_text(getattr(status, name)) for name in ("used", "reserved", "limit", "remaining")}
    return {
        "name": status.name,
        "measure": status.measure.value,
        "window": status.window and status.window.value,
        "currency": status.currency,
        "scope": [{"dimension": part.dimension.value, "value": part.value} for part in status.scope],
        **amounts,
        "resetsAt": status.resets_at and status.resets_at.isoformat(),
    }
