"""The callers looked up a moment ago: users with their rights, and the keys and sessions they asked with."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar
from uuid import UUID

from auth.model_access import ModelAccess, access_of_groups
from auth.roles import BUILT_IN_ROLES, known_scopes
from auth.scopes import Scope
from db import queries
from db.engine import Database
from db.queries import Caller
from db.tables import ApiKey, Session, User
from gateway.identity.cache import TtlCache
from gateway.tasks import purge_regularly

MOST_AT_ONCE = 500
"""Credentials looked up in one statement."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class KnownUser:
    """A user, what their role allows, and the models that their groups allow."""

    user: User
    scopes: frozenset[Scope]
    models: ModelAccess
    group_ids: tuple[UUID, ...]

    @property
    def is_active(self) -> bool:
        """Tell whether the user may use the gateway at all."""
        return self.user.disabled_at is None

    @classmethod
    def of(cls, caller: Caller) -> "KnownUser":
        """Give the user with their rights. A role that does not exist any more allows nothing."""
        built_in = BUILT_IN_ROLES.get(caller.user.role)
        scopes = built_in.scopes if built_in else known_scopes(caller.role_scopes or ())
        return cls(caller.user, scopes, access_of_groups(caller.groups.values()), tuple(sorted(caller.groups)))


class KnownCallers:
    """Looks callers up, and remembers them for `identity_max_age` seconds.

    What this process changes holds at once, when it calls `clear`; what another one does, when that time is over.
    """

    def __init__(self, database: Database, identity_max_age: float) -> None:
        self._database = database
        self._max_age = identity_max_age
        self._keys: TtlCache[str, tuple[ApiKey, KnownUser]] = TtlCache(identity_max_age)
        self._sessions: TtlCache[UUID, tuple[Session, KnownUser]] = TtlCache(identity_max_age)
        self._users: TtlCache[UUID, KnownUser] = TtlCache(identity_max_age)
        self._keys_by_id: TtlCache[UUID, ApiKey] = TtlCache(identity_max_age)

    def clear(self) -> None:
        """Forget everything: users, roles, groups, keys or sessions have changed."""
        self._keys.clear()
        self._sessions.clear()
        self._users.clear()
        self._keys_by_id.clear()

    async def users(self, ids: Sequence[UUID]) -> dict[UUID, KnownUser]:
        """Give those of these users that there are."""
        found = {user_id: known for user_id in ids if (known := self._users.get(user_id)) is not None}
        for missing in portions([user_id for user_id in ids if user_id not in found]):
            version = self._users.version
            async with self._database.reading() as session:
                callers = await queries.identity.callers_by_id(session, missing)
            for user_id, caller in callers.items():
                found[user_id] = KnownUser.of(caller)
                self._users.put(user_id, found[user_id], version)
        return found

    async def keys(self, hashes: Sequence[str]) -> dict[str, tuple[ApiKey, KnownUser]]:
        """Give the keys of these hashes, also where it is that of the secret before, with their users."""
        found = {it: known for it in hashes if (known := self._keys.get(it)) is not None}
        return found | await self._look_up_keys([it for it in hashes if it not in found])

    async def key_of(self, key_id: UUID) -> ApiKey | None:
        """Give the key with this id, whether or not it holds."""
        key, version = self._keys_by_id.get(key_id), self._keys_by_id.version
        if key is None:
            async with self._database.reading() as session:
                key = (await queries.api_key.api_keys_by_id(session, [key_id])).get(key_id)
            if key is not None:
                self._keys_by_id.put(key_id, key, version)
        return key

    async def sessions(self, ids: Sequence[UUID]) -> dict[UUID, tuple[Session, KnownUser]]:
        """Give those of these sessions that there are, with their users."""
        found = {session_id: known for session_id in ids if (known := self._sessions.get(session_id)) is not None}
        return found | await self._look_up_sessions([session_id for session_id in ids if session_id not in found])

    async def run(self) -> None:
        """Keep fresh what is in use, until cancelled."""
        if pause := self._max_age / 2:
            await purge_regularly("callers that are in use", self.renew, pause, first=pause)

    async def renew(self) -> None:
        """Look again at the keys and sessions that were asked with since the last time, many in one statement.

        Else the first operation after `identity_max_age`, and all that come in the same moment, would wait for that.
        """
        await self._look_up_keys(self._keys.take_used())
        await self._look_up_sessions(self._sessions.take_used())

    async def _look_up_keys(self, hashes: Sequence[str]) -> dict[str, tuple[ApiKey, KnownUser]]:
        found: dict[str, tuple[ApiKey, KnownUser]] = {}
        for missing in portions(hashes):
            version = self._keys.version
            async with self._database.reading() as session:
                looked_up = await queries.identity.callers_by_key(session, missing)
            for key, caller in looked_up:
                known = key, KnownUser.of(caller)
                for secret_hash in set(missing) & {key.secret_hash, key.previous_hash or ""}:
                    found[secret_hash] = known
                    self._keys.put(secret_hash, known, version)
        return found

    async def _look_up_sessions(self, ids: Sequence[UUID]) -> dict[UUID, tuple[Session, KnownUser]]:
        found: dict[UUID, tuple[Session, KnownUser]] = {}
        for missing in portions(ids):
            version = self._sessions.version
            async with self._database.reading() as session:
                looked_up = await queries.identity.callers_by_session(session, missing)
            for signed_in, caller in looked_up:
                found[signed_in.id] = signed_in, KnownUser.of(caller)
                self._sessions.put(signed_in.id, found[signed_in.id], version)
                self._users.put(caller.user.id, found[signed_in.id][1], version)  # both are cleared together
        return found


def portions(values: Sequence[_T]) -> Iterator[Sequence[_T]]:
    """As many as go into one statement."""
    for first in range(0, len(values), MOST_AT_ONCE):
        yield values[first : first + MOST_AT_ONCE]
