"""The statements about blobs and their chunks."""

from collections.abc import AsyncGenerator, Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import ColumnElement, delete, func, select, update

from db.engine import ReadSession, WriteSession
from db.tables import Blob, BlobChunk, User


async def find(session: ReadSession, user_id: UUID, blob_id: UUID, at: datetime) -> Blob | None:
    """Give a blob of the user's that is whole and holds at that moment."""
    return (await find_all(session, user_id, [blob_id], at)).get(blob_id)


async def find_all(session: ReadSession, user_id: UUID, ids: Sequence[UUID], at: datetime) -> dict[UUID, Blob]:
    """Give those of these blobs that are the user's, are whole and hold at that moment."""
    query = select(Blob).where(
        Blob.id.in_(ids), Blob.user_id == user_id, Blob.sha256.is_not(None), Blob.expires_at > at
    )
    return {row.id: row for row in await session.scalars(query)}


async def find_hash(session: ReadSession, user_id: UUID, sha256: str) -> Blob | None:
    """Give the user's blob with this hash, also one that has expired and is not yet removed."""
    return await session.scalar(select(Blob).where(Blob.user_id == user_id, Blob.sha256 == sha256))


async def find_chunk(session: ReadSession, blob_id: UUID, number: int) -> bytes | None:
    """Give one piece of a blob."""
    return await session.scalar(select(BlobChunk.data).where(BlobChunk.blob_id == blob_id, BlobChunk.number == number))


async def chunks(session: ReadSession, blob_id: UUID) -> AsyncGenerator[bytes, None]:
    """Give all pieces of a blob in their order, one after the other."""
    query = select(BlobChunk.data).where(BlobChunk.blob_id == blob_id).order_by(BlobChunk.number)
    async for data in await session.stream_scalars(query.execution_options(yield_per=1)):
        yield data


async def lock_owner(session: WriteSession, user_id: UUID) -> None:
    """Make other transactions that lock this user wait for the end of this one. On SQLite all writers do anyway."""
    await session.execute(select(User.id).where(User.id == user_id).with_for_update())


async def stored_bytes(session: ReadSession, user_id: UUID, at: datetime) -> int:
    """Give how many bytes the user's blobs have together, of those that are whole and hold at that moment."""
    query = select(func.coalesce(func.sum(Blob.size), 0))
    query = query.where(Blob.user_id == user_id, Blob.sha256.is_not(None), Blob.expires_at > at)
    return int(await session.scalar(query) or 0)


async def keep_until(session: WriteSession, ids: Sequence[UUID], until: datetime, since: datetime) -> None:
    """Move the expiry of these blobs, of those that would expire before `since`."""
    await session.execute(update(Blob).where(Blob.id.in_(ids), Blob.expires_at < since).values(expires_at=until))


async def remove(session: WriteSession, user_id: UUID, blob_id: UUID) -> bool:
    """Remove a blob of the user's with its pieces. False where there is none."""
    gone = delete(Blob).where(Blob.id == blob_id, Blob.user_id == user_id).returning(Blob.id)
    return (await session.scalar(gone)) is not None


async def remove_expired(session: WriteSession, at: datetime, limit: int) -> int:
    """Remove at most `limit` blobs whose time is over, also those that never became whole; tell how many."""
    old = select(Blob.id).where(stale(at)).order_by(Blob.expires_at).limit(limit)
    return len((await session.scalars(delete(Blob).where(Blob.id.in_(old)).returning(Blob.id))).all())


def stale(at: datetime) -> ColumnElement[bool]:
    """Give the condition of blobs whose time is over."""
    return Blob.expires_at <= at
