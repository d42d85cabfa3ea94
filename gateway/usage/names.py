"""The names of what the rows of a report are about, as far as the caller may see them."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from uuid import UUID

from auth.principal import Principal
from auth.scopes import Scope
from db import queries
from db.engine import ReadSession

AT_ONCE = 500
"""Ids in one statement."""


@dataclass(frozen=True, slots=True)
class UsageNames:
    """Names by id. What was deleted, or the caller may not see, has none."""

    users: Mapping[UUID, str] = field(default_factory=dict[UUID, str])
    api_keys: Mapping[UUID, str] = field(default_factory=dict[UUID, str])
    groups: Mapping[UUID, str] = field(default_factory=dict[UUID, str])


async def names_of(
    session: ReadSession,
    principal: Principal,
    *,
    user_ids: Collection[UUID | None],
    api_key_ids: Collection[UUID | None],
    group_ids: Collection[UUID | None],
) -> UsageNames:
    """Look up names. Those of users and groups need PROFILE_READ, of keys KEYS_READ; others' USERS_READ, too."""
    users, api_keys, groups = dict[UUID, str](), dict[UUID, str](), dict[UUID, str]()
    everybodys = principal.has(Scope.USERS_READ)
    if principal.has(Scope.PROFILE_READ):
        for some in _portions(user_ids):
            found = await queries.identity.users_by_id(session, some)
            users |= {it: user.username for it, user in found.items() if principal.may_see_of(it, Scope.USERS_READ)}
        for some in _portions(group_ids):
            groups_found = await queries.group.groups_by_id(session, some)
            groups |= {it: group.name for it, group in groups_found.items() if everybodys or it in principal.group_ids}
    if principal.has(Scope.KEYS_READ):
        for some in _portions(api_key_ids):
            keys = await queries.api_key.api_keys_by_id(session, some)
            seen = {it: key for it, key in keys.items() if principal.may_see_of(key.user_id, Scope.USERS_READ)}
            api_keys |= {it: key.name for it, key in seen.items()}
    return UsageNames(users, api_keys, groups)


def _portions(ids: Collection[UUID | None]) -> list[list[UUID]]:
    known = [it for it in ids if it is not None]
    return [known[first : first + AT_ONCE] for first in range(0, len(known), AT_ONCE)]
