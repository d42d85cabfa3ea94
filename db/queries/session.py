"""The statements about sessions."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import update

from db.engine import WriteSession
from db.tables import Session


async def revoke_sessions(
    session: WriteSession, user_id: UUID, at: datetime, reason: str, *, keep: UUID | None = None
) -> list[UUID]:
    """End all sessions of a user but one, and give their ids; those that ended earlier keep their reason."""
    ended = update(Session).where(Session.user_id == user_id, Session.revoked_at.is_(None))
    if keep is not None:
        ended = ended.where(Session.id != keep)
    found = await session.scalars(ended.values(revoked_at=at, revoke_reason=reason).returning(Session.id))
    return list(found)
