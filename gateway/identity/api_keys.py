"""The API keys of each user."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from auth import api_keys
from auth.principal import Principal
from auth.scopes import DEFAULT_KEY_SCOPES, Scope
from db import queries
from db.clock import new_id, now
from db.engine import Database
from db.tables import ApiKey
from gateway.errors import InputIssues, LimitExceeded, NotFound
from gateway.identity.key_uses import KeyUses
from gateway.identity.known import KnownCallers

MAX_KEY_NAME = 100


@dataclass(frozen=True, slots=True)
class NewApiKey:
    """A key just made, with the secret that is shown this once."""

    key: ApiKey
    secret: str


class ApiKeys:
    """Makes keys, ends them, and tells which there are."""

    def __init__(
        self, database: Database, known: KnownCallers, key_uses: KeyUses, *, max_api_keys_per_user: int
    ) -> None:
        self._database = database
        self._known = known
        self._key_uses = key_uses
        self._max_api_keys_per_user = max_api_keys_per_user

    async def create(
        self,
        principal: Principal,
        name: str,
        expires_at: datetime | None = None,
        scopes: Sequence[Scope] | None = None,
    ) -> NewApiKey:
        """Make a key for the caller; one made with a key holds for no longer than that, and can do no more.

        Raises InvalidInput, also for a scope that the caller lacks; LimitExceeded.
        """
        name = name.strip()
        issues = InputIssues()
        if not 1 <= len(name) <= MAX_KEY_NAME or not name.isprintable():
            issues.add("name", f"must have 1 to {MAX_KEY_NAME} printable characters.")
        if expires_at is not None and expires_at <= now():
            issues.add("expiresAt", "must be in the future.")
        if principal.api_key_id is not None and principal.expires_at is not None:
            expires_at = expires_at or principal.expires_at
            if expires_at > principal.expires_at:
                issues.add(
                    "expiresAt",
                    f"must not be later than the expiry of the key that creates it, {principal.expires_at}.",
                )
        granted = DEFAULT_KEY_SCOPES & principal.scopes if scopes is None else frozenset(scopes)
        if not granted:
            issues.add("scopes", "must name at least one scope.")
        if not granted <= principal.scopes:
            missing = ", ".join(sorted(scope.name for scope in granted - principal.scopes))
            issues.add("scopes", f"a key cannot have more scopes than its creator, who lacks {missing}.")
        issues.check()
        generated = api_keys.generate_api_key()
        key = ApiKey(
            id=new_id(),
            user_id=principal.user_id,
            name=name,
            prefix=generated.prefix,
            secret_hash=generated.secret_hash,
            scopes=sorted(granted),
            created_at=now(),
            expires_at=expires_at,
        )
        async with self._database.transaction() as tx:
            if await queries.identity.count_api_keys(tx, key.user_id, key.created_at) >= self._max_api_keys_per_user:
                limit = self._max_api_keys_per_user
                raise LimitExceeded(f"The limit of {limit} API keys is reached. Revoke one that is not needed.", limit)
            tx.add(key)
        return NewApiKey(key, generated.secret)

    async def revoke(self, principal: Principal, key_id: UUID) -> ApiKey:
        """End one of the caller's keys at once; an ended one stays as it is. Raises NotFound."""
        async with self._database.transaction() as tx:
            key = await queries.identity.revoke_api_key(tx, key_id, principal.user_id, now())
        self._known.clear()
        if key is None:
            raise NotFound("You have no API key with this id.", "ApiKey", key_id)
        key.last_used_at = self._key_uses.last(key)
        return key

    async def visible(self, principal: Principal, ids: Sequence[UUID]) -> list[ApiKey | None]:
        """Give those of these keys that the caller may see, in the order of the ids; None for the others."""
        return [
            key if key and principal.may_see_of(key.user_id, Scope.USERS_READ) else None
            for key in await self.by_id(ids)
        ]

    async def by_id(self, ids: Sequence[UUID]) -> list[ApiKey | None]:
        """Give many keys at once, in the order of the ids."""
        async with self._database.reading() as session:
            found = await queries.identity.api_keys_by_id(session, ids)
        for key in found.values():
            key.last_used_at = self._key_uses.last(key)
        return [found.get(key_id) for key_id in ids]

    async def of_users(self, user_ids: Sequence[UUID]) -> list[list[ApiKey]]:
        """Give the keys of each of these users, newest first: as many as one may have, first of all those that hold."""
        async with self._database.reading() as session:
            found = await queries.identity.api_keys_of_users(session, user_ids, now(), self._max_api_keys_per_user)
        for key in (key for keys in found.values() for key in keys):
            key.last_used_at = self._key_uses.last(key)
        return [found[user_id] for user_id in user_ids]
