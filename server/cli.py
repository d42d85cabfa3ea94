"""The command line: `ollagraph`, or `python -m server`."""

from collections.abc import AsyncGenerator, Coroutine
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, cast

import anyio
import click
from alembic.util import CommandError

from auth.errors import AuthenticationError
from auth.passwords import generate_password
from auth.scopes import Scope
from db.engine import Database, DatabaseUnavailable
from db.migrations import MigrationsMissing, current_revision, upgrade
from db.tables import now
from db.urls import DatabaseUrlError
from gateway.errors import GatewayError
from gateway.identity import Identity
from server import logs
from server.settings import Settings, SettingsError, load_settings
from server.setup import make_identity, prepare_data_dir

EXPECTED = (
    SettingsError,
    GatewayError,
    AuthenticationError,
    DatabaseUnavailable,
    DatabaseUrlError,
    MigrationsMissing,
    CommandError,
)
"""What is told in one sentence; everything else is a bug and comes with its traceback."""


class _Commands(click.Group):
    """Tells expected errors in a sentence, and leaves with status 1."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except Exception as error:
            cause = _unwrapped(error)
            if isinstance(cause, EXPECTED):
                raise click.ClickException(str(cause)) from error
            raise


def _unwrapped(error: Exception) -> Exception:
    """The one error in the groups that task groups put around what leaves them."""
    while isinstance(error, ExceptionGroup):
        group = cast("ExceptionGroup[Exception]", error)
        if len(group.exceptions) != 1:
            return group
        error = group.exceptions[0]
    return error


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Ollagraph: a self-hosted GraphQL gateway in front of language models.

    Settings come from the environment (OLLAGRAPH_...) or a file .env; see docs/settings.md.
    """


@main.command()
def serve() -> None:
    """Start the gateway: set up the database, make the first administrator if there is none, and listen."""
    from server.serve import serve as run_server  # what the other commands need not wait for

    settings = load_settings()
    logs.configure(settings.log_level)
    run_server(settings)


@main.command()
def migrate() -> None:
    """Bring the database's tables up to date, without starting the gateway."""
    settings = load_settings()

    async def run() -> None:
        async with _database(settings) as database:
            before = await current_revision(database)
            click.echo(f"Migrating from {before or 'an empty database'} ...")
            await upgrade(database)
            click.echo(f"The database is at {await current_revision(database)}.")

    _run(run())


@main.command("create-user")
@click.argument("username")
@click.option("--admin", is_flag=True, help="Make an administrator.")
@click.option("--password", envvar="OLLAGRAPH_NEW_PASSWORD", help="The password. Default: made up and shown once.")
def create_user(username: str, *, admin: bool, password: str | None) -> None:
    """Make a user who can sign in.

    A password on the command line can be seen by others on the machine: rather give it in the environment as
    OLLAGRAPH_NEW_PASSWORD.
    """
    settings = load_settings()

    async def run() -> None:
        async with _identity(settings) as identity:
            user = await identity.create_user(username, password or made_up, is_admin=admin)
            click.echo(f"Made the {'administrator' if admin else 'user'} {user.username}.")
            if password is None:
                click.echo(f"Password: {made_up}\nIt is shown this once.")

    made_up = generate_password()
    _run(run())


@main.command("create-key")
@click.argument("username")
@click.option("--name", default="command line", show_default=True, help="What to call the key.")
@click.option("--expires-in-days", type=click.IntRange(min=1), help="When it ends. Default: never.")
@click.option(
    "--scope", "scopes", multiple=True, type=click.Choice([scope.value for scope in Scope]),
    help="What it may do; may be given several times. Default: all that an app needs.",
)  # fmt: skip
def create_key(username: str, name: str, expires_in_days: int | None, scopes: tuple[str, ...]) -> None:
    """Make an API key for a user and print it, once."""
    settings = load_settings()

    async def run() -> None:
        async with _identity(settings) as identity:
            principal = await identity.principal_named(username)
            expires_at = None if expires_in_days is None else now() + timedelta(days=expires_in_days)
            wanted = [Scope(scope) for scope in scopes] or None
            new = await identity.create_api_key(principal, name, expires_at, wanted)
            click.echo(f"API key {new.key.name!r} of {principal.username}, shown this once:", err=True)
            click.echo(new.secret)

    _run(run())


@main.command()
@click.argument("username")
def unlock(username: str) -> None:
    """Open sign-in under a name again, which too many wrong passwords have closed.

    Forgets what was counted under the name and at the addresses that tried it. The gateway need not be restarted.
    """
    settings = load_settings()

    async def run() -> None:
        async with _identity(settings) as identity:
            counted = await identity.unlock(username)
            said = "is open again" if counted else "was open: nothing had been counted"
            click.echo(f"Sign-in as {username!r} {said}.")

    _run(run())


@main.command("export-schema")
def export_schema() -> None:
    """Print the GraphQL schema in the schema definition language."""
    from resolvers.root import build_schema

    click.echo(build_schema().as_str())


@asynccontextmanager
async def _database(settings: Settings) -> AsyncGenerator[Database]:
    prepare_data_dir(settings)
    database = Database(settings.database)
    try:
        yield database
    finally:
        await database.close()


@asynccontextmanager
async def _identity(settings: Settings) -> AsyncGenerator[Identity]:
    async with _database(settings) as database:
        await upgrade(database)
        yield make_identity(settings, database)


def _run(work: Coroutine[Any, Any, None]) -> None:
    async def run() -> None:
        await work

    anyio.run(run)
