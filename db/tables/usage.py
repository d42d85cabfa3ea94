"""What was used: the ledger, and its sums."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, SmallInteger, String, text
from sqlalchemy.orm import Mapped, mapped_column

from db.tables.table import Table, Tags

_NOT_ROLLED_UP = text("NOT rolled_up")


class UsageRecord(Table):
    """The ledger: one row for each ended generation, written once; it outlives its generation and its API key.

    Its user stays as a tombstone. `group_ids` are the groups that the user was in at the start, NULL for none.
    `source` tells where the counts are from, the weakest source of them; the columns after it tell it of each, as in
    `Generation`. Times are as in `Generation`; tokens a second are computed from them. `cost_nano` is in billionths of
    the unit of `currency` (ISO 4217), by the price `price_id`; NULL where there was none.

    `rolled_up` tells that the roll-ups have it. It is added to them a moment after it was written, and until then a
    report reads the row itself.
    """

    __tablename__ = "usage"
    __table_args__ = (
        Index(None, "user_id", "at"),
        Index(None, "at"),
        Index("ix_usage_not_rolled_up", "at", sqlite_where=_NOT_ROLLED_UP, postgresql_where=_NOT_ROLLED_UP),
    )

    generation_id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="RESTRICT"))
    api_key_id: Mapped[UUID | None]
    model: Mapped[str] = mapped_column(String(255))
    tags: Mapped[Tags | None]
    end_user: Mapped[str | None] = mapped_column(String(256))
    prompt_tokens: Mapped[int]
    completion_tokens: Mapped[int]
    cached_tokens: Mapped[int | None]
    thinking_tokens: Mapped[int | None]
    source: Mapped[str] = mapped_column(String(16))
    prompt_source: Mapped[str | None] = mapped_column(String(16))
    completion_source: Mapped[str | None] = mapped_column(String(16))
    cached_source: Mapped[str | None] = mapped_column(String(16))
    thinking_source: Mapped[str | None] = mapped_column(String(16))
    at: Mapped[datetime]
    backend: Mapped[str] = mapped_column(String(64), server_default="unknown")
    state: Mapped[str] = mapped_column(String(16), server_default="COMPLETED")
    finish_reason: Mapped[str | None] = mapped_column(String(32))
    cancel_reason: Mapped[str | None] = mapped_column(String(16))
    error_code: Mapped[str | None] = mapped_column(String(64))
    group_ids: Mapped[list[str] | None] = mapped_column(JSON(none_as_null=True))
    queued_ms: Mapped[int | None]
    time_to_first_token_ms: Mapped[int | None]
    last_token_ms: Mapped[int | None]
    eval_ms: Mapped[int | None]
    total_ms: Mapped[int | None]
    cost_nano: Mapped[int | None] = mapped_column(BigInteger)
    currency: Mapped[str | None] = mapped_column(String(3))
    price_id: Mapped[UUID | None]
    rolled_up: Mapped[bool] = mapped_column(default=False, server_default=text("false"))


class UsageKey(Table):
    """What one series of roll-ups is about: a value of each dimension of its grouping set, and a currency.

    `id` is a hash of the rest, so that whoever writes a roll-up knows it without asking. `grouping` names the
    dimensions (`gateway.usage.rollups`); the others are NULL. It refers to nothing: it outlives what it names.
    """

    __tablename__ = "usage_keys"
    __table_args__ = (Index(None, "grouping", "user_id"),)

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    grouping: Mapped[str] = mapped_column(String(16))
    user_id: Mapped[UUID | None]
    api_key_id: Mapped[UUID | None]
    model: Mapped[str | None] = mapped_column(String(255))
    backend: Mapped[str | None] = mapped_column(String(64))
    state: Mapped[str | None] = mapped_column(String(16))
    finish_reason: Mapped[str | None] = mapped_column(String(32))
    group_id: Mapped[str | None] = mapped_column(String(36))
    tag_name: Mapped[str | None] = mapped_column(String(64))
    tag_value: Mapped[str | None] = mapped_column(String(256))
    end_user: Mapped[str | None] = mapped_column(String(256))
    currency: Mapped[str | None] = mapped_column(String(3))
    other: Mapped[bool] = mapped_column(default=False, server_default=text("false"))


class UsageRollup(Table):
    """The sums of one key over the `seconds` from `start` (seconds since 1970); changed with the ledger.

    Those over a month of UTC are made of those over its days, and count only as far as `UsageMonth` tells.
    The costs are a sum of whole units and one of billionths, by themselves: together they could outgrow 64 bits.
    """

    __tablename__ = "usage_rollups"
    __table_args__ = ({"sqlite_with_rowid": False},)

    key_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    seconds: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    start: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    generations: Mapped[int] = mapped_column(BigInteger)
    completed: Mapped[int] = mapped_column(BigInteger)
    cancelled: Mapped[int] = mapped_column(BigInteger)
    failed: Mapped[int] = mapped_column(BigInteger)
    prompt_tokens: Mapped[int] = mapped_column(BigInteger)
    completion_tokens: Mapped[int] = mapped_column(BigInteger)
    cached_tokens: Mapped[int] = mapped_column(BigInteger)
    thinking_tokens: Mapped[int] = mapped_column(BigInteger)
    cost_units: Mapped[int] = mapped_column(BigInteger)
    cost_nano: Mapped[int] = mapped_column(BigInteger)


class UsageBin(Table):
    """How many generations of one key and time had a value that falls into one bin of a histogram."""

    __tablename__ = "usage_bins"
    __table_args__ = ({"sqlite_with_rowid": False},)

    key_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    seconds: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    start: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    measure: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    bin: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    generations: Mapped[int] = mapped_column(BigInteger)


class UsageMonth(Table):
    """Up to where the days of a month, which begins at `start`, are in its roll-ups (seconds since 1970).

    It counts only while the days in all have as many `generations`: where one came late, the month is made anew.
    NULL while `maker` makes it.
    """

    __tablename__ = "usage_months"

    start: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    until: Mapped[int] = mapped_column(BigInteger)
    generations: Mapped[int | None] = mapped_column(BigInteger)
    maker: Mapped[UUID]


class UsageDetails(Table):
    """Since when the ledger's rows are all there; one row, none where none was ever removed."""

    __tablename__ = "usage_details"

    id: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    kept_since: Mapped[datetime]
