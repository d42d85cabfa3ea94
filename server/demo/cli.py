"""The command `demo-data`. What it does is in `server.demo.commands`, which loads slowly."""

from functools import partial

import click

from server.command_settings import run, settings_of_command, warn


@click.command("demo-data")
@click.option("--users", type=click.IntRange(1, 10_000), default=25, show_default=True, help="How many users.")
@click.option(
    "--generations",
    type=click.IntRange(1, 10_000_000),
    default=50_000,
    show_default=True,
    help="How many rows of the usage ledger.",
)
@click.option("--days", type=click.IntRange(1, 3_660), default=365, show_default=True, help="Over how many days.")
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed gives the same data.")
@click.option(
    "--until", type=click.DateTime(["%Y-%m-%d"]), help="The day after the last one, such as 2026-12-31. Default: today."
)
@click.option(
    "--sum-up", is_flag=True, help="Also add it to the sums of reports, which a gateway does in the background."
)
def demo_data(**options: object) -> None:
    """Fill a new database with users, keys, prices, a year of usage and some conversations, all made up.

    For looking at the product, and for developing it: refuses a database that is in use, and production.
    """
    settings = settings_of_command(warn)
    from server.demo import commands

    run(partial(commands.demo_data, settings, commands.DemoOptions(**options)))  # pyright: ignore[reportArgumentType]
