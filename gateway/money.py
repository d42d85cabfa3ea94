"""Amounts of money: exact decimals outside, integers of a billionth of the currency's unit in the database."""

from dataclasses import dataclass
from decimal import Context, Decimal, localcontext

from iso4217 import Currency

DIGITS = 9
"""Decimal places of an amount: 1e-9 is the smallest one."""

NANO = 10**DIGITS

MINOR_UNITS: dict[str, int] = {it.code: it.exponent for it in Currency if it.exponent is not None}
"""The currencies in use and the digits of their smallest coin: List One of ISO 4217, as the package `iso4217` has it.

Metals, test codes and other units without a smallest coin are left out: nothing is charged in them.
"""

CURRENCY_RULE = "a code of ISO 4217 of a currency in use: three capital letters, such as EUR."
"""What a currency must be, for messages."""

LARGEST_NANO = 2**63 - 1
"""The largest amount that a column holds, about 9.2 billion units."""

_EXACT = Context(prec=60)
"""More digits than any amount has, so that nothing is rounded."""


@dataclass(frozen=True, slots=True)
class Money:
    """An amount of a currency (ISO 4217, such as EUR)."""

    amount: Decimal
    currency: str

    @classmethod
    def of_nano(cls, nano: int, currency: str) -> "Money":
        """Give an amount as the database has it."""
        return Money(decimal_of(nano), currency)


def decimal_of(nano: int) -> Decimal:
    """Give billionths in units, without zeros at the end."""
    with localcontext(_EXACT):
        return Decimal(nano).scaleb(-DIGITS).normalize()


def nano_of(amount: Decimal) -> int | None:
    """Give units in billionths; None for what is no whole number of them."""
    if not amount.is_finite() or amount.adjusted() > DIGITS * 3 or len(amount.as_tuple().digits) > _EXACT.prec:
        return None
    with localcontext(_EXACT):
        nano = amount.scaleb(DIGITS)
        return int(nano) if nano == nano.to_integral_value() else None


def shown_money(nano: int, currency: str) -> str:
    """Write an amount for people: exact, and with all digits of the currency's smallest coin."""
    amount = decimal_of(nano)
    digits = max(MINOR_UNITS.get(currency, 0), -int(amount.as_tuple().exponent))
    return f"{amount:,.{digits}f} {currency}"
