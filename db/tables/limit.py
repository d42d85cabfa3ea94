"""Limits, what is counted against them, and what is reserved."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import JSON, BigInteger, ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from db.clock import new_id, now
from db.tables.table import Table


class Limit(Table):
    """A limit on what is used: `amount` of what is measured, in each window.

    It counts the generations that meet its conditions, the columns from `role` to `tag_value`; NULL takes all.
    `model` is a pattern. `each` names what has a counter of its own, such as every user; without it all share one.
    `window` is NULL for what runs at once. `amount` of COST is in 1e-9 of the `currency`. The days and months are those
    of `time_zone`; NULL: of the user whose limit it is, else of UTC.
    """

    __tablename__ = "limits"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    name: Mapped[str] = mapped_column(String(100), unique=True)
    measure: Mapped[str] = mapped_column(String(16))
    window: Mapped[str | None] = mapped_column(String(16))
    amount: Mapped[int] = mapped_column(BigInteger)
    currency: Mapped[str | None] = mapped_column(String(3))
    each: Mapped[list[str]]
    role: Mapped[str | None] = mapped_column(String(64))
    group_id: Mapped[UUID | None] = mapped_column(ForeignKey("groups.id", ondelete="CASCADE"))
    user_id: Mapped[UUID | None] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    api_key_id: Mapped[UUID | None] = mapped_column(ForeignKey("api_keys.id", ondelete="CASCADE"))
    model: Mapped[str | None] = mapped_column(String(255))
    end_user: Mapped[str | None] = mapped_column(String(256))
    tag_name: Mapped[str | None] = mapped_column(String(64))
    tag_value: Mapped[str | None] = mapped_column(String(256))
    time_zone: Mapped[str | None] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(default=now)
    updated_at: Mapped[datetime] = mapped_column(default=now)


class LimitException(Table):
    """Another amount for a role, a group, a user or a key; NULL is no limit."""

    __tablename__ = "limit_exceptions"

    limit_id: Mapped[UUID] = mapped_column(ForeignKey("limits.id", ondelete="CASCADE"), primary_key=True)
    kind: Mapped[str] = mapped_column(String(16), primary_key=True)
    subject: Mapped[str] = mapped_column(String(64), primary_key=True)
    amount: Mapped[int | None] = mapped_column(BigInteger)


class LimitCounter(Table):
    """What one subject of a limit has used and reserved in the window that is open, or was the last.

    `subject` is a digest of the values of what `each` of the limit names. `bound` is what that subject may use, as
    it was when something was reserved last, and `scope` those values. A window without an end is that of what runs at
    once. `told` is the highest threshold, in percent of the bound, that what was used has come to in the window; a
    trigger writes a LimitCrossing where it rises. `changed_at` is when the counter was changed last.

    There is no foreign key: a gateway that has not noticed yet that a limit was removed must not fail to start what
    the limit would have counted.
    """

    __tablename__ = "limit_counters"

    limit_id: Mapped[UUID] = mapped_column(primary_key=True)
    subject: Mapped[str] = mapped_column(String(32), primary_key=True)
    window_start: Mapped[datetime]
    window_end: Mapped[datetime | None] = mapped_column(index=True)
    used: Mapped[int] = mapped_column(BigInteger)
    reserved: Mapped[int] = mapped_column(BigInteger)
    bound: Mapped[int] = mapped_column(BigInteger)
    scope: Mapped[dict[str, str] | None] = mapped_column(JSON(none_as_null=True))
    told: Mapped[int] = mapped_column(default=0, server_default="0")
    changed_at: Mapped[datetime | None]


class Reservation(Table):
    """What an unfinished generation may use of a limit. Its end settles it, whichever gateway writes that."""

    __tablename__ = "reservations"

    generation_id: Mapped[UUID] = mapped_column(primary_key=True)
    limit_id: Mapped[UUID] = mapped_column(primary_key=True, index=True)
    subject: Mapped[str] = mapped_column(String(32), primary_key=True)
    window_start: Mapped[datetime]
    measure: Mapped[str] = mapped_column(String(16))
    currency: Mapped[str | None] = mapped_column(String(3))
    amount: Mapped[int] = mapped_column(BigInteger)
