"""Sums of what was used."""

from collections.abc import Iterable

import strawberry

from gateway import usage
from gateway.money import Money as GatewayMoney
from schema.cost import FEW, list_of
from schema.limits.money import Money
from schema.scalars import SafeInt

COUNTS = (
    *("generations", "completed", "cancelled", "failed"),
    *("prompt_tokens", "completion_tokens", "cached_tokens", "thinking_tokens"),
)
"""The fields that are numbers."""


@strawberry.type
class UsageCounts:
    """What types that tell of usage have in common; it is no type of the API."""

    generations: SafeInt = strawberry.field(description="How many generations ended.")
    completed: SafeInt = strawberry.field(description="Of these, how many were completed.")
    cancelled: SafeInt = strawberry.field(description="Of these, how many were cancelled.")
    failed: SafeInt = strawberry.field(description="Of these, how many failed.")
    prompt_tokens: SafeInt = strawberry.field(description="Tokens that models read, including cached ones.")
    completion_tokens: SafeInt = strawberry.field(description="Tokens that models wrote.")
    cached_tokens: SafeInt = strawberry.field(description="Prompt tokens that a model had in its cache.")
    thinking_tokens: SafeInt = strawberry.field(
        description="Completion tokens that models spent on thinking, as far as backends report them."
    )
    costs: list[Money] = strawberry.field(
        description="What they cost, in each currency, ordered by currency. Generations without a price are not in it.",
        directives=[list_of(FEW)],
    )


def counts_of(sums: usage.UsageSums) -> dict[str, SafeInt]:
    """Give the numbers of sums by field."""
    return {name: SafeInt(getattr(sums, name)) for name in COUNTS}


def costs_of(costs: Iterable[tuple[str, int]]) -> list[Money]:
    """Give costs in the API's type."""
    return [Money.of(GatewayMoney.of_nano(nano, currency)) for currency, nano in costs]
