"""What tokens cost."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from db.clock import new_id, now
from db.tables.table import Table


class Price(Table):
    """The price of the models that a pattern means, from `valid_from` on. Written once: a correction is a new row.

    `model` is a pattern in lower case. Amounts are integers of 1e-9 of `currency`, for a million tokens each;
    `cached_nano` NULL is `prompt_nano`. `set_by` is NULL for the command line.
    """

    __tablename__ = "prices"
    __table_args__ = (Index(None, "model", "valid_from"),)

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    model: Mapped[str] = mapped_column(String(255))
    currency: Mapped[str] = mapped_column(String(3))
    prompt_nano: Mapped[int] = mapped_column(BigInteger)
    cached_nano: Mapped[int | None] = mapped_column(BigInteger)
    completion_nano: Mapped[int] = mapped_column(BigInteger)
    valid_from: Mapped[datetime]
    created_at: Mapped[datetime] = mapped_column(default=now)
    set_by: Mapped[UUID | None] = mapped_column(ForeignKey("users.id", ondelete="RESTRICT"))
