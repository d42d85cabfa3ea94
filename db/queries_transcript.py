"""The statements about kept text."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import delete, select

from db.engine import ReadSession, WriteSession
from db.tables import Transcript


async def find_transcript(session: ReadSession, generation_id: UUID, at: datetime) -> bytes | None:
    """The events of a generation, where they are kept at that moment."""
    return await session.scalar(
        select(Transcript.events).where(Transcript.generation_id == generation_id, Transcript.expires_at > at)
    )


async def forget_transcripts(session: WriteSession, at: datetime) -> None:
    """Remove those whose time is over."""
    await session.execute(delete(Transcript).where(Transcript.expires_at <= at))
