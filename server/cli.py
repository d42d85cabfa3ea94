"""The command line: `ollagraph`, or `python -m server`."""

import gc
from functools import partial
from typing import Any, Literal, cast

import click

from server.care import CARE_COMMANDS
from server.client import CLIENT_COMMANDS
from server.command_settings import run as _run
from server.command_settings import settings_of_command as _settings
from server.command_settings import warn as _warn
from server.demo import demo_data
from server.key_cli import KEY_COMMANDS
from server.limit_commands import limits
from server.prices import prices
from server.settings import SettingsError
from server.usage import usage


class _Commands(click.Group):
    """Tells expected errors in a sentence, and leaves with status 1."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except Exception as error:
            if sentence := told(error):
                raise click.ClickException(sentence) from error
            raise


def told(error: Exception) -> str | None:
    """Give the sentence for an error that was to be expected, or for a group of them; None for a bug."""
    sentences = [_sentence(leaf) for leaf in _leaves(error)]
    return sentences[0] if all(sentences) else None


def _leaves(error: Exception) -> list[Exception]:
    """Give the errors in the groups that task groups put around what leaves them."""
    if not isinstance(error, ExceptionGroup):
        return [error]
    group = cast("ExceptionGroup[Exception]", error)
    return [leaf for inner in group.exceptions for leaf in _leaves(inner)]


def _sentence(error: Exception) -> str | None:
    """Give what is told of an expected error; None for a bug, and for what click tells by itself."""
    if isinstance(error, click.ClickException):
        return None
    if isinstance(error, SettingsError):
        return str(error)
    from server.commands import sentence

    return sentence(error)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Ollagraph: a self-hosted GraphQL gateway in front of language models.

    Settings come from the environment (OLLAGRAPH_...) or a file .env; see docs/settings.md.
    """


@main.command()
@click.option("--workers", metavar="N|auto", help="Processes that serve together, as OLLAGRAPH_WORKERS.")
def serve(workers: str | None) -> None:
    """Start the gateway: set up the database, make the first administrator if there is none, and listen."""
    settings = _settings(workers=workers)
    if settings.workers > 1:
        from server.workers import supervise

        supervise(settings)
        return
    # What is loaded now is never garbage, and looking for some in it would take a sixth of the time.
    gc.disable()
    from server.serve import serve as run_server  # what the other commands, and a mistake, need not wait for

    run_server(settings)


@main.command()
def migrate() -> None:
    """Bring the database's tables up to date, without starting the gateway."""
    settings = _settings(_warn)
    from server import commands

    _run(partial(commands.migrate, settings))


@main.command("create-user")
@click.argument("username")
@click.option("--admin", is_flag=True, help="Make an administrator: the same as --role admin.")
@click.option("--role", default="developer", show_default=True, help="What the user may do.")
@click.option("--password", envvar="OLLAGRAPH_NEW_PASSWORD", help="The password. Default: made up and shown once.")
def create_user(username: str, *, admin: bool, role: str, password: str | None) -> None:
    """Make a user who can sign in.

    A password on the command line can be seen by others on the machine: rather give it in the environment as
    OLLAGRAPH_NEW_PASSWORD.
    """
    settings = _settings(_warn)
    from server import commands

    _run(partial(commands.create_user, settings, username, password, role="admin" if admin else role))


@main.command("list-users")
def list_users() -> None:
    """List the users: name, role, kind, and whether they are active."""
    settings = _settings(_warn)
    from server import commands

    _run(partial(commands.list_users, settings))


@main.command("set-role")
@click.argument("username")
@click.argument("role")
def set_role(username: str, role: str) -> None:
    """Give a user another role, which decides what they may do."""
    settings = _settings(_warn)
    from server import commands

    _run(partial(commands.set_role, settings, username, role))


@main.command("reset-password")
@click.argument("username")
def reset_password(username: str) -> None:
    """Give a user a new password, made up and shown once, which they have to change when they sign in with it.

    Opens sign-in under the name again, and ends the user's sessions. The gateway need not be restarted.
    """
    settings = _settings(_warn)
    from server import commands

    _run(partial(commands.reset_password, settings, username))


@main.command("deactivate-user")
@click.argument("username")
def deactivate_user(username: str) -> None:
    """Let a user do nothing any more, and end their sessions."""
    settings = _settings(_warn)
    from server import commands

    _run(partial(commands.deactivate_user, settings, username))


@main.command("reactivate-user")
@click.argument("username")
def reactivate_user(username: str) -> None:
    """Let a user who was deactivated come back."""
    settings = _settings(_warn)
    from server import commands

    _run(partial(commands.reactivate_user, settings, username))


@main.command("delete-user")
@click.argument("username")
@click.option("--yes", is_flag=True, help="Do not ask whether it is meant.")
def delete_user(username: str, *, yes: bool) -> None:
    """Delete a user for good, with their keys, prompts and answers. What they used stays in the reports."""
    settings = _settings(_warn)
    if not yes:
        click.confirm(f"Delete {username}, their keys, prompts and answers for good?", abort=True)
    from server import commands

    _run(partial(commands.delete_user, settings, username))


@main.command()
@click.argument("username")
def unlock(username: str) -> None:
    """Open sign-in under a name again, which too many wrong passwords have closed.

    Forgets what was counted under the name and at the addresses that tried it. The gateway need not be restarted.
    """
    settings = _settings(_warn)
    from server import commands

    _run(partial(commands.unlock, settings, username))


@main.command("export-audit")
@click.option("--since", help="From this moment on, such as 2026-01-31T12:00:00Z.")
@click.option("--until", help="Before this moment.")
def export_audit(since: str | None, until: str | None) -> None:
    """Print the audit log as JSON lines, oldest first."""
    settings = _settings(_warn)
    from server import commands

    _run(partial(commands.export_audit, settings, since, until))


@main.command("create-signing-key")
@click.option(
    "--algorithm", type=click.Choice(["EdDSA", "RS256"], case_sensitive=False), default="EdDSA", show_default=True,
    help="EdDSA (Ed25519), or RS256 (RSA, 3072 bits) for readers that know no other.",
)  # fmt: skip
def create_signing_key(algorithm: Literal["EdDSA", "RS256"]) -> None:
    """Make a key that signs access tokens, in the folder OLLAGRAPH_SIGNING_KEYS.

    Running gateways take it without a restart. The file is readable by its owner only.
    """
    settings = _settings(_warn)
    from server import commands

    commands.create_signing_key(settings, algorithm)


@main.command("export-schema")
def export_schema() -> None:
    """Print the GraphQL schema in the schema definition language."""
    from resolvers.root import build_schema

    click.echo(build_schema().as_str())


for command in (*KEY_COMMANDS, limits, prices, usage, demo_data, *CARE_COMMANDS, *CLIENT_COMMANDS):
    main.add_command(command)
