"""The statements about generations."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import select, update

from db.engine import ReadSession, WriteSession
from db.tables import Generation


async def generations_by_id(session: ReadSession, ids: Sequence[UUID]) -> dict[UUID, Generation]:
    """The generations of these ids, whoever's they are."""
    rows = await session.scalars(select(Generation).where(Generation.id.in_(ids)))
    return {row.id: row for row in rows}


async def generations_page(
    session: ReadSession,
    user_id: UUID,
    *,
    limit: int,
    before: UUID | None,
    states: Sequence[str] | None,
    model: str | None,
) -> Sequence[Generation]:
    """At most `limit` generations of a user's, newest first, older than `before` (UUIDv7 sort by time)."""
    query = select(Generation).where(Generation.user_id == user_id)
    if before is not None:
        query = query.where(Generation.id < before)
    if states is not None:
        query = query.where(Generation.state.in_(states))
    if model is not None:
        query = query.where(Generation.model == model)
    return (await session.scalars(query.order_by(Generation.id.desc()).limit(limit))).all()


async def mark_running(session: WriteSession, generation_id: UUID, started_at: datetime, queued_ms: int) -> None:
    """Its turn has come."""
    await session.execute(
        update(Generation)
        .where(Generation.id == generation_id)
        .values(state="RUNNING", started_at=started_at, queued_ms=queued_ms)
    )


async def mark_ended(session: WriteSession, generation_id: UUID, columns: Mapping[str, object]) -> None:
    """Write how it ended. A generation ends once: what has an end already is left as it is."""
    await session.execute(
        update(Generation).where(Generation.id == generation_id, Generation.finished_at.is_(None)).values(dict(columns))
    )


async def fail_unfinished(
    session: WriteSession, at: datetime, error_code: str, error_message: str
) -> Sequence[Generation]:
    """End every generation that has no end in the table, and return them."""
    rows = await session.scalars(
        update(Generation)
        .where(Generation.finished_at.is_(None))
        .values(state="FAILED", error_code=error_code, error_message=error_message, finished_at=at)
        .returning(Generation)
    )
    return rows.all()
