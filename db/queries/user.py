"""The statements about accounts: who there is, who may not be the last, and what stays of who was deleted."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import bindparam, delete, exists, func, or_, select, update

from db.engine import ReadSession, WriteSession
from db.tables import (
    ApiKey,
    Blob,
    DeviceCode,
    ExternalAccount,
    Generation,
    GroupMember,
    IdempotencyKey,
    KnownAddress,
    LoginAttempts,
    LoginFlow,
    OneTimeLink,
    Session,
    Transcript,
    User,
)

NO_PASSWORD = "!"  # noqa: S105 - what stands where there is none
"""The hash of who has no password; see `User`."""


class UserFilter(NamedTuple):
    """Which users are wanted; None takes all. `search` is looked for in names and addresses, in any case."""

    search: str | None = None
    role: str | None = None
    group_id: UUID | None = None
    kind: str | None = None
    active: bool | None = None


async def users_page(session: ReadSession, wanted: UserFilter, *, limit: int, after: str | None) -> Sequence[User]:
    """Give at most `limit` users by their names, those after a name. Who was deleted is not among them."""
    query = select(User).where(User.deleted_at.is_(None))
    if after is not None:
        query = query.where(User.username > after)
    if wanted.search is not None:
        query = query.where(
            or_(
                *(
                    column.icontains(written, autoescape=True)
                    for column in (User.username, User.display_name, User.email)
                    for written in written_in_cases(wanted.search)
                )
            )
        )
    if wanted.role is not None:
        query = query.where(User.role == wanted.role)
    if wanted.group_id is not None:
        member = exists().where(GroupMember.user_id == User.id, GroupMember.group_id == wanted.group_id)
        query = query.where(member)
    if wanted.kind is not None:
        query = query.where(User.kind == wanted.kind)
    if wanted.active is not None:
        query = query.where(User.disabled_at.is_(None) if wanted.active else User.disabled_at.is_not(None))
    return (await session.scalars(query.order_by(User.username).limit(limit))).all()


def written_in_cases(text: str) -> set[str]:
    """Give the cases in which a text is likely to be written: SQLite knows those of ASCII alone."""
    return {text} if text.isascii() else {text, text.lower(), text.upper(), text.title()}


async def name_is_taken(session: ReadSession, username: str) -> bool:
    """Tell whether a user has this name, which is in lower case."""
    return await session.scalar(select(User.id).where(User.username == username)) is not None


async def lock_user(session: WriteSession, user_id: UUID) -> None:
    """Let no other transaction that locks this user go on before this one ends. On SQLite no writer does anyway."""
    await session.execute(select(User.id).where(User.id == user_id).with_for_update(key_share=True))


async def lock_administrators(session: WriteSession, role: str) -> set[UUID]:
    """Give the people who have this role and can sign in; none of them changes until the transaction ends.

    In the order of their ids, so that none waits for another in a circle. PostgreSQL looks at the rows again that it
    had to wait for: of two who demote each other at once, the second finds itself demoted.
    """
    has_account = exists().where(ExternalAccount.user_id == User.id)
    able = select(User.id).where(
        User.role == role,
        User.kind == "PERSON",
        User.disabled_at.is_(None),
        or_(User.password_hash != NO_PASSWORD, has_account),
    )
    return set(await session.scalars(able.order_by(User.id).with_for_update(key_share=True)))


async def change(session: WriteSession, user_id: UUID, columns: dict[str, Any]) -> User:
    """Change columns of a user whom the transaction has locked, and give them as they are now."""
    if columns:
        await session.execute(update(User).where(User.id == user_id).values(columns))
    query = select(User).where(User.id == user_id).execution_options(populate_existing=True)
    return (await session.scalars(query)).one()


async def are_deleted(session: ReadSession, generation_ids: Sequence[UUID]) -> set[UUID]:
    """Give those of these generations whose user was deleted."""
    query = select(Generation.id).join(User, User.id == Generation.user_id)
    return set(await session.scalars(query.where(Generation.id.in_(generation_ids), User.deleted_at.is_not(None))))


async def unfinished_generations(session: ReadSession, user_id: UUID) -> list[UUID]:
    """Give the generations of a user that have not ended."""
    query = select(Generation.id).where(Generation.user_id == user_id, Generation.finished_at.is_(None))
    return list(await session.scalars(query))


async def make_tombstone(session: WriteSession, user_id: UUID, at: datetime, *, username: str, role: str) -> None:
    """Leave of a user what the ledger refers to: the ids of the user, of their keys and of their generations.

    What they said and sent, what tells who they were, and what signed them in goes.
    """
    found = select(User.username).where(User.id == user_id).scalar_subquery()
    await session.execute(delete(LoginAttempts).where(LoginAttempts.username == found))
    await _scrub_keys(session, user_id, at)
    generations = select(Generation.id).where(Generation.user_id == user_id)
    await session.execute(delete(Transcript).where(Transcript.generation_id.in_(generations)))
    await session.execute(delete(IdempotencyKey).where(IdempotencyKey.generation_id.in_(generations)))
    owned = Session, OneTimeLink, KnownAddress, ExternalAccount, GroupMember, Blob, DeviceCode, LoginFlow
    for table in owned:
        await session.execute(delete(table).where(table.user_id == user_id))
    await session.execute(
        update(User)
        .where(User.id == user_id)
        .values(
            username=username,
            password_hash=NO_PASSWORD,
            role=role,
            email=None,
            display_name=None,
            time_zone=None,
            must_change_password=False,
            last_signed_in_at=None,
            password_changed_at=None,
            disabled_at=func.coalesce(User.disabled_at, at),
            deleted_at=at,
        )
    )


async def _scrub_keys(session: WriteSession, user_id: UUID, at: datetime) -> None:
    """End the keys of a user and make them unknown: what stands for the hash is none of any secret."""
    keys = await session.scalars(select(ApiKey.id).where(ApiKey.user_id == user_id))
    rows = [{"key_id": key_id, "no_hash": f"deleted-{key_id}"} for key_id in keys]
    if not rows:
        return
    scrubbed = (
        update(ApiKey)
        .where(ApiKey.id == bindparam("key_id"))
        .values(
            name="deleted",
            prefix="",
            secret_hash=bindparam("no_hash"),
            models=None,
            origins=None,
            networks=None,
            last_used_address=None,
            rotation_key=None,
            previous_hash=None,
            previous_expires_at=None,
            revoked_at=func.coalesce(ApiKey.revoked_at, at),
        )
    )
    await (await session.connection()).execute(scrubbed, rows)


async def forget_text(session: WriteSession, user_id: UUID) -> None:
    """Remove what is kept of a user's prompts and answers."""
    generations = select(Generation.id).where(Generation.user_id == user_id)
    await session.execute(delete(Transcript).where(Transcript.generation_id.in_(generations)))
