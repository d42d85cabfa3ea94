"""The statements about kept text: what was asked, and what was answered."""

from collections.abc import AsyncGenerator, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, LargeBinary, and_, delete, exists, literal, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import InstrumentedAttribute

from db.engine import ReadSession, WriteSession
from db.tables import Generation, Transcript, User

ROWS_AT_ONCE = 5
"""Rows with megabytes in them that are fetched together: whoever has enough stops, and the rest is never read."""


async def find_transcript(session: ReadSession, generation_id: UUID, at: datetime) -> bytes | None:
    """Give the events of a generation, where they are kept at that moment."""
    return await session.scalar(
        select(Transcript.events).where(Transcript.generation_id == generation_id, Transcript.expires_at > at)
    )


async def transcripts(
    session: ReadSession, generation_ids: Sequence[UUID], at: datetime
) -> AsyncGenerator[tuple[UUID, bytes], None]:
    """Give the events of those of these generations that are kept at that moment, one after the other."""
    wanted = select(Transcript.generation_id, Transcript.events).where(
        Transcript.generation_id.in_(generation_ids), Transcript.expires_at > at, Transcript.events.is_not(None)
    )
    async for row in await session.stream(wanted):
        yield row.generation_id, row.events


def requests(
    session: ReadSession, generation_ids: Sequence[UUID], at: datetime
) -> AsyncGenerator[tuple[UUID, bytes], None]:
    """Give what was asked of those of these generations of which it is kept at that moment, newest first."""
    return _newest_first(session, Transcript.request, generation_ids, at)


def media(
    session: ReadSession, generation_ids: Sequence[UUID], at: datetime
) -> AsyncGenerator[tuple[UUID, bytes], None]:
    """Give the media that were sent with those of these generations of which they are kept, newest first."""
    return _newest_first(session, Transcript.media, generation_ids, at)


async def _newest_first(
    session: ReadSession, column: InstrumentedAttribute[Any], generation_ids: Sequence[UUID], at: datetime
) -> AsyncGenerator[tuple[UUID, bytes], None]:
    wanted = select(Transcript.generation_id, column).where(
        Transcript.generation_id.in_(generation_ids), column.is_not(None), _is_kept(at)
    )
    newest_first = wanted.order_by(Transcript.generation_id.desc()).execution_options(yield_per=ROWS_AT_ONCE)
    async for generation_id, data in await session.stream(newest_first):
        yield generation_id, data


async def expiries(session: ReadSession, generation_ids: Sequence[UUID], at: datetime) -> dict[UUID, datetime]:
    """Until when what those of these generations said is kept that have ended, as far as it is at that moment."""
    query = select(Transcript.generation_id, Transcript.expires_at)
    rows = await session.execute(query.where(Transcript.generation_id.in_(generation_ids), Transcript.expires_at > at))
    return {row.generation_id: row.expires_at for row in rows}


async def keep_end(session: WriteSession, generation_id: UUID, events: bytes | None, expires_at: datetime) -> None:
    """Keep the events of an ended generation beside what was asked, if that is kept, and both until then.

    Without events, only what was asked gets its expiry, if it is there. Nothing is kept for a user who was deleted
    meanwhile.
    """
    if events is None:
        expire = update(Transcript).where(Transcript.generation_id == generation_id)
        await session.execute(expire.values(expires_at=expires_at))
        return
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    end = (
        select(Generation.id, literal(events, LargeBinary), literal(expires_at, Transcript.expires_at.type))
        .join(User, User.id == Generation.user_id)
        .where(Generation.id == generation_id, User.deleted_at.is_(None))
    )
    await session.execute(
        insert(Transcript)
        .from_select(["generation_id", "events", "expires_at"], end)
        .on_conflict_do_update(
            index_elements=[Transcript.generation_id], set_={"events": events, "expires_at": expires_at}
        )
    )


async def forget_transcripts(session: WriteSession, at: datetime) -> None:
    """Remove those whose time is over, and what an ended generation was asked that got no expiry with its end.

    That is so where a gateway of an older version wrote the end, or one that keeps no text.
    """
    expired, left = stale(at)
    await session.execute(delete(Transcript).where(expired))
    await session.execute(delete(Transcript).where(left))


def stale(at: datetime) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    """Give the conditions of both kinds."""
    ended = exists().where(Generation.id == Transcript.generation_id, Generation.finished_at.is_not(None))
    return Transcript.expires_at <= at, and_(Transcript.expires_at.is_(None), ended)


def ended_before(before: datetime) -> ColumnElement[bool]:
    """Give the condition of those whose generation ended before a moment, however long they are to be kept."""
    return exists().where(Generation.id == Transcript.generation_id, Generation.finished_at < before)


def _is_kept(at: datetime) -> ColumnElement[bool]:
    return or_(Transcript.expires_at.is_(None), Transcript.expires_at > at)
