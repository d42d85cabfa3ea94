"""The statements about users and their keys."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, Select, and_, bindparam, case, func, or_, select, update

from db.engine import ReadSession, WriteSession
from db.tables import ApiKey, Group, GroupMember, Role, User


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


async def set_password_hash(session: WriteSession, user_id: UUID, password_hash: str) -> None:
    """Keep a new hash of the same or a new password."""
    await session.execute(update(User).where(User.id == user_id).values(password_hash=password_hash))


class Caller(NamedTuple):
    """A user with what decides about their rights: the scopes of a role that is not built in, and their groups."""

    user: User
    role_scopes: list[str] | None
    group_models: list[list[str] | None]


async def callers_by_key(session: ReadSession, hashes: Sequence[str]) -> list[tuple[ApiKey, Caller]]:
    """Give the keys with these hashes, among them those of secrets that were rotated lately, and their users."""
    asked = or_(ApiKey.secret_hash.in_(hashes), ApiKey.previous_hash.in_(hashes))
    rows = await session.execute(
        _with_rights(select(ApiKey, *_RIGHTS).join(User, User.id == ApiKey.user_id)).where(asked)
    )
    keys: dict[UUID, tuple[ApiKey, Caller]] = {}
    for key, *rights in rows:
        if key.id in keys:
            keys[key.id][1].group_models.append(rights[-1])
        else:
            keys[key.id] = key, _caller(*rights)
    return list(keys.values())


async def callers_by_id(session: ReadSession, ids: Sequence[UUID]) -> dict[UUID, Caller]:
    """Give the users of these ids, with what decides about their rights."""
    rows = await session.execute(_with_rights(select(*_RIGHTS).select_from(User)).where(User.id.in_(ids)))
    callers: dict[UUID, Caller] = {}
    for user, role_scopes, group_id, models in rows:
        if user.id in callers:
            callers[user.id].group_models.append(models)
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
    return Caller(user, role_scopes, [] if group_id is None else [models])


async def api_keys_by_id(session: ReadSession, ids: Sequence[UUID]) -> dict[UUID, ApiKey]:
    """Give the keys of these ids."""
    keys = await session.scalars(select(ApiKey).where(ApiKey.id.in_(ids)))
    return {key.id: key for key in keys}


async def api_keys_of_users(
    session: ReadSession, user_ids: Sequence[UUID], at: datetime, most: int
) -> dict[UUID, list[ApiKey]]:
    """Give the keys of each of these users, newest first: at most `most`, those that hold before those that ended."""
    place = func.row_number().over(
        partition_by=ApiKey.user_id, order_by=(case((_holds(at), 0), else_=1), ApiKey.id.desc())
    )
    numbered = select(ApiKey.id, place.label("place")).where(ApiKey.user_id.in_(user_ids)).subquery()
    keys = await session.scalars(
        select(ApiKey)
        .join(numbered, numbered.c.id == ApiKey.id)
        .where(numbered.c.place <= most)
        .order_by(ApiKey.id.desc())
    )
    found: dict[UUID, list[ApiKey]] = {user_id: [] for user_id in user_ids}
    for key in keys:
        found[key.user_id].append(key)
    return found


async def count_api_keys(session: WriteSession, user_id: UUID, at: datetime) -> int:
    """Count how many of a user's keys hold. Until the transaction ends, no other one counts them in this way."""
    # PostgreSQL; SQLite has one writer. Not FOR UPDATE: that would hold up every row that refers to the user
    await session.execute(select(User.id).where(User.id == user_id).with_for_update(key_share=True))
    held = select(func.count()).select_from(ApiKey).where(ApiKey.user_id == user_id, _holds(at))
    return await session.scalar(held) or 0


def _holds(at: datetime) -> ColumnElement[bool]:
    return and_(ApiKey.revoked_at.is_(None), or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > at))


async def note_key_uses(session: WriteSession, uses: Mapping[UUID, datetime]) -> None:
    """Note when keys were used last, many in one go, always in the same order: other gateways note the same keys."""
    statement = (
        update(ApiKey)
        .where(
            ApiKey.id == bindparam("key_id"),
            or_(ApiKey.last_used_at.is_(None), ApiKey.last_used_at < bindparam("used_at")),
        )
        .values(last_used_at=bindparam("used_at"))
    )
    rows = [{"key_id": key_id, "used_at": uses[key_id]} for key_id in sorted(uses)]
    await (await session.connection()).execute(statement, rows)


async def revoke_api_key(session: WriteSession, key_id: UUID, user_id: UUID, at: datetime) -> ApiKey | None:
    """Revoke this user's key; one revoked earlier keeps its date. None when the user has no such key."""
    key = await session.scalar(select(ApiKey).where(ApiKey.id == key_id, ApiKey.user_id == user_id).with_for_update())
    if key is not None and key.revoked_at is None:
        key.revoked_at = at
    return key
