"""What was asked for and how it ended."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, String, text
from sqlalchemy.orm import Mapped, mapped_column

from db.clock import new_id, now
from db.tables.table import Table, Tags

_UNFINISHED = text("finished_at IS NULL")


class Generation(Table):
    """One answer of a model: its state and its numbers. The text lives in the stream log, not here.

    `backend` is the one that it was given to first; `GenerationAttempt` tells which were asked.

    `content_policy` is what the database may keep of prompt and answer, beside the numbers.

    `detached_at` is since when its viewers may have seen more of the text than the log has that the gateways share.

    `last_token_ms` is when the last of its text came. `prompt_ms` and `eval_ms` are how long its model server says that
    it read the prompt, and that it generated.

    `usage_source` is the weakest source of its numbers, and the columns after it tell the source of each; they are NULL
    with the number, and where a gateway of an older version wrote it. `cost_nano` and `currency` are as in the ledger,
    whose row may be removed before.

    `group_ids` are the groups that the user was in when it began, NULL for none: the ledger gets them with the end.

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
    tags: Mapped[Tags | None]
    end_user: Mapped[str | None] = mapped_column(String(256))
    group_ids: Mapped[list[str] | None] = mapped_column(JSON(none_as_null=True))
    on_disconnect: Mapped[str] = mapped_column(String(16))
    content_policy: Mapped[str] = mapped_column(String(16), default="ALL", server_default="ALL")
    on_backend_loss: Mapped[str] = mapped_column(String(16), default="FAIL", server_default="FAIL")
    finish_reason: Mapped[str | None] = mapped_column(String(32))
    cancel_reason: Mapped[str | None] = mapped_column(String(16))
    error_code: Mapped[str | None] = mapped_column(String(64))
    error_message: Mapped[str | None] = mapped_column(String(500))
    error_retry_after_ms: Mapped[int | None]
    prompt_tokens: Mapped[int | None]
    completion_tokens: Mapped[int | None]
    cached_tokens: Mapped[int | None]
    thinking_tokens: Mapped[int | None]
    usage_source: Mapped[str | None] = mapped_column(String(16))
    prompt_source: Mapped[str | None] = mapped_column(String(16))
    completion_source: Mapped[str | None] = mapped_column(String(16))
    cached_source: Mapped[str | None] = mapped_column(String(16))
    thinking_source: Mapped[str | None] = mapped_column(String(16))
    cost_nano: Mapped[int | None] = mapped_column(BigInteger)
    currency: Mapped[str | None] = mapped_column(String(3))
    queued_ms: Mapped[int | None]
    load_ms: Mapped[int | None]
    time_to_first_token_ms: Mapped[int | None]
    total_ms: Mapped[int | None]
    last_token_ms: Mapped[int | None]
    eval_ms: Mapped[int | None]
    prompt_ms: Mapped[int | None]
    created_at: Mapped[datetime] = mapped_column(default=now)
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    detached_at: Mapped[datetime | None]


class GenerationAttempt(Table):
    """One asking of a backend for a generation; `number` counts from 1. Written with the generation's end."""

    __tablename__ = "generation_attempts"

    generation_id: Mapped[UUID] = mapped_column(ForeignKey("generations.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    backend: Mapped[str] = mapped_column(String(64))
    started_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]
    prompt_tokens: Mapped[int | None]
    completion_tokens: Mapped[int | None]
    cached_tokens: Mapped[int | None]
    thinking_tokens: Mapped[int | None]
    usage_source: Mapped[str | None] = mapped_column(String(16))
    prompt_source: Mapped[str | None] = mapped_column(String(16))
    completion_source: Mapped[str | None] = mapped_column(String(16))
    cached_source: Mapped[str | None] = mapped_column(String(16))
    thinking_source: Mapped[str | None] = mapped_column(String(16))
    error_code: Mapped[str | None] = mapped_column(String(64))
    error_message: Mapped[str | None] = mapped_column(String(500))
    error_retry_after_ms: Mapped[int | None]


class IdempotencyKey(Table):
    """What a caller began under a key of their own choosing. `principal_id` is the API key's id, or the user's."""

    __tablename__ = "idempotency_keys"

    principal_id: Mapped[UUID] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    request_hash: Mapped[str] = mapped_column(String(64))
    generation_id: Mapped[UUID] = mapped_column(ForeignKey("generations.id", ondelete="CASCADE"), index=True)
    created_at: Mapped[datetime] = mapped_column(default=now, index=True)


class Transcript(Table):
    """What was said in a generation, where it is kept for longer than the stream log does; one row, so one expiry.

    `request` and `media` are what was asked, written with the generation; NULL where only the answer is kept.
    `events` and `expires_at` come with its end: until then they are NULL. `events` stay NULL where no text was left.
    """

    __tablename__ = "transcripts"

    generation_id: Mapped[UUID] = mapped_column(ForeignKey("generations.id", ondelete="CASCADE"), primary_key=True)
    events: Mapped[bytes | None]
    expires_at: Mapped[datetime | None] = mapped_column(index=True)
    request: Mapped[bytes | None]
    media: Mapped[bytes | None]
