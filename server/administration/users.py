"""The commands about users. What they do is in `server.commands`, which loads slowly."""

from functools import partial

import click

from server.administration.key_cli import create_service_account
from server.command_settings import run, settings_of_command, warn


@click.command("create-user")
@click.argument("username")
@click.option("--admin", is_flag=True, help="Make an administrator: the same as --role admin.")
@click.option("--role", default="developer", show_default=True, help="What the user may do.")
@click.option("--password", envvar="OLLAGRAPH_NEW_PASSWORD", help="The password. Default: made up and shown once.")
@click.option("--time-zone", help="By whose clock the user's days and months begin, as Europe/Berlin. Default: UTC.")
def create_user(username: str, *, admin: bool, role: str, password: str | None, time_zone: str | None) -> None:
    """Make a user who can sign in.

    A password on the command line can be seen by others on the machine: rather give it in the environment as
    OLLAGRAPH_NEW_PASSWORD.
    """
    settings = settings_of_command(warn)
    from server import commands

    role = "admin" if admin else role
    run(partial(commands.create_user, settings, username, password, role=role, time_zone=time_zone))


@click.command("list-users")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_users(*, as_json: bool) -> None:
    """List the users: name, role, kind, and whether they are active."""
    settings = settings_of_command(warn)
    from server import commands

    run(partial(commands.list_users, settings, as_json=as_json))


@click.command("set-role")
@click.argument("username")
@click.argument("role")
def set_role(username: str, role: str) -> None:
    """Give a user another role, which decides what they may do."""
    settings = settings_of_command(warn)
    from server import commands

    run(partial(commands.set_role, settings, username, role))


@click.command("reset-password")
@click.argument("username")
def reset_password(username: str) -> None:
    """Give a user a new password, made up and shown once, which they have to change when they sign in with it.

    Opens sign-in under the name again, and ends the user's sessions. The gateway need not be restarted.
    """
    settings = settings_of_command(warn)
    from server import commands

    run(partial(commands.reset_password, settings, username))


@click.command("deactivate-user")
@click.argument("username")
def deactivate_user(username: str) -> None:
    """Let a user do nothing any more, and end their sessions."""
    settings = settings_of_command(warn)
    from server import commands

    run(partial(commands.deactivate_user, settings, username))


@click.command("reactivate-user")
@click.argument("username")
def reactivate_user(username: str) -> None:
    """Let a user who was deactivated come back."""
    settings = settings_of_command(warn)
    from server import commands

    run(partial(commands.reactivate_user, settings, username))


@click.command("delete-user")
@click.argument("username")
@click.option("--yes", is_flag=True, help="Do not ask whether it is meant.")
def delete_user(username: str, *, yes: bool) -> None:
    """Delete a user for good, with their keys, prompts and answers. What they used stays in the reports."""
    settings = settings_of_command(warn)
    if not yes:
        click.confirm(f"Delete {username}, their keys, prompts and answers for good?", abort=True)
    from server import commands

    run(partial(commands.delete_user, settings, username))


@click.command()
@click.argument("username")
def unlock(username: str) -> None:
    """Open sign-in under a name again, which too many wrong passwords have closed.

    Forgets what was counted under the name and at the addresses that tried it. The gateway need not be restarted.
    """
    settings = settings_of_command(warn)
    from server import commands

    run(partial(commands.unlock, settings, username))


@click.group()
def users() -> None:
    """List, make, change and delete users."""


for _name, _command in {
    "list": list_users,
    "create": create_user,
    "create-service-account": create_service_account,
    "set-role": set_role,
    "reset-password": reset_password,
    "deactivate": deactivate_user,
    "reactivate": reactivate_user,
    "delete": delete_user,
    "unlock": unlock,
}.items():
    users.add_command(_command, _name)
