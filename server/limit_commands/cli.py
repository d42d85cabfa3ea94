"""The commands about limits. What they do is in `commands.py`, which loads slowly."""

from functools import partial
from typing import Any

import click

from server.command_settings import run, settings_of_command, warn

MEASURES = ("requests", "tokens", "parallel", "cost")
WINDOWS = ("minute", "day", "month")
DIMENSIONS = ("user", "group", "api_key", "model", "end_user", "tag")


@click.group()
def limits() -> None:
    """List, set and remove limits on what generations use, and show what is left."""


@limits.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_limits(*, as_json: bool) -> None:
    """List all limits."""
    settings = settings_of_command(warn)
    from server.limit_commands import commands

    run(partial(commands.list_limits, settings, as_json=as_json))


@limits.command("set")
@click.argument("name")
@click.option("--measure", required=True, type=click.Choice(MEASURES), help="What it counts.")
@click.option("--window", type=click.Choice(WINDOWS), help="How long what was used counts; not for parallel.")
@click.option("--amount", required=True, help="What is allowed in a window.")
@click.option("--currency", help="The currency of cost, such as EUR.")
@click.option("--each", multiple=True, type=click.Choice(DIMENSIONS), help="What has an amount of its own.")
@click.option("--role", help="Count users with this role only.")
@click.option("--group", help="Count users in this group only.")
@click.option("--user", help="Count this user only.")
@click.option("--key", help="Count the API key with this id only.")
@click.option("--model", help="Count models whose name matches this pattern only, such as 'llama3*'.")
@click.option("--end-user", help="Count this end user only.")
@click.option("--tag", help="Count generations with this tag only: NAME or NAME=VALUE.")
@click.option("--time-zone", help="By whose clock days and months begin. Default: the user's own, else UTC.")
@click.option(
    "--except",
    "exceptions",
    multiple=True,
    metavar="KIND:NAME=AMOUNT",
    help="Another amount for a role, group, user or key (by its id), such as user:ada=500000 or role:admin=unlimited.",
)
def set_limit(**options: Any) -> None:
    """Make a limit, or replace the one of this name as a whole."""
    settings = settings_of_command(warn)
    from server.limit_commands import commands

    run(partial(commands.set_limit, settings, commands.LimitOptions(**options)))


@limits.command("remove")
@click.argument("name")
def remove_limit(name: str) -> None:
    """Remove a limit, with all that was counted for it."""
    settings = settings_of_command(warn)
    from server.limit_commands import commands

    run(partial(commands.remove_limit, settings, name))


@limits.command("show")
@click.argument("username")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show_limits(username: str, *, as_json: bool) -> None:
    """Show the limits that apply to a user, and what is left of them."""
    settings = settings_of_command(warn)
    from server.limit_commands import commands

    run(partial(commands.show_limits, settings, username, as_json=as_json))
