"""Sign-ins: what failed, from where people sign in, and what is begun at an identity provider or on a device."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from db.clock import new_id, now
from db.tables.table import Table


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


class LoginFlow(Table):
    """A sign-in that was begun at an identity provider, until the browser comes back; used once.

    `state_hash` is the SHA-256 of the `state` that the provider sends back; `browser_hash` that of a cookie of the
    browser that began it. `data` is what the provider's end of the flow needs: nonce, PKCE verifier, where to go.
    `user_id` is who wants to link the account, where somebody who is signed in began it, in the session `session_id`.
    `address` is where it was begun, for the limit of those that wait.
    """

    __tablename__ = "login_flows"

    state_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    browser_hash: Mapped[str] = mapped_column(String(64))
    provider: Mapped[str] = mapped_column(String(64))
    user_id: Mapped[UUID | None] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    session_id: Mapped[UUID | None]
    address: Mapped[str | None] = mapped_column(String(64), index=True)
    data: Mapped[dict[str, Any]]
    expires_at: Mapped[datetime] = mapped_column(index=True)


class DeviceCode(Table):
    """A device that waits for somebody to approve it in a browser (RFC 8628). Only hashes of its codes are kept.

    `user_id` and `approved_at` come with the approval, `denied_at` with a refusal; `used_at` ends it. It has to wait
    `poll_interval` seconds between two polls; `polled_at` is the last one that kept to it.
    """

    __tablename__ = "device_codes"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    device_hash: Mapped[str] = mapped_column(String(64), unique=True)
    user_code_hash: Mapped[str] = mapped_column(String(64), unique=True)
    client: Mapped[str] = mapped_column(String(200))
    address: Mapped[str] = mapped_column(String(64))
    user_id: Mapped[UUID | None] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    created_at: Mapped[datetime] = mapped_column(default=now)
    expires_at: Mapped[datetime] = mapped_column(index=True)
    polled_at: Mapped[datetime | None]
    poll_interval: Mapped[int] = mapped_column(default=5, server_default="5")
    approved_at: Mapped[datetime | None]
    denied_at: Mapped[datetime | None]
    used_at: Mapped[datetime | None]
