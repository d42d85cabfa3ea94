"""What is used, as it happens."""

from datetime import datetime
from typing import Self

import strawberry

from gateway import usage
from gateway.money import Money as GatewayMoney
from schema.cost import FEW, list_of
from schema.limits.money import Money
from schema.scalars import SafeInt


@strawberry.type(description="Sums over the generations that ended within a moment.")
class UsageUpdate:
    from_: datetime = strawberry.field(
        name="from",
        description="The start of the moment: the end of the update before, or when the subscription began.",
    )
    to: datetime = strawberry.field(description="The end of the moment.")
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
        description="What they cost, for each currency of their prices.", directives=[list_of(FEW)]
    )

    @classmethod
    def of(cls, update: usage.UsageUpdate) -> Self:
        """Give the gateway's update."""
        return cls(
            from_=update.start,
            to=update.end,
            generations=SafeInt(update.completed + update.cancelled + update.failed),
            completed=SafeInt(update.completed),
            cancelled=SafeInt(update.cancelled),
            failed=SafeInt(update.failed),
            prompt_tokens=SafeInt(update.prompt_tokens),
            completion_tokens=SafeInt(update.completion_tokens),
            cached_tokens=SafeInt(update.cached_tokens),
            thinking_tokens=SafeInt(update.thinking_tokens),
            costs=[Money.of(GatewayMoney.of_nano(nano, currency)) for currency, nano in sorted(update.costs.items())],
        )
