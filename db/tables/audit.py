"""Who did what to what."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import JSON, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from db.clock import new_id, now
from db.tables.table import Table


class AuditEvent(Table):
    """One thing that somebody did or was refused. Written once; removed by age alone.

    It refers to nothing by a foreign key, since it outlives what it tells of. `actor` is the name at that time; a
    stranger has none. `action` is the mutation, or the command on the command line. `code` is why it was refused.
    """

    __tablename__ = "audit_events"
    __table_args__ = (
        Index(None, "actor_id", "id"),
        Index(None, "action", "id"),
        Index(None, "target_id", "id"),
        Index(None, "at"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    at: Mapped[datetime] = mapped_column(default=now)
    actor_id: Mapped[UUID | None]
    actor: Mapped[str | None] = mapped_column(String(64))
    method: Mapped[str] = mapped_column(String(16))
    api_key_id: Mapped[UUID | None]
    session_id: Mapped[UUID | None]
    action: Mapped[str] = mapped_column(String(64))
    outcome: Mapped[str] = mapped_column(String(16))
    code: Mapped[str | None] = mapped_column(String(64))
    target_type: Mapped[str | None] = mapped_column(String(32))
    target_id: Mapped[str | None] = mapped_column(String(255))
    address: Mapped[str | None] = mapped_column(String(64))
    client: Mapped[str | None] = mapped_column(String(200))
    request_id: Mapped[str | None] = mapped_column(String(64))
    count: Mapped[int] = mapped_column(default=1)
    details: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
