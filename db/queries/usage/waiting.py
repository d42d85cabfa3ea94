"""The statements about new rows of the ledger, which the roll-ups do not have yet, and about those that are too old."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, cast
from uuid import UUID

from sqlalchemy import ColumnElement, CursorResult, RowMapping, and_, delete, insert, or_, select, update

from db.engine import ReadSession, WriteSession
from db.tables import Generation, UsageDetails, UsageRecord


async def not_rolled_up(session: WriteSession, limit: int) -> Sequence[RowMapping]:
    """Give some rows that the roll-ups do not have, oldest first, which no other gateway adds meanwhile."""
    query = select(UsageRecord.__table__).where(~UsageRecord.rolled_up).order_by(UsageRecord.at).limit(limit)
    return (await session.execute(query.with_for_update(skip_locked=True))).mappings().all()


async def written_elsewhere(
    session: ReadSession, replica_id: UUID, after: tuple[datetime, UUID], until: datetime, limit: int
) -> Sequence[RowMapping]:
    """Give rows that other replicas have written, by time and id: those after one of these, up to and at `until`."""
    at, generation_id = after
    later = or_(UsageRecord.at > at, and_(UsageRecord.at == at, UsageRecord.generation_id > generation_id))
    theirs = or_(Generation.replica_id.is_(None), Generation.replica_id != replica_id)
    query = select(UsageRecord.__table__).outerjoin(Generation, Generation.id == UsageRecord.generation_id)
    query = query.where(UsageRecord.at >= at, later, UsageRecord.at <= until, theirs)
    found = await session.execute(query.order_by(UsageRecord.at, UsageRecord.generation_id).limit(limit))
    return found.mappings().all()


async def mark_rolled_up(session: WriteSession, generation_ids: Sequence[UUID]) -> None:
    """Note that the roll-ups have these rows."""
    rows = update(UsageRecord).where(UsageRecord.generation_id.in_(generation_ids))
    await session.execute(rows.values(rolled_up=True), execution_options={"synchronize_session": False})


async def kept_since(session: ReadSession) -> datetime | None:
    """Tell since when all rows of the ledger are there; None: since the beginning."""
    return await session.scalar(select(UsageDetails.kept_since))


async def remove_before(session: WriteSession, before: datetime, limit: int) -> int:
    """Remove some rows that are older, and note so first; gives how many. Those that wait for the roll-ups stay."""
    if await kept_since(session) is None:
        await session.execute(insert(UsageDetails).values(id=1, kept_since=before))
    else:
        later = update(UsageDetails).where(UsageDetails.kept_since < before)
        await session.execute(later.values(kept_since=before))
    old = select(UsageRecord.generation_id).where(stale(before), UsageRecord.rolled_up)
    some = old.order_by(UsageRecord.at).limit(limit)
    removed = await session.execute(delete(UsageRecord).where(UsageRecord.generation_id.in_(some)))
    return cast("CursorResult[Any]", removed).rowcount


def stale(before: datetime) -> ColumnElement[bool]:
    """Give the condition of rows that are older."""
    return UsageRecord.at < before
