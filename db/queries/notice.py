"""The statements about what is to be told to others."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import bindparam, delete, func, select, update

from db.engine import ReadSession, WriteSession
from db.tables import LimitCrossing, WebhookMessage

_UNNOTED = (
    select(LimitCrossing).where(LimitCrossing.noted_at.is_(None)).order_by(LimitCrossing.id).limit(bindparam("most"))
)


async def unnoted(session: ReadSession, most: int) -> Sequence[LimitCrossing]:
    """Give crossings that are in no audit log yet, the oldest first."""
    return (await session.scalars(_UNNOTED, {"most": most})).all()


async def note(session: WriteSession, crossing_id: int, at: datetime) -> bool:
    """Take a crossing to note it; False where somebody else has."""
    noted = (
        update(LimitCrossing)
        .where(LimitCrossing.id == crossing_id, LimitCrossing.noted_at.is_(None))
        .values(noted_at=at)
        .returning(LimitCrossing.id)
    )
    return await session.scalar(noted) is not None


async def crossings_since(session: ReadSession, at: datetime, most: int) -> Sequence[LimitCrossing]:
    """Give the crossings since a moment, at most so many of the last ones, the oldest first."""
    wanted = select(LimitCrossing).where(LimitCrossing.at >= at).order_by(LimitCrossing.id.desc()).limit(most)
    return (await session.scalars(wanted)).all()[::-1]


async def purge(session: WriteSession, *, noted_before: datetime, created_before: datetime) -> None:
    """Remove crossings that were noted, and webhooks that were made, before these moments."""
    await session.execute(delete(LimitCrossing).where(LimitCrossing.noted_at < noted_before))
    await session.execute(delete(WebhookMessage).where(WebhookMessage.created_at < created_before))


async def count_messages(session: ReadSession) -> int:
    """Tell how many webhooks wait."""
    return await session.scalar(select(func.count()).select_from(WebhookMessage)) or 0


async def due(session: ReadSession, at: datetime, most: int) -> Sequence[WebhookMessage]:
    """Give webhooks that are to be delivered by now, those first that have waited longest."""
    wanted = select(WebhookMessage).where(WebhookMessage.due_at <= at).order_by(WebhookMessage.due_at).limit(most)
    return (await session.scalars(wanted)).all()


async def claim(session: WriteSession, message: WebhookMessage, until: datetime) -> bool:
    """Have a webhook for oneself until a moment; False where somebody was quicker, or has delivered it."""
    claimed = (
        update(WebhookMessage)
        .where(WebhookMessage.id == message.id, WebhookMessage.due_at == message.due_at)
        .values(due_at=until, attempts=WebhookMessage.attempts + 1)
        .returning(WebhookMessage.id)
    )
    return await session.scalar(claimed) is not None


async def postpone(session: WriteSession, message_id: UUID, until: datetime) -> None:
    """Deliver a webhook again from that moment on."""
    await session.execute(update(WebhookMessage).where(WebhookMessage.id == message_id).values(due_at=until))


async def remove(session: WriteSession, message_id: UUID) -> None:
    """Remove a webhook that is delivered or given up."""
    await session.execute(delete(WebhookMessage).where(WebhookMessage.id == message_id))
