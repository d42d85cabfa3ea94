"""The statements about API keys."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, and_, bindparam, case, func, not_, or_, select, update

from db.engine import ReadSession, WriteSession
from db.tables import ApiKey


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
    """Count how many of a user's keys hold, for a transaction that has locked the user."""
    held = select(func.count()).select_from(ApiKey).where(ApiKey.user_id == user_id, _holds(at))
    return await session.scalar(held) or 0


def _holds(at: datetime) -> ColumnElement[bool]:
    return and_(ApiKey.revoked_at.is_(None), or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > at))


class KeyUse(NamedTuple):
    """When a key was used, and from which address."""

    at: datetime
    address: str | None


async def note_key_uses(session: WriteSession, uses: Mapping[UUID, KeyUse]) -> None:
    """Note where keys were used last, many in one go, always in the same order: other gateways note the same keys."""
    statement = (
        update(ApiKey)
        .where(
            ApiKey.id == bindparam("key_id"),
            or_(ApiKey.last_used_at.is_(None), ApiKey.last_used_at < bindparam("used_at")),
        )
        .values(last_used_at=bindparam("used_at"), last_used_address=bindparam("address"))
    )
    rows = [{"key_id": key_id, "used_at": uses[key_id].at, "address": uses[key_id].address} for key_id in sorted(uses)]
    await (await session.connection()).execute(statement, rows)


async def locked_api_key(session: WriteSession, key_id: UUID) -> ApiKey | None:
    """Give the key of this id; nobody else changes it until the transaction ends."""
    return await session.scalar(select(ApiKey).where(ApiKey.id == key_id).with_for_update())


async def api_keys_recognised(session: ReadSession, prefix: str, secret_hash: str) -> list[ApiKey]:
    """Give the keys whose secret begins so, or whose secret before the last rotation has this hash."""
    asked = select(ApiKey).where(or_(ApiKey.prefix == prefix, ApiKey.previous_hash == secret_hash))
    return list(await session.scalars(asked))


async def api_keys_page(
    session: ReadSession,
    *,
    limit: int,
    before: UUID | None,
    user_id: UUID | None,
    search: str | None,
    active: bool | None,
    at: datetime,
) -> Sequence[ApiKey]:
    """Give keys, newest first: of one user or of all, those that hold at a moment or those that have ended."""
    asked = select(ApiKey).order_by(ApiKey.id.desc()).limit(limit)
    if before is not None:
        asked = asked.where(ApiKey.id < before)
    if user_id is not None:
        asked = asked.where(ApiKey.user_id == user_id)
    if search is not None:
        asked = asked.where(
            or_(ApiKey.name.icontains(search, autoescape=True), ApiKey.prefix.startswith(search, autoescape=True))
        )
    if active is not None:
        asked = asked.where(_holds(at) if active else not_(_holds(at)))
    return list(await session.scalars(asked))
