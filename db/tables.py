"""The tables, typed. Migrations in `alembic/` must give exactly these (a test compares them on both databases).

Keys are UUIDv7 (RFC 9562), so they sort by time of creation. Times are UTC with a zone on every database.
"""

from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID

import uuid_utils.compat
from sqlalchemy import (
    JSON,
    Date,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    MetaData,
    String,
    TypeDecorator,
    Uuid,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


def new_id() -> UUID:
    """A fresh UUIDv7: unique, and later ones sort after earlier ones."""
    return uuid_utils.compat.uuid7()


def now() -> datetime:
    """The present moment in UTC. The one clock of the database layer."""
    return datetime.now(UTC)


class UtcDateTime(TypeDecorator[datetime]):
    """A moment with a zone. SQLite keeps no zone, so it gets the UTC wall time and gives it back as UTC."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse a moment without a zone: it would be read as another one elsewhere."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a datetime without a zone cannot be stored")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Give every moment back in UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Table(DeclarativeBase):
    """The base of all tables; constraints get names that a migration can refer to."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy reads it off the class
        datetime: UtcDateTime(),
        date: Date(),
        UUID: Uuid(),
        list[str]: JSON(),
        dict[str, Any]: JSON(),
    }


class User(Table):
    """A person or service that signs in. `username` is kept in lower case."""

    __tablename__ = "users"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    username: Mapped[str] = mapped_column(String(64), unique=True)
    password_hash: Mapped[str] = mapped_column(String(255))
    is_admin: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[datetime] = mapped_column(default=now)
    disabled_at: Mapped[datetime | None]


class LoginAttempts(Table):
    """Sign-ins that failed or are under way, by the name that was typed, by the address, and by both.

    A row for a name alone has the address "", one for an address alone the name " ", which nobody can type. Whether
    there is such a user makes no difference: a lock must not tell.
    """

    __tablename__ = "login_attempts"

    username: Mapped[str] = mapped_column(String(64), primary_key=True)
    address: Mapped[str] = mapped_column(String(64), primary_key=True, default="")
    failures: Mapped[int]
    last_failed_at: Mapped[datetime] = mapped_column(index=True)
    locked_until: Mapped[datetime | None]


class KnownAddress(Table):
    """Where a user has signed in from lately: their next sign-in from there does not depend on strangers."""

    __tablename__ = "known_addresses"

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    address: Mapped[str] = mapped_column(String(64), primary_key=True, index=True)
    signed_in_at: Mapped[datetime] = mapped_column(index=True)


class ApiKey(Table):
    """A key of a user's. Only the SHA-256 of the secret is kept; `prefix` is what a person recognises it by."""

    __tablename__ = "api_keys"
    __table_args__ = (Index(None, "user_id", "id"),)

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(String(100))
    prefix: Mapped[str] = mapped_column(String(16))
    secret_hash: Mapped[str] = mapped_column(String(64), unique=True)
    scopes: Mapped[list[str]]
    created_at: Mapped[datetime] = mapped_column(default=now)
    expires_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


_UNFINISHED = text("finished_at IS NULL")


class Generation(Table):
    """One answer of a model: its state and its numbers. The text lives in the stream log, not here.

    `detached_at` is since when its viewers may have seen more of the text than the log has that the gateways share.

    `last_token_ms` is when the last of its text came, and `eval_ms` how long its model server says that it generated.

    `replica_id` is the gateway that runs it; None offers it to any other. Each change of hands raises `fence`, and
    who holds an older one writes nothing any more.
    """

    __tablename__ = "generations"
    __table_args__ = (
        Index(None, "user_id", "id"),
        Index(None, "user_id", "state", "id"),
        # for what a killed process left behind: as small as that is, however many generations there are
        Index("ix_generations_unfinished", "id", sqlite_where=_UNFINISHED, postgresql_where=_UNFINISHED),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    api_key_id: Mapped[UUID | None] = mapped_column(ForeignKey("api_keys.id", ondelete="SET NULL"))
    model: Mapped[str] = mapped_column(String(255))
    backend: Mapped[str] = mapped_column(String(64))
    state: Mapped[str] = mapped_column(String(16))
    replica_id: Mapped[UUID | None]
    fence: Mapped[int] = mapped_column(default=1, server_default="1")
    on_disconnect: Mapped[str] = mapped_column(String(16))
    on_backend_loss: Mapped[str] = mapped_column(String(16), default="FAIL", server_default="FAIL")
    finish_reason: Mapped[str | None] = mapped_column(String(32))
    error_code: Mapped[str | None] = mapped_column(String(64))
    error_message: Mapped[str | None] = mapped_column(String(500))
    prompt_tokens: Mapped[int | None]
    completion_tokens: Mapped[int | None]
    cached_tokens: Mapped[int | None]
    usage_source: Mapped[str | None] = mapped_column(String(16))
    queued_ms: Mapped[int | None]
    load_ms: Mapped[int | None]
    time_to_first_token_ms: Mapped[int | None]
    total_ms: Mapped[int | None]
    last_token_ms: Mapped[int | None]
    eval_ms: Mapped[int | None]
    created_at: Mapped[datetime] = mapped_column(default=now)
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    detached_at: Mapped[datetime | None]


class UsageRecord(Table):
    """The ledger: one row for each ended generation, written once and never changed. `day` is the UTC day of `at`."""

    __tablename__ = "usage"
    __table_args__ = (Index(None, "user_id", "at"),)

    generation_id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    api_key_id: Mapped[UUID | None] = mapped_column(ForeignKey("api_keys.id", ondelete="SET NULL"))
    model: Mapped[str] = mapped_column(String(255))
    prompt_tokens: Mapped[int]
    completion_tokens: Mapped[int]
    cached_tokens: Mapped[int | None]
    source: Mapped[str] = mapped_column(String(16))
    at: Mapped[datetime]
    day: Mapped[date]


class Replica(Table):
    """A gateway that is alive: it raises `beat` all the time, and the others delete the row when that stops."""

    __tablename__ = "replicas"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    beat: Mapped[int] = mapped_column(default=0)
    started_at: Mapped[datetime] = mapped_column(default=now)
    seen_at: Mapped[datetime] = mapped_column(default=now)


class IdempotencyKey(Table):
    """What a caller began under a key of their own choosing. `principal_id` is the API key's id, or the user's."""

    __tablename__ = "idempotency_keys"

    principal_id: Mapped[UUID] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    request_hash: Mapped[str] = mapped_column(String(64))
    generation_id: Mapped[UUID] = mapped_column(ForeignKey("generations.id", ondelete="CASCADE"), index=True)
    created_at: Mapped[datetime] = mapped_column(default=now, index=True)


class Transcript(Table):
    """All events of an ended generation, where its text is kept for longer than the stream log does."""

    __tablename__ = "transcripts"

    generation_id: Mapped[UUID] = mapped_column(ForeignKey("generations.id", ondelete="CASCADE"), primary_key=True)
    events: Mapped[bytes]
    expires_at: Mapped[datetime] = mapped_column(index=True)
