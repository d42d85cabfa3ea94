"""The command line: `ollagraph`, or `python -m server`."""

import logging
import os
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, cast

import anyio
import click
from sqlalchemy.exc import DBAPIError

from auth.errors import AuthenticationError
from auth.passwords import generate_password
from auth.scopes import Scope
from auth.weak_secrets import is_common_password
from db.engine import Database, DatabaseUnavailable, unavailable
from db.failures import explain
from db.migrations import MigrationsMissing, current_revision, upgrade
from db.queries_ownership import UnusableDatabase
from db.tables import now
from db.urls import DatabaseUrlError
from gateway.errors import GatewayError
from gateway.identity import Identity
from server import logs
from server.settings import PREFIX, Settings, SettingsError, load_settings, unread_settings
from server.setup import make_identity, prepare_data_dir

EXPECTED = (
    SettingsError,
    GatewayError,
    AuthenticationError,
    DatabaseUnavailable,
    DatabaseUrlError,
    UnusableDatabase,
    MigrationsMissing,
)
"""What is told in one sentence; everything else is a bug and comes with its traceback."""


class _Commands(click.Group):
    """Tells expected errors in a sentence, and leaves with status 1."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except Exception as error:
            sentences = [_sentence(leaf) for leaf in _leaves(error)]
            if all(sentences):
                raise click.ClickException(sentences[0] or "") from error
            raise


def _leaves(error: Exception) -> list[Exception]:
    """The errors in the groups that task groups put around what leaves them."""
    if not isinstance(error, ExceptionGroup):
        return [error]
    group = cast("ExceptionGroup[Exception]", error)
    return [leaf for inner in group.exceptions for leaf in _leaves(inner)]


def _sentence(error: Exception) -> str | None:
    """What is told of an expected error; None for a bug."""
    if isinstance(error, EXPECTED):
        return str(error)
    if isinstance(error, DBAPIError) and explain(error) is not None:
        return unavailable(error)
    return None


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Ollagraph: a self-hosted GraphQL gateway in front of language models.

    Settings come from the environment (OLLAGRAPH_...) or a file .env; see docs/settings.md.
    """


@main.command()
def serve() -> None:
    """Start the gateway: set up the database, make the first administrator if there is none, and listen."""
    settings = _settings()
    from server.serve import serve as run_server  # what the other commands, and a mistake, need not wait for

    run_server(settings)


@main.command()
def migrate() -> None:
    """Bring the database's tables up to date, without starting the gateway."""
    settings = _settings(_warn)

    async def run() -> None:
        async with _database(settings) as database:
            before = await current_revision(database)
            click.echo(f"Migrating {database.place} from {before or 'an empty database'} ...")
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
    settings = _settings(_warn)
    if settings.environment == "production" and password is not None and is_common_password(password, username):
        raise SettingsError("The password is one of the first that are tried. Take another in production.")

    async def run() -> None:
        async with _identity(settings) as (identity, place):
            user = await identity.create_user(username, password or made_up, is_admin=admin)
            click.echo(f"Made the {'administrator' if admin else 'user'} {user.username} in the database {place}.")
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
    settings = _settings(_warn)

    async def run() -> None:
        async with _identity(settings) as (identity, place):
            principal = await identity.principal_named(username)
            expires_at = None if expires_in_days is None else now() + timedelta(days=expires_in_days)
            wanted = [Scope(scope) for scope in scopes] or None
            new = await identity.create_api_key(principal, name, expires_at, wanted)
            click.echo(f"Made API key {new.key.name!r} of {principal.username} in the database {place}.", err=True)
            click.echo("It is shown this once:", err=True)
            click.echo(new.secret)

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
async def _identity(settings: Settings) -> AsyncGenerator[tuple[Identity, str]]:
    """Give the identity use cases, and the place of the database that they write to."""
    async with _database(settings) as database:
        await upgrade(database)
        yield make_identity(settings, database), database.place


def _settings(warn: Callable[[str], None] | None = None) -> Settings:
    """Load the settings, set up the log unless the command tells its warnings itself, and keep files to the owner."""
    os.umask(0o077)
    settings = load_settings()
    if warn is None:
        logs.configure(settings.log_level)
        warn = logging.getLogger(PREFIX.strip("_").lower()).warning
    for remark in unread_settings():
        warn(remark)
    return settings


def _warn(remark: str) -> None:
    click.echo(f"Warning: {remark}", err=True)


def _run(work: Coroutine[Any, Any, None]) -> None:
    async def run() -> None:
        await work

    anyio.run(run)
