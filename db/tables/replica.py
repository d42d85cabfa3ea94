"""Who runs this installation."""

from datetime import datetime
from uuid import UUID

from sqlalchemy.orm import Mapped, mapped_column

from db.clock import new_id, now
from db.tables.table import Table


class Replica(Table):
    """A gateway that is alive: it raises `heartbeat` all the time, and the others delete the row when that stops."""

    __tablename__ = "replicas"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    heartbeat: Mapped[int] = mapped_column("beat", default=0)
    started_at: Mapped[datetime] = mapped_column(default=now)
    seen_at: Mapped[datetime] = mapped_column(default=now)
