"""What the command line does to API keys and service accounts. Whoever has the machine may do all of it."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import click
import orjson

from auth.api_keys import KEY_PREFIX, shown_prefix
from auth.principal import Principal
from auth.scopes import ALL_SCOPES, Scope
from db.clock import now
from db.tables import ApiKey
from gateway.errors import InvalidInput, NotFound
from gateway.identity import Identity, KeyRequest, NewUser, Profile, UserKind
from schema.node import parse_uuid
from server.commands import opened_identity
from server.settings import Settings

OPERATOR = Principal(UUID(int=0), "command line", ALL_SCOPES)
"""Who asks on the command line: no user, so that the limits of the key's owner alone count."""


@dataclass(frozen=True, slots=True)
class KeyOptions:
    """The options of `create-key`, as they were typed."""

    name: str
    expires_in_days: int | None
    scopes: tuple[str, ...]
    models: tuple[str, ...]
    networks: tuple[str, ...]
    origins: tuple[str, ...]


async def create_key(settings: Settings, username: str, options: KeyOptions) -> None:
    """Make an API key and print it."""
    async with opened_identity(settings) as (identity, place):
        owner = await identity.accounts.principal_named(username)
        days = options.expires_in_days
        request = KeyRequest(
            name=options.name,
            user_id=owner.user_id,
            scopes=[Scope(scope) for scope in options.scopes] or None,
            models=options.models or None,
            origins=options.origins or None,
            networks=options.networks or None,
            expires_at=None if days is None else now() + timedelta(days=days),
        )
        new = await identity.api_keys.create(OPERATOR, request)
        click.echo(f"Made API key {new.key.name!r} of {owner.username} in the database {place}.", err=True)
        _print_secret(new.secret)


async def list_keys(settings: Settings, username: str, *, as_json: bool = False) -> None:
    """Print a line for each key of a user."""
    async with opened_identity(settings) as (identity, place):
        owner = await identity.accounts.principal_named(username)
        [keys] = await identity.api_keys.of_users([owner.user_id])
        if as_json:
            click.echo(orjson.dumps([_entry(key) for key in keys], option=orjson.OPT_INDENT_2).decode())
            return
        for key in keys:
            click.echo("  ".join((str(key.id), key.prefix, _state(key), _last_use(key), key.name)))
        if not keys:
            click.echo(f"{owner.username} has no API keys in the database {place}.", err=True)


def _entry(key: ApiKey) -> dict[str, Any]:
    """Give what may be told of a key: nothing of its secret but how it begins."""
    names = ("name", "prefix", "scopes", "created_at", "expires_at", "revoked_at", "last_used_at", "last_used_address")
    return {"id": str(key.id), "state": _state(key)} | {name: getattr(key, name) for name in names}


async def rotate_key(settings: Settings, key: str, grace_hours: float) -> None:
    """Give a key a new secret and print it."""
    async with opened_identity(settings) as (identity, place):
        key_id = await _id_of(identity, key)
        grace = timedelta(hours=grace_hours)
        new = await identity.rotations.rotate(OPERATOR, key_id, grace=grace, idempotency_key=None)
        until = f"works until {new.key.previous_expires_at:%Y-%m-%d %H:%M} UTC" if grace else "no longer works"
        click.echo(f"Rotated API key {new.key.name!r} in the database {place}. The old secret {until}.", err=True)
        _print_secret(new.secret)


async def revoke_key(settings: Settings, key: str) -> None:
    """End a key."""
    async with opened_identity(settings) as (identity, place):
        revoked = await identity.api_keys.revoke(OPERATOR, await _id_of(identity, key))
        click.echo(f"Revoked API key {revoked.name!r} ({revoked.prefix}…) in the database {place}.")


async def create_service_account(
    settings: Settings, username: str, *, role: str, display_name: str | None, time_zone: str | None
) -> None:
    """Make a service account."""
    profile = Profile(display_name, time_zone=time_zone)
    async with opened_identity(settings) as (identity, place):
        user = await identity.accounts.add(OPERATOR, NewUser(username, role, profile=profile, kind=UserKind.SERVICE))
        click.echo(f"Made the service account {user.username} with the role {user.role} in the database {place}.")
        click.echo(f"Make its keys with: ollagraph keys create {user.username}")


async def _id_of(identity: Identity, key: str) -> UUID:
    """Find a key by its id, in either form, or by how its secret begins. Raises NotFound and InvalidInput."""
    if key.startswith(KEY_PREFIX):
        prefix = shown_prefix(key)
        found = await identity.api_keys.recognised(key)
        if not found:
            raise NotFound(f"There is no API key that begins with {prefix!r}.", "ApiKey", prefix)
        if len(found) > 1:
            raise InvalidInput(
                "key", f"several API keys begin with {prefix!r}. Use the id that `ollagraph keys list` shows."
            )
        return found[0].id
    try:
        return UUID(key)
    except ValueError:
        return parse_uuid(key, "ApiKey", "key")


def _print_secret(secret: str) -> None:
    click.echo("It is shown this once:", err=True)
    click.echo(secret)


def _state(key: ApiKey) -> str:
    if key.revoked_at is not None:
        return f"revoked {key.revoked_at:%Y-%m-%d}"
    if key.expires_at is None:
        return "valid"
    return f"{'valid until' if key.expires_at > now() else 'expired'} {key.expires_at:%Y-%m-%d}"


def _last_use(key: ApiKey) -> str:
    if key.last_used_at is None:
        return "never used"
    return f"used {key.last_used_at:%Y-%m-%d %H:%M} from {key.last_used_address or 'an unknown address'}"
