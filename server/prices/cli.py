"""The commands about prices. What they do is in `server.prices.commands`, which loads slowly."""

from functools import partial
from typing import Any

import click

from server.command_settings import run, settings_of_command, warn


@click.group()
def prices() -> None:
    """List and set what tokens cost."""


@prices.command("list")
@click.option("--model", help="The name of a model: the prices that are for it.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_prices(model: str | None, *, as_json: bool) -> None:
    """List all prices, also those that hold no longer, the last one set first."""
    settings = settings_of_command(warn)
    from server.prices import commands

    run(partial(commands.list_prices, settings, model, as_json=as_json))


@prices.command("set")
@click.argument("model")
@click.option("--currency", required=True, help="A code of ISO 4217, such as EUR.")
@click.option("--prompt", required=True, help="For a million prompt tokens, such as 0.15.")
@click.option("--completion", required=True, help="For a million completion tokens.")
@click.option("--cached", help="For a million prompt tokens that were cached. Default: as other prompt tokens.")
@click.option("--valid-from", help="From when it holds, such as 2026-01-31T12:00:00Z. Default: now.")
@click.option("--json", "as_json", is_flag=True, help="Print the price as a JSON object.")
def set_price(model: str, *, as_json: bool, **given: Any) -> None:
    """Set the price of a model, or of all that a pattern means, such as 'llama3*'.

    It holds from then on instead of the one before, which stays in the list.
    """
    settings = settings_of_command(warn)
    from server.prices import commands

    run(partial(commands.set_price, settings, commands.PriceOptions(model, **given), as_json=as_json))
