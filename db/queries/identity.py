"""The statements about users, and about those who ask with their keys."""

from collections.abc import Sequence
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Select, or_, select, update

from db.engine import ReadSession, WriteSession
from db.tables import ApiKey, Group, GroupMember, Role, Session, User


async def user_by_name(session: ReadSession, username: str) -> User | None:
    """Give the user of this name, which is in lower case."""
    return await session.scalar(select(User).where(User.username == username))


async def users_by_id(session: ReadSession, ids: Sequence[UUID]) -> dict[UUID, User]:
    """Give the users of these ids."""
    users = await session.scalars(select(User).where(User.id.in_(ids)))
    return {user.id: user for user in users}


async def any_user_exists(session: ReadSession) -> bool:
    """Tell whether there is a user at all."""
    return await session.scalar(select(User.id).limit(1)) is not None


async def replace_hash(session: WriteSession, user_id: UUID, old_hash: str, new_hash: str) -> None:
    """Keep a new hash of the same password; nothing where the user has another password meanwhile."""
    unchanged = update(User).where(User.id == user_id, User.password_hash == old_hash)
    await session.execute(unchanged.values(password_hash=new_hash))


class Caller(NamedTuple):
    """A user with what decides about their rights: the scopes of a role that is not built in, and their groups.

    `groups` has the models of each group by its id.
    """

    user: User
    role_scopes: list[str] | None
    groups: dict[UUID, list[str] | None]


async def callers_by_key(session: ReadSession, hashes: Sequence[str]) -> list[tuple[ApiKey, Caller]]:
    """Give the keys with these hashes, among them those of secrets that were rotated lately, and their users."""
    asked = or_(ApiKey.secret_hash.in_(hashes), ApiKey.previous_hash.in_(hashes))
    rows = await session.execute(
        _with_rights(select(ApiKey, *_RIGHTS).join(User, User.id == ApiKey.user_id)).where(asked)
    )
    keys: dict[UUID, tuple[ApiKey, Caller]] = {}
    for key, *rights in rows:
        if key.id in keys:
            keys[key.id][1].groups[rights[-2]] = rights[-1]
        else:
            keys[key.id] = key, _caller(*rights)
    return list(keys.values())


async def callers_by_session(session: ReadSession, ids: Sequence[UUID]) -> list[tuple[Session, Caller]]:
    """Give the sessions of these ids, also those that ended, and their users."""
    rows = await session.execute(
        _with_rights(select(Session, *_RIGHTS).join(User, User.id == Session.user_id)).where(Session.id.in_(ids))
    )
    sessions: dict[UUID, tuple[Session, Caller]] = {}
    for signed_in, *rights in rows:
        if signed_in.id in sessions:
            sessions[signed_in.id][1].groups[rights[-2]] = rights[-1]
        else:
            sessions[signed_in.id] = signed_in, _caller(*rights)
    return list(sessions.values())


async def callers_by_id(session: ReadSession, ids: Sequence[UUID]) -> dict[UUID, Caller]:
    """Give the users of these ids, with what decides about their rights."""
    rows = await session.execute(_with_rights(select(*_RIGHTS).select_from(User)).where(User.id.in_(ids)))
    callers: dict[UUID, Caller] = {}
    for user, role_scopes, group_id, models in rows:
        if user.id in callers:
            callers[user.id].groups[group_id] = models
        else:
            callers[user.id] = _caller(user, role_scopes, group_id, models)
    return callers


_RIGHTS = User, Role.scopes, GroupMember.group_id, Group.models


def _with_rights(query: Select[*tuple[Any, ...]]) -> Select[*tuple[Any, ...]]:
    """Add the role and the groups: a row for each group, at least one."""
    return (
        query.outerjoin(Role, Role.name == User.role)
        .outerjoin(GroupMember, GroupMember.user_id == User.id)
        .outerjoin(Group, Group.id == GroupMember.group_id)
    )


def _caller(user: User, role_scopes: list[str] | None, group_id: UUID | None, models: list[str] | None) -> Caller:
    return Caller(user, role_scopes, {} if group_id is None else {group_id: models})
