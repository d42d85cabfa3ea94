"""What the command line does to prices. Whoever has the machine may do all of it."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import click
import orjson

from db.tables import Price
from gateway.errors import InputIssues
from gateway.identity import OPERATOR
from gateway.limits import NewPrice, Prices, PricesWanted
from gateway.money import decimal_of
from schema.scalars import read_decimal
from server.audit_export import read_moment
from server.commands import opened
from server.settings import Settings

AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class PriceOptions:
    """The arguments of `prices set`, as they were typed."""

    model: str
    currency: str
    prompt: str
    completion: str
    cached: str | None = None
    valid_from: str | None = None

    def price(self) -> NewPrice:
        """Read them. Raises InvalidInput, with all that cannot be read."""
        issues = InputIssues()
        amounts = {name: _amount(getattr(self, name), name, issues) for name in ("prompt", "completion", "cached")}
        valid_from = None
        try:
            valid_from = None if self.valid_from is None else read_moment(self.valid_from, "--valid-from")
        except ValueError as error:
            issues.add("valid-from", str(error))
        issues.check()
        prompt, completion, cached = (amounts[name] for name in ("prompt", "completion", "cached"))
        return NewPrice(self.model, self.currency, prompt or Decimal(0), completion or Decimal(0), cached, valid_from)


async def list_prices(settings: Settings, model: str | None, *, as_json: bool) -> None:
    """Print all prices, a line for each."""
    async with _opened_prices(settings) as (prices, place):
        before, has_more, found = None, True, list[Price]()
        while has_more:
            rows, has_more = await prices.page(PricesWanted(model), AT_ONCE, before)
            found += rows
            before = rows[-1].id if rows else None
        if as_json:
            click.echo(orjson.dumps([_told(row) for row in found]))
            return
        for row in found:
            click.echo(_line(row))
        if not found:
            click.echo(f"There are no such prices in the database {place}.", err=True)


async def set_price(settings: Settings, options: PriceOptions, *, as_json: bool) -> None:
    """Set a price and print it."""
    async with _opened_prices(settings) as (prices, place):
        row = await prices.set(OPERATOR, options.price())
        click.echo(f"Set the price in the database {place}.", err=True)
        click.echo(orjson.dumps(_told(row)) if as_json else _line(row))


@asynccontextmanager
async def _opened_prices(settings: Settings) -> AsyncGenerator[tuple[Prices, str]]:
    async with opened(settings) as (database, _):
        yield Prices(database, settings.identity_max_age), database.place


def _amount(text: str | None, name: str, issues: InputIssues) -> Decimal | None:
    found = None if text is None else read_decimal(text)
    if text is not None and found is None:
        issues.add(name, "must be a number of digits with at most one point, such as 0.15.")
    return found


def _told(row: Price) -> dict[str, Any]:
    amounts = {"prompt": row.prompt_nano, "cached": row.cached_nano, "completion": row.completion_nano}
    return {
        "model": row.model,
        "currency": row.currency,
        **{name: None if nano is None else format(decimal_of(nano), "f") for name, nano in amounts.items()},
        "valid_from": row.valid_from.isoformat(),
        "created_at": row.created_at.isoformat(),
        "set_by": None if row.set_by is None else str(row.set_by),
    }


def _line(row: Price) -> str:
    told = _told(row)
    amounts = [f"{name} {told[name]}" for name in ("prompt", "cached", "completion") if told[name] is not None]
    return f"{row.model}\t{', '.join(amounts)} {row.currency} per million\tfrom {row.valid_from:%Y-%m-%d %H:%M} UTC"
