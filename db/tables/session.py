"""Signed-in sessions, and the one-time links that lead to a password."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from db.clock import new_id, now
from db.tables.table import Table


class Session(Table):
    """A sign-in on one device, from `login` to `logout`: the family of its refresh tokens.

    `provider` is who checked the identity, `provider_session` how the provider calls its own session (`sid`), `client`
    the User-Agent, `address` where it was used last. `revoke_reason` tells why it ended before its time.
    """

    __tablename__ = "sessions"
    __table_args__ = (Index(None, "user_id", "id"),)

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    provider: Mapped[str] = mapped_column(String(64))
    provider_session: Mapped[str | None] = mapped_column(String(255), index=True)
    client: Mapped[str] = mapped_column(String(200))
    address: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(default=now)
    last_used_at: Mapped[datetime] = mapped_column(default=now)
    expires_at: Mapped[datetime] = mapped_column(index=True)
    revoked_at: Mapped[datetime | None]
    revoke_reason: Mapped[str | None] = mapped_column(String(32))


class RefreshToken(Table):
    """A refresh token of a session, used or not: one that comes back after its use is stolen.

    Only its SHA-256 is kept. `nonce` comes with the use; with the token itself it gives the next one, so that a client
    that lost the answer gets the same one again.
    """

    __tablename__ = "refresh_tokens"

    secret_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    session_id: Mapped[UUID] = mapped_column(ForeignKey("sessions.id", ondelete="CASCADE"), index=True)
    created_at: Mapped[datetime] = mapped_column(default=now)
    used_at: Mapped[datetime | None]
    nonce: Mapped[str | None] = mapped_column(String(64))


class OneTimeLink(Table):
    """A link with which one person sets their password: an invitation, or a reset. Only its SHA-256 is kept."""

    __tablename__ = "one_time_links"

    secret_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    purpose: Mapped[str] = mapped_column(String(16))
    created_by: Mapped[UUID | None]
    created_at: Mapped[datetime] = mapped_column(default=now)
    expires_at: Mapped[datetime] = mapped_column(index=True)
    used_at: Mapped[datetime | None]
