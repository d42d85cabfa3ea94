"""The commands about API keys and sessions, grouped by noun."""

from functools import partial

import click

from server.administration.key_cli import create_key, list_keys, revoke_key, rotate_key
from server.command_settings import run, settings_of_command, warn


@click.group()
def keys() -> None:
    """List, make, rotate and revoke API keys."""


for _name, _command in {"list": list_keys, "create": create_key, "rotate": rotate_key, "revoke": revoke_key}.items():
    keys.add_command(_command, _name)


@click.group()
def sessions() -> None:
    """List and end the sessions of users."""


@sessions.command("list")
@click.argument("username")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_sessions(username: str, *, as_json: bool) -> None:
    """List the sessions of a user that hold, those used last first."""
    settings = settings_of_command(warn)
    from server.administration import listing

    run(partial(listing.list_sessions, settings, username, as_json=as_json))


@sessions.command("revoke")
@click.argument("session")
def revoke_session(session: str) -> None:
    """End a session at once. SESSION is its id, as the list shows it."""
    settings = settings_of_command(warn)
    from server.administration import listing

    run(partial(listing.revoke_session, settings, session))
