"""What the stream log tells the database, and asks of it."""

from collections.abc import Mapping, Sequence
from uuid import UUID

from db import queries
from db.clock import now
from db.engine import Database
from gateway.generation import usage_columns
from gateway.streams import StreamOwner


class StreamRecords:
    """The rows of generations, as far as the stream log needs them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def note(self, streams: Sequence[tuple[UUID, int]], detached: bool) -> None:
        """Write of streams, each with its fence, whether viewers may have seen more of them than the log has."""
        async with self._database.transaction() as tx:
            await queries.generation.note_detached(tx, streams, now() if detached else None)

    async def note_usage(self, streams: Mapping[UUID, StreamOwner]) -> None:
        """Write what running streams have used so far."""
        rows = [
            {"row_id": stream_id, "row_fence": owner.fence, **usage_columns(owner.usage())}
            for stream_id, owner in streams.items()
        ]
        async with self._database.transaction() as tx:
            await queries.generation.note_usage(tx, rows)

    async def owns(self, generation_id: UUID, fence: int) -> bool:
        """Tell whether this is still the latest right to write a generation that runs."""
        async with self._database.reading() as session:
            row = (await queries.generation.generations_by_id(session, [generation_id])).get(generation_id)
        return row is not None and row.fence == fence and row.finished_at is None

    async def ended(self, generation_ids: Sequence[UUID]) -> set[UUID]:
        """Give those that have their end on record."""
        async with self._database.reading() as session:
            rows = await queries.generation.generations_by_id(session, generation_ids)
        return {row.id for row in rows.values() if row.finished_at is not None}
