"""The statements about idempotency keys."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ColumnElement, delete, select

from db.engine import ReadSession, WriteSession
from db.tables import IdempotencyKey


async def find_key(session: ReadSession, principal_id: UUID, key: str, since: datetime) -> IdempotencyKey | None:
    """Give what the principal began under the key since that moment."""
    return await session.scalar(
        select(IdempotencyKey).where(
            IdempotencyKey.principal_id == principal_id, IdempotencyKey.key == key, IdempotencyKey.created_at >= since
        )
    )


async def forget_keys(session: WriteSession, before: datetime, principal_id: UUID | None = None) -> None:
    """Delete those older than that moment, of one principal or of all: they no longer count."""
    old = delete(IdempotencyKey).where(stale(before))
    if principal_id is not None:
        old = old.where(IdempotencyKey.principal_id == principal_id)
    await session.execute(old)


def stale(before: datetime) -> ColumnElement[bool]:
    """Give the condition of those older than that moment."""
    return IdempotencyKey.created_at < before
