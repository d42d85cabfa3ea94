"""The statements about kept text."""

from collections.abc import AsyncGenerator, Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import delete, select

from db.engine import ReadSession, WriteSession
from db.tables import Transcript


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
        Transcript.generation_id.in_(generation_ids), Transcript.expires_at > at
    )
    async for row in await session.stream(wanted):
        yield row.generation_id, row.events


async def expiries(session: ReadSession, generation_ids: Sequence[UUID], at: datetime) -> dict[UUID, datetime]:
    """Until when the events of those of these generations are kept that are kept at that moment."""
    query = select(Transcript.generation_id, Transcript.expires_at)
    rows = await session.execute(query.where(Transcript.generation_id.in_(generation_ids), Transcript.expires_at > at))
    return {row.generation_id: row.expires_at for row in rows}


async def forget_transcripts(session: WriteSession, at: datetime) -> None:
    """Remove those whose time is over."""
    await session.execute(delete(Transcript).where(Transcript.expires_at <= at))
