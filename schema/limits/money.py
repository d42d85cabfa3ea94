"""Amounts of money."""

from decimal import Decimal
from typing import Self

import strawberry

from gateway import money


@strawberry.type(description="An amount of money.")
class Money:
    amount: Decimal = strawberry.field(description="The amount in units of the currency, exact to nine decimal places.")
    currency: str = strawberry.field(description="The currency, a code of ISO 4217 such as EUR.")

    @classmethod
    def of(cls, value: money.Money) -> Self:
        """Give the gateway's amount."""
        return cls(amount=value.amount, currency=value.currency)
