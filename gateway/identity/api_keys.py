"""The API keys: making, changing and ending them, and telling which there are. Who may do what is told in `grants`."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Final, Literal
from uuid import UUID

from auth import api_keys
from auth.principal import ContentPolicy, Principal
from auth.scopes import DEFAULT_KEY_SCOPES, Scope
from db import queries
from db.clock import new_id, now
from db.engine import Database, WriteSession
from db.tables import ApiKey
from gateway.errors import Forbidden, InputIssues, InvalidInput, LimitExceeded, NotFound
from gateway.identity import grants
from gateway.identity.grants import Granter
from gateway.identity.known import KnownCallers, KnownUser
from gateway.identity.rights import acting_scopes
from gateway.identity.uses import KeyUses


class Unchanged(Enum):
    """What stands in the place of a value that a change leaves as it is."""

    UNCHANGED = "unchanged"


UNCHANGED: Final = Unchanged.UNCHANGED
_Unchanged = Literal[Unchanged.UNCHANGED]


@dataclass(frozen=True, slots=True)
class KeyRequest:
    """A key to make, for `user_id` or else for the caller.

    None stands for no limit, or where a key asks for its own limit; of `scopes` for all that an app needs.
    """

    name: str
    user_id: UUID | None = None
    scopes: Sequence[Scope] | None = None
    models: Sequence[str] | None = None
    origins: Sequence[str] | None = None
    networks: Sequence[str] | None = None
    content_policy: ContentPolicy | None = None
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class KeyChanges:
    """What to change of a key; None is what it is in a `KeyRequest`."""

    name: str | _Unchanged = UNCHANGED
    scopes: Sequence[Scope] | _Unchanged = UNCHANGED
    models: Sequence[str] | _Unchanged | None = UNCHANGED
    origins: Sequence[str] | _Unchanged | None = UNCHANGED
    networks: Sequence[str] | _Unchanged | None = UNCHANGED
    content_policy: ContentPolicy | _Unchanged | None = UNCHANGED
    expires_at: datetime | _Unchanged | None = UNCHANGED


@dataclass(frozen=True, slots=True)
class KeyFilter:
    """Which keys to list: of one user or of all, with `search` in the name or the prefix, those that hold or not."""

    user_id: UUID | None = None
    search: str | None = None
    active: bool | None = None


@dataclass(frozen=True, slots=True)
class NewApiKey:
    """A key with a secret just made, which is shown this once."""

    key: ApiKey
    secret: str = field(repr=False)


class ApiKeys:
    """Makes keys, changes and ends them, and tells which there are."""

    def __init__(
        self, database: Database, known: KnownCallers, key_uses: KeyUses, *, max_api_keys_per_user: int
    ) -> None:
        self._database = database
        self._known = known
        self._key_uses = key_uses
        self._max_api_keys_per_user = max_api_keys_per_user

    async def create(self, principal: Principal, request: KeyRequest) -> NewApiKey:
        """Make a key. Raises InvalidInput for all that is wrong with it; LimitExceeded, NotFound, Forbidden."""
        user_id = request.user_id or principal.user_id
        if not may_manage(principal, user_id):
            raise Forbidden("API keys of other users need the scope USERS_WRITE.")
        generated = api_keys.generate_api_key()
        issues = InputIssues()
        async with self._database.transaction() as tx:
            await queries.user.lock_user(tx, user_id)  # one at a time is counted, and none is made for who is deleted
            owner = await _owner(tx, user_id)
            granter = await Granter.of(tx, principal)
            if user_id != principal.user_id:
                await acting_scopes(tx, principal)
            wanted = DEFAULT_KEY_SCOPES & principal.scopes & owner.scopes if request.scopes is None else request.scopes
            key = ApiKey(
                id=new_id(),
                user_id=user_id,
                name=grants.checked_name(issues, request.name),
                prefix=generated.prefix,
                secret_hash=generated.secret_hash,
                scopes=grants.checked_scopes(issues, granter, owner.scopes, wanted),
                models=grants.checked_models(issues, granter, request.models),
                origins=grants.checked_origins(issues, granter, request.origins),
                networks=grants.checked_networks(issues, granter, request.networks),
                content_policy=grants.checked_content_policy(issues, granter, request.content_policy),
                created_at=now(),
                expires_at=grants.checked_expiry(issues, granter, request.expires_at),
            )
            issues.check()
            limit = self._max_api_keys_per_user
            if await queries.api_key.count_api_keys(tx, user_id, key.created_at) >= limit:
                raise LimitExceeded(f"The limit of {limit} API keys is reached. Revoke one that is not needed.", limit)
            tx.add(key)
        return NewApiKey(key, generated.secret)

    async def change(self, principal: Principal, key_id: UUID, changes: KeyChanges) -> ApiKey:
        """Change a key that holds. Raises InvalidInput for all that is wrong; NotFound, Forbidden."""
        issues = InputIssues()
        async with self._database.transaction() as tx:
            key = await managed_key(tx, principal, key_id)
            granter = await Granter.of(tx, principal)
            await granter.check_within(tx, key)
            check_holds(key)
            if changes.name is not UNCHANGED:
                key.name = grants.checked_name(issues, changes.name)
            if changes.scopes is not UNCHANGED:
                owner = await _owner(tx, key.user_id)
                key.scopes = grants.checked_scopes(issues, granter, owner.scopes, changes.scopes)
            if changes.models is not UNCHANGED:
                key.models = grants.checked_models(issues, granter, changes.models)
            if changes.origins is not UNCHANGED:
                key.origins = grants.checked_origins(issues, granter, changes.origins)
            if changes.networks is not UNCHANGED:
                key.networks = grants.checked_networks(issues, granter, changes.networks)
            if changes.content_policy is not UNCHANGED:
                key.content_policy = grants.checked_content_policy(issues, granter, changes.content_policy)
            if changes.expires_at is not UNCHANGED:
                key.expires_at = grants.checked_expiry(issues, granter, changes.expires_at)
            issues.check()
        self._known.clear()
        return self._key_uses.told(key)

    async def revoke(self, principal: Principal, key_id: UUID) -> ApiKey:
        """End a key at once, with the secret before a rotation; an ended one stays as it is. Raises NotFound."""
        async with self._database.transaction() as tx:
            key = await managed_key(tx, principal, key_id)
            key.revoked_at = key.revoked_at or now()
        self._known.clear()
        return self._key_uses.told(key)

    async def page(
        self, principal: Principal, wanted: KeyFilter, first: int, before: UUID | None
    ) -> tuple[Sequence[ApiKey], bool]:
        """Give keys that the caller may see, newest first, older than `before`; and whether there are more.

        Raises Forbidden for those of another user.
        """
        user_id = wanted.user_id
        if not principal.has(Scope.USERS_READ):
            if user_id not in (None, principal.user_id):
                raise Forbidden("API keys of other users need the scope USERS_READ.")
            user_id = principal.user_id
        async with self._database.reading() as session:
            rows = await queries.api_key.api_keys_page(
                session,
                limit=first + 1,
                before=before,
                user_id=user_id,
                search=wanted.search,
                active=wanted.active,
                at=now(),
            )
        return [self._key_uses.told(key) for key in rows[:first]], len(rows) > first

    async def recognised(self, secret: str) -> list[ApiKey]:
        """Give the keys with this secret, or one that begins so, for the command line: one, but for the rarest chance.

        A whole secret may also be that before the last rotation.
        """
        prefix, secret_hash = api_keys.shown_prefix(secret), api_keys.hash_api_key(secret)
        async with self._database.reading() as session:
            return await queries.api_key.api_keys_recognised(session, prefix, secret_hash)

    async def visible(self, principal: Principal, ids: Sequence[UUID]) -> list[ApiKey | None]:
        """Give those of these keys that the caller may see, in the order of the ids; None for the others."""
        return [
            key if key and principal.may_see_of(key.user_id, Scope.USERS_READ) else None
            for key in await self.by_id(ids)
        ]

    async def by_id(self, ids: Sequence[UUID]) -> list[ApiKey | None]:
        """Give many keys at once, in the order of the ids."""
        async with self._database.reading() as session:
            found = await queries.api_key.api_keys_by_id(session, ids)
        return [self._key_uses.told(found[key_id]) if key_id in found else None for key_id in ids]

    async def of_users(self, user_ids: Sequence[UUID]) -> list[list[ApiKey]]:
        """Give the keys of each of these users, newest first: as many as one may have, first of all those that hold."""
        async with self._database.reading() as session:
            found = await queries.api_key.api_keys_of_users(session, user_ids, now(), self._max_api_keys_per_user)
        return [[self._key_uses.told(key) for key in found[user_id]] for user_id in user_ids]


def may_manage(principal: Principal, user_id: UUID) -> bool:
    """Tell whether the caller may make, change and end keys of this user."""
    return principal.has(Scope.USERS_WRITE) or (user_id == principal.user_id and principal.has(Scope.KEYS_WRITE))


async def managed_key(tx: WriteSession, principal: Principal, key_id: UUID) -> ApiKey:
    """Give a key that the caller may manage, locked. Raises NotFound, also for one that is not theirs."""
    key = await queries.api_key.locked_api_key(tx, key_id)
    if key is None or not may_manage(principal, key.user_id):
        raise NotFound("You have no API key with this id.", "ApiKey", key_id)
    return key


def check_holds(key: ApiKey) -> None:
    """Refuse a key that has ended: it stays as it is. Raises InvalidInput."""
    if key.revoked_at is not None:
        raise InvalidInput("id", "this API key was revoked. Create a new one.")
    if key.expires_at is not None and key.expires_at <= now():
        raise InvalidInput("id", "this API key has expired. Create a new one.")


async def _owner(tx: WriteSession, user_id: UUID) -> KnownUser:
    """Give a user with their rights as they are now. Raises NotFound."""
    found = await queries.identity.callers_by_id(tx, [user_id])
    if user_id not in found or found[user_id].user.deleted_at is not None:
        raise NotFound("There is no user with this id.", "User", user_id)
    return KnownUser.of(found[user_id])
