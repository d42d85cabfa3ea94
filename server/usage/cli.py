"""The command that prints usage reports. What it does is in `server.usage.commands`, which loads slowly."""

from functools import partial
from typing import Any

import click

from server.command_settings import run, settings_of_command, warn


@click.command()
@click.option(
    "--from", "from_", help="From this moment on, such as 2026-01-31T12:00:00Z. Default: 30 days before --to."
)
@click.option("--to", help="Before this moment. Default: now.")
@click.option("--time-zone", default="UTC", show_default=True, help="Of hours, days, weeks and months: an IANA name.")
@click.option("--granularity", default="DAY", show_default=True, help="HOUR, DAY, WEEK, MONTH or NONE.")
@click.option("--group-by", multiple=True, help="MODEL, API_KEY, USER, GROUP, BACKEND, FINISH, TAG or END_USER.")
@click.option("--percentiles", is_flag=True, help="Also how fast generations were; slower with many of them.")
@click.option("--format", "form", type=click.Choice(["csv", "jsonl"]), default="csv", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array, in place of --format.")
def usage(**given: Any) -> None:
    """Print what all users used, oldest first, as CSV or JSON lines."""
    settings = settings_of_command(warn)
    from server.usage import commands

    run(partial(commands.print_usage, settings, **given))
