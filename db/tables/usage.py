"""What was used."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from db.tables.table import Table, Tags


class UsageRecord(Table):
    """The ledger: one row for each ended generation, written once and never changed."""

    __tablename__ = "usage"
    __table_args__ = (Index(None, "user_id", "at"), Index(None, "at"))

    generation_id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="RESTRICT"))
    api_key_id: Mapped[UUID | None] = mapped_column(ForeignKey("api_keys.id", ondelete="SET NULL"))
    model: Mapped[str] = mapped_column(String(255))
    tags: Mapped[Tags | None]
    end_user: Mapped[str | None] = mapped_column(String(256))
    prompt_tokens: Mapped[int]
    completion_tokens: Mapped[int]
    cached_tokens: Mapped[int | None]
    thinking_tokens: Mapped[int | None]
    source: Mapped[str] = mapped_column(String(16))
    at: Mapped[datetime]
    backend: Mapped[str] = mapped_column(String(64), server_default="unknown")
    state: Mapped[str] = mapped_column(String(16), server_default="COMPLETED")
    finish_reason: Mapped[str | None] = mapped_column(String(32))
