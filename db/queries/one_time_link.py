"""The statements about one-time links."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ColumnElement, delete, select, update

from db.engine import ReadSession, WriteSession
from db.tables import OneTimeLink, User


async def user_of(session: ReadSession, secret_hash: str, at: datetime) -> User | None:
    """Give the user for whom a link holds at that moment."""
    query = select(User).join(OneTimeLink, OneTimeLink.user_id == User.id)
    return await session.scalar(query.where(*_holds(secret_hash, at), User.disabled_at.is_(None)))


async def use(session: WriteSession, secret_hash: str, at: datetime) -> UUID | None:
    """Use a link up, and give whose it is; None where it does not hold any more. One statement: it is used once."""
    used = update(OneTimeLink).where(*_holds(secret_hash, at)).values(used_at=at)
    return await session.scalar(used.returning(OneTimeLink.user_id))


async def remove_of(session: WriteSession, user_id: UUID) -> None:
    """Remove all links of a user."""
    await session.execute(delete(OneTimeLink).where(OneTimeLink.user_id == user_id))


async def purge(session: WriteSession, expired_before: datetime) -> None:
    """Remove those that expired before that moment."""
    await session.execute(delete(OneTimeLink).where(stale(expired_before)))


def stale(expired_before: datetime) -> ColumnElement[bool]:
    """Give the condition of those that expired before that moment."""
    return OneTimeLink.expires_at < expired_before


def _holds(secret_hash: str, at: datetime) -> tuple[ColumnElement[bool], ...]:
    return OneTimeLink.secret_hash == secret_hash, OneTimeLink.used_at.is_(None), OneTimeLink.expires_at > at
