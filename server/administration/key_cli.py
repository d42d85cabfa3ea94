"""The commands about API keys and service accounts. What they do is in `key_commands.py`, which loads slowly."""

from functools import partial
from typing import Any

import click

from auth.scopes import Scope
from server.command_settings import run, settings_of_command, warn

_GRACE_HOURS = 24


@click.command("create-key")
@click.argument("username")
@click.option("--name", default="command line", show_default=True, help="What to call the key.")
@click.option("--expires-in-days", type=click.IntRange(min=1), help="When it ends. Default: never.")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice([scope.value for scope in Scope]),
    help="What it may do; may be given several times. Default: all that an app needs.",
)
@click.option("--model", "models", multiple=True, help="A pattern of models that it may use, such as 'llama3*'.")
@click.option("--network", "networks", multiple=True, help="A network from which it may be used, such as 10.0.0.0/8.")
@click.option("--origin", "origins", multiple=True, help="A site whose pages may use it, such as https://app.example.")
def create_key(username: str, **limits: Any) -> None:
    """Make an API key for a user or a service account and print it, once."""
    settings = settings_of_command(warn)
    from server.administration import key_commands

    run(partial(key_commands.create_key, settings, username, key_commands.KeyOptions(**limits)))


@click.command("list-keys")
@click.argument("username")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_keys(username: str, *, as_json: bool) -> None:
    """List the API keys of a user or a service account."""
    settings = settings_of_command(warn)
    from server.administration import key_commands

    run(partial(key_commands.list_keys, settings, username, as_json=as_json))


@click.command("rotate-key")
@click.argument("key")
@click.option(
    "--grace-hours",
    type=click.FloatRange(min=0),
    default=_GRACE_HOURS,
    show_default=True,
    help="How long the old secret works, too. 0 ends it at once.",
)
def rotate_key(key: str, grace_hours: float) -> None:
    """Give an API key a new secret and print it, once. KEY is its id, or the beginning that `keys list` shows."""
    settings = settings_of_command(warn)
    from server.administration import key_commands

    run(partial(key_commands.rotate_key, settings, key, grace_hours))


@click.command("revoke-key")
@click.argument("key")
def revoke_key(key: str) -> None:
    """End an API key at once. KEY is its id, or the beginning that `keys list` shows."""
    settings = settings_of_command(warn)
    from server.administration import key_commands

    run(partial(key_commands.revoke_key, settings, key))


@click.command("create-service-account")
@click.argument("username")
@click.option("--role", default="user", show_default=True, help="What its keys may do at most.")
@click.option("--display-name", help="A name for people.")
@click.option("--time-zone", help="By whose clock its days and months begin, as Europe/Berlin. Default: UTC.")
def create_service_account(username: str, role: str, display_name: str | None, time_zone: str | None) -> None:
    """Make a user for programs, who owns API keys and cannot sign in with a password."""
    settings = settings_of_command(warn)
    from server.administration import key_commands

    told = {"display_name": display_name, "time_zone": time_zone}
    run(partial(key_commands.create_service_account, settings, username, role=role, **told))


KEY_COMMANDS = (create_key, list_keys, rotate_key, revoke_key, create_service_account)
