"""Who may ask, and what they may do."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import JSON, ForeignKey, Index, String, text
from sqlalchemy.orm import Mapped, mapped_column

from db.clock import new_id, now
from db.tables.table import Table


class User(Table):
    """A person, or a service account, which owns keys and has no password. `username` is kept in lower case.

    `password_hash` is "!" for who has no password. `role` is the name of a role: one that is built in, or a row of
    `Role`. `time_zone` is a name of the IANA database; NULL: UTC. Who has `disabled_at` may do nothing. Who was
    deleted stays as a tombstone with both times and without a name, for the ledger refers to it.
    """

    __tablename__ = "users"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    username: Mapped[str] = mapped_column(String(64), unique=True)
    password_hash: Mapped[str] = mapped_column(String(255))
    kind: Mapped[str] = mapped_column(String(16), default="PERSON", server_default="PERSON")
    role: Mapped[str] = mapped_column(String(64), default="developer", server_default="developer", index=True)
    email: Mapped[str | None] = mapped_column(String(254), index=True)
    display_name: Mapped[str | None] = mapped_column(String(100))
    time_zone: Mapped[str | None] = mapped_column(String(64))
    must_change_password: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    created_at: Mapped[datetime] = mapped_column(default=now)
    last_signed_in_at: Mapped[datetime | None]
    password_changed_at: Mapped[datetime | None]
    disabled_at: Mapped[datetime | None]
    deleted_at: Mapped[datetime | None]


class ExternalAccount(Table):
    """An account at an identity provider that signs in a user, by the provider's own stable id of it."""

    __tablename__ = "external_accounts"

    provider: Mapped[str] = mapped_column(String(64), primary_key=True)
    subject: Mapped[str] = mapped_column(String(255), primary_key=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    username: Mapped[str] = mapped_column(String(255))
    linked_at: Mapped[datetime] = mapped_column(default=now)
    last_signed_in_at: Mapped[datetime | None]


class Role(Table):
    """A role beside those that are built in: a name for scopes."""

    __tablename__ = "roles"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    description: Mapped[str] = mapped_column(String(200), default="")
    scopes: Mapped[list[str]]
    created_at: Mapped[datetime] = mapped_column(default=now)


class Group(Table):
    """Users who may use the same models. `models` are patterns of names; NULL allows all."""

    __tablename__ = "groups"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    name: Mapped[str] = mapped_column(String(100), unique=True)
    description: Mapped[str] = mapped_column(String(200), default="")
    models: Mapped[list[str] | None] = mapped_column(JSON(none_as_null=True))
    created_at: Mapped[datetime] = mapped_column(default=now)


class GroupMember(Table):
    """A user in a group. `provider` is the identity provider that put them there; NULL: an administrator did."""

    __tablename__ = "group_members"

    group_id: Mapped[UUID] = mapped_column(ForeignKey("groups.id", ondelete="CASCADE"), primary_key=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True, index=True)
    provider: Mapped[str | None] = mapped_column(String(64))


class ApiKey(Table):
    """A key of a user's. Only the SHA-256 of the secret is kept; `prefix` is what a person recognises it by.

    `models`, `origins` and `networks` limit what it is for, from which pages and from which addresses; NULL: no limit.
    `content_policy` is what may be kept at most of prompts and answers.
    For a time after a rotation the secret before holds, too: `previous_hash`, until `previous_expires_at`.
    `rotation_key` is the idempotency key of the last rotation.
    """

    __tablename__ = "api_keys"
    __table_args__ = (Index(None, "user_id", "id"), Index(None, "previous_hash", unique=True))

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(String(100))
    prefix: Mapped[str] = mapped_column(String(16))
    secret_hash: Mapped[str] = mapped_column(String(64), unique=True)
    scopes: Mapped[list[str]]
    models: Mapped[list[str] | None] = mapped_column(JSON(none_as_null=True))
    origins: Mapped[list[str] | None] = mapped_column(JSON(none_as_null=True))
    networks: Mapped[list[str] | None] = mapped_column(JSON(none_as_null=True))
    content_policy: Mapped[str | None] = mapped_column(String(16))
    created_at: Mapped[datetime] = mapped_column(default=now)
    expires_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
    last_used_address: Mapped[str | None] = mapped_column(String(64))
    revoked_at: Mapped[datetime | None]
    rotated_at: Mapped[datetime | None]
    rotation_key: Mapped[str | None] = mapped_column(String(64))
    previous_hash: Mapped[str | None] = mapped_column(String(64))
    previous_expires_at: Mapped[datetime | None]
