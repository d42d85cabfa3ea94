"""What is to be told to others: limits that are nearly used up, and webhooks on their way."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import JSON, BigInteger, Integer, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from db.clock import new_id, now
from db.tables.table import Table


class LimitCrossing(Table):
    """A counter of a limit that has come to a threshold: from `told_before` up to `told` percent of its `bound`.

    A trigger writes it with the statement that changes the counter, and so in the transaction of a start or an end.
    `noted_at` is when the audit log and the webhooks got it; NULL until then. There is no foreign key, as in counters.
    """

    __tablename__ = "limit_crossings"

    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True)
    limit_id: Mapped[UUID]
    subject: Mapped[str] = mapped_column(String(32))
    scope: Mapped[dict[str, str] | None] = mapped_column(JSON(none_as_null=True))
    window_start: Mapped[datetime]
    window_end: Mapped[datetime | None]
    told_before: Mapped[int]
    told: Mapped[int]
    used: Mapped[int] = mapped_column(BigInteger)
    reserved: Mapped[int] = mapped_column(BigInteger)
    bound: Mapped[int] = mapped_column(BigInteger)
    at: Mapped[datetime] = mapped_column(index=True)
    noted_at: Mapped[datetime | None] = mapped_column(index=True)


class WebhookMessage(Table):
    """A webhook that waits to be delivered. It is removed when it is, or when it is given up.

    Whoever delivers it moves `due_at` ahead first: until then it is theirs.
    """

    __tablename__ = "webhook_messages"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    type: Mapped[str] = mapped_column(String(64))
    body: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(default=now)
    due_at: Mapped[datetime] = mapped_column(default=now, index=True)
    attempts: Mapped[int] = mapped_column(default=0)
