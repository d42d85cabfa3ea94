"""What the command line does to the database, and how it tells what goes wrong there.

Apart from `server.cli`, which finds mistakes in the settings before any of this is loaded: that takes a second.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import click
import orjson
from sqlalchemy.exc import DBAPIError

from auth.errors import AuthenticationError
from auth.passwords import generate_password
from auth.signing_keys import PairAlgorithm
from db.engine import Database, DatabaseUnavailable
from db.migrations import MigrationsMissing, current_revision, upgrade
from db.ownership import UnusableDatabase
from db.reasons import explain, unavailable
from db.urls import DatabaseUrlError
from gateway.audit import AuditChoice, AuditOutcome, Deed
from gateway.errors import GatewayError
from gateway.identity import OPERATOR, Identity, NewUser, Profile, UserChange, UserFilter
from server.audit_export import exported, read_moment
from server.first_start import make_identity, password_policy
from server.settings import Settings, SettingsError, prepare_data_dir
from server.signing_keys import SigningKeys, write_new_key

USERS_AT_ONCE = 500

CHANGING_NOTHING = frozenset(
    {
        *("users list", "keys list", "sessions list", "audit list", "audit export"),
        "export-audit",
        "limits list",
        "limits show",
        "list-keys",
        "list-users",
        "prices list",
        "usage",
    }
)
"""The commands that are not in the audit log."""

TOLD = frozenset(
    {
        *("username", "admin", "role", "name", "scopes", "models", "networks", "origins", "expires_in_days"),
        *("model", "currency", "prompt", "cached", "completion", "valid_from"),
        *("users", "generations", "days", "seed"),
        *("session",),
        *("only", "older_than", "dry_run", "at_once"),
        *("measure", "window", "amount", "each", "group", "user", "tag", "time_zone", "exceptions"),
    }
)
"""The parameters of commands that are recorded. Of the others, one may be a password, and one a whole key."""

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


def sentence(error: Exception) -> str | None:
    """Give what is told of an expected error; None for a bug."""
    if isinstance(error, EXPECTED):
        return str(error)
    if isinstance(error, DBAPIError) and explain(error) is not None:
        return unavailable(error)
    return None


async def migrate(settings: Settings) -> None:
    """Bring the tables up to date."""
    async with database_of_command(settings) as database:
        before = await current_revision(database)
        click.echo(f"Migrating {database.place} from {before or 'an empty database'} ...")
        await upgrade(database)
        click.echo(f"The database is at {await current_revision(database)}.")


async def create_user(
    settings: Settings, username: str, password: str | None, *, role: str, time_zone: str | None
) -> None:
    """Make a user; without a password, one with a password that is made up and printed. Raises SettingsError."""
    made_up = generate_password(password_policy(settings))
    async with opened_identity(settings) as (identity, place):
        new = NewUser(username, role, password or made_up, Profile(time_zone=time_zone))
        user = await identity.accounts.add(OPERATOR, new)
        click.echo(f"Made the user {user.username} with the role {user.role} in the database {place}.")
        if password is None:
            click.echo(f"Password: {made_up}\nIt is shown this once.")


async def list_users(settings: Settings, *, as_json: bool = False) -> None:
    """Print all users but those who were deleted, a line for each."""
    entries: list[dict[str, Any]] = []
    async with opened_identity(settings) as (identity, _):
        after, has_more = None, True
        while has_more:
            users, has_more = await identity.accounts.page(UserFilter(), USERS_AT_ONCE, after)
            for user in users:
                after, active = user.username, user.disabled_at is None
                if as_json:
                    names = ("username", "role", "kind", "display_name", "email", "time_zone", "created_at")
                    entries.append({"id": str(user.id), "active": active} | {it: getattr(user, it) for it in names})
                else:
                    state = "active" if active else "deactivated"
                    click.echo(f"{user.username}\t{user.role}\t{user.kind}\t{state}")
    if as_json:
        click.echo(orjson.dumps(entries, option=orjson.OPT_INDENT_2).decode())


async def set_role(settings: Settings, username: str, role: str) -> None:
    """Give a user another role."""
    async with opened_identity(settings) as (identity, place):
        user = await identity.accounts.named(username)
        user = await identity.accounts.update(OPERATOR, user.id, UserChange(role=role))
        click.echo(f"{user.username} has the role {user.role}, in the database {place}.")


async def reset_password(settings: Settings, username: str) -> None:
    """Give a user a password that is made up and printed, for one sign-in."""
    async with opened_identity(settings) as (identity, place):
        user, password = await identity.passwords.reset(username)
        click.echo(f"Reset the password of {user.username} in the database {place}.")
        click.echo(f"Password: {password}\nIt is shown this once, and has to be changed after the sign-in.")


async def deactivate_user(settings: Settings, username: str) -> None:
    """Let a user do nothing any more."""
    async with opened_identity(settings) as (identity, place):
        user = await identity.accounts.named(username)
        await identity.accounts.deactivate(OPERATOR, user.id)
        click.echo(f"{user.username} is deactivated, in the database {place}.")


async def reactivate_user(settings: Settings, username: str) -> None:
    """Let a user who was deactivated come back."""
    async with opened_identity(settings) as (identity, place):
        user = await identity.accounts.named(username)
        await identity.accounts.reactivate(OPERATOR, user.id)
        click.echo(f"{user.username} is active, in the database {place}.")


async def delete_user(settings: Settings, username: str) -> None:
    """Leave of a user what the ledger refers to."""
    async with opened_identity(settings) as (identity, place):
        user = await identity.accounts.named(username)
        tombstone = await identity.accounts.delete(OPERATOR, user.id)
        click.echo(f"Deleted {user.username}; {tombstone.username} keeps the place, in the database {place}.")


async def unlock(settings: Settings, username: str) -> None:
    """Forget the wrong passwords under a name."""
    async with opened_identity(settings) as (identity, place):
        counted = await identity.sign_ins.unlock(username)
        said = "is open again" if counted else "was open: nothing had been counted"
        click.echo(f"Sign-in as {username!r} {said}, in the database {place}.")


async def export_audit(settings: Settings, since: str | None, until: str | None) -> None:
    """Print the audit log as JSON lines. Raises SettingsError for what is no moment."""
    try:
        limits = {name: read_moment(text, f"--{name}") for name, text in (("since", since), ("until", until)) if text}
    except ValueError as error:
        raise SettingsError(str(error)) from error
    wanted = AuditChoice(since=limits.get("since"), until=limits.get("until"))
    async with opened_identity(settings) as (identity, _), aclosing(exported(identity.audit, wanted)) as lines:
        async for portion in lines:
            click.echo(portion, nl=False)


def create_signing_key(settings: Settings, algorithm: PairAlgorithm) -> None:
    """Make a key pair in the folder of signing keys. Raises SettingsError."""
    if settings.signing_keys is None:
        raise SettingsError("Set OLLAGRAPH_SIGNING_KEYS to the folder of the signing keys, for the gateways, too.")
    path, kid = write_new_key(settings.signing_keys, algorithm)
    click.echo(f"Made the signing key {path} ({algorithm}, kid {kid}).")
    click.echo(
        f"Gateways that read this folder publish it within seconds, and sign with it after "
        f"{settings.signing_key_delay:g} s. See docs/settings.md, Signing keys."
    )


@asynccontextmanager
async def database_of_command(settings: Settings) -> AsyncGenerator[Database]:
    """Give the database that the settings name, and close it after the block."""
    prepare_data_dir(settings)
    database = Database(settings.database)
    try:
        yield database
    finally:
        await database.close()


@asynccontextmanager
async def opened_identity(settings: Settings) -> AsyncGenerator[tuple[Identity, str]]:
    """Give the identity use cases, and the place of the database that they write to."""
    async with opened(settings) as (database, identity):
        yield identity, database.place


@asynccontextmanager
async def opened(settings: Settings) -> AsyncGenerator[tuple[Database, Identity]]:
    """Give the database, with its tables up to date, and the identity use cases.

    What the command does within the block is in the audit log afterwards, and what it was refused, too.
    """
    async with database_of_command(settings) as database:
        await upgrade(database)
        identity = make_identity(settings, database, SigningKeys(settings).keys)
        try:
            yield database, identity
        except GatewayError as error:
            await _record(identity, AuditOutcome.REFUSED, error.code.value)
            raise
        await _record(identity, AuditOutcome.SUCCESS)


async def _record(identity: Identity, outcome: AuditOutcome, code: str | None = None) -> None:
    command = click.get_current_context()
    name = " ".join(_names(command))
    if name in CHANGING_NOTHING:
        return
    details = {name: value for name, value in command.params.items() if name in TOLD and value}
    await identity.audit.record(Deed(name, outcome, code, principal=OPERATOR, details=details))


def _names(command: click.Context) -> list[str]:
    """Give what was typed behind the program's name: a command may be one of a group."""
    return [] if command.parent is None else [*_names(command.parent), command.info_name or ""]
