"""The statements about sessions."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, and_, bindparam, delete, func, or_, select, update

from db.engine import ReadSession, WriteSession
from db.queries import device
from db.tables import RefreshToken, Session, User


class SessionUse(NamedTuple):
    """When a session was used, and from which address."""

    at: datetime
    address: str


async def refresh_token(session: ReadSession, secret_hash: str) -> RefreshToken | None:
    """Give the refresh token with this hash, used or not."""
    return await session.get(RefreshToken, secret_hash)


async def use_refresh_token(session: WriteSession, secret_hash: str, at: datetime, nonce: str) -> RefreshToken | None:
    """Mark a token as used, and give it; None where it was used before. Of several at once, one gets it.

    The others wait for the transaction of that one, and see afterwards what it wrote.
    """
    return await session.scalar(
        update(RefreshToken)
        .where(RefreshToken.secret_hash == secret_hash, RefreshToken.used_at.is_(None))
        .values(used_at=at, nonce=nonce)
        .returning(RefreshToken)
    )


async def session_to_go_on(session: ReadSession, session_id: UUID, at: datetime) -> tuple[Session, User] | None:
    """Give a session and its user, where it holds and the user may sign in."""
    rows = await session.execute(
        select(Session, User)
        .join(User, User.id == Session.user_id)
        .where(Session.id == session_id, _holds(at), User.disabled_at.is_(None), User.deleted_at.is_(None))
    )
    found = rows.one_or_none()
    return None if found is None else (found[0], found[1])


async def prolong_session(session: WriteSession, session_id: UUID, expires_at: datetime, use: SessionUse) -> bool:
    """Move the end of a session, and note its use; False where it was ended meanwhile."""
    found = await session.scalar(
        update(Session)
        .where(Session.id == session_id, _holds(use.at))
        .values(expires_at=expires_at, last_used_at=use.at, address=use.address)
        .returning(Session.id)
    )
    return found is not None


async def session_to_end(session: WriteSession, session_id: UUID) -> Session | None:
    """Give a session as it is now, locked until the transaction ends."""
    found = select(Session).where(Session.id == session_id).with_for_update()
    return await session.scalar(found.execution_options(populate_existing=True))


async def revoke_oldest_sessions(session: WriteSession, user_id: UUID, at: datetime, reason: str, kept: int) -> None:
    """End all sessions of a user but the `kept` that were used last."""
    ranked = select(Session.id).where(Session.user_id == user_id, _holds(at)).order_by(Session.last_used_at.desc())
    oldest = list(await session.scalars(ranked.offset(kept)))
    if oldest:
        ended = update(Session).where(Session.id.in_(oldest), Session.revoked_at.is_(None))
        await session.execute(ended.values(revoked_at=at, revoke_reason=reason))


async def revoke_sessions(
    session: WriteSession, user_id: UUID, at: datetime, reason: str, *, keep: UUID | None = None
) -> list[UUID]:
    """End all sessions of a user but one, and give their ids; those that ended earlier keep their reason.

    Devices that the user has approved, and that have no session yet, get none.
    """
    ended = update(Session).where(Session.user_id == user_id, Session.revoked_at.is_(None))
    if keep is not None:
        ended = ended.where(Session.id != keep)
    found = list(await session.scalars(ended.values(revoked_at=at, revoke_reason=reason).returning(Session.id)))
    await device.deny_approved(session, user_id, at)
    return found


async def revoke_sessions_of_provider(
    session: WriteSession, user_id: UUID, provider: str, at: datetime, reason: str, *, keep: UUID | None = None
) -> None:
    """End the sessions of a user that began at an identity provider, but one."""
    ended = update(Session).where(
        Session.user_id == user_id, Session.provider == provider, Session.revoked_at.is_(None)
    )
    if keep is not None:
        ended = ended.where(Session.id != keep)
    await session.execute(ended.values(revoked_at=at, revoke_reason=reason))


class Elsewhere(NamedTuple):
    """Sessions that ended at a provider: one by its name there, or else all of a user; begun until a moment."""

    provider: str
    provider_session: str | None
    user_id: UUID | None
    began_until: datetime


async def revoke_sessions_ended_elsewhere(session: WriteSession, ended: Elsewhere, at: datetime, reason: str) -> int:
    """End the sessions that began at a provider and ended there; gives how many. Raises ValueError for anybody's."""
    if ended.provider_session is None and ended.user_id is None:
        raise ValueError("whose sessions ended is not said")
    held = [Session.provider == ended.provider, Session.created_at <= ended.began_until, Session.revoked_at.is_(None)]
    if ended.provider_session is not None:
        held.append(Session.provider_session == ended.provider_session)
    if ended.user_id is not None:
        held.append(Session.user_id == ended.user_id)
    values = {"revoked_at": at, "revoke_reason": reason}
    found = await session.scalars(update(Session).where(*held).values(values).returning(Session.id))
    return len(found.all())


async def note_sign_in(session: WriteSession, user: User, at: datetime) -> bool:
    """Note when a user signed in last, and lock the user's row until the transaction ends.

    False, and nothing is noted, where they may not sign in any more, or have another password than in `user`.
    """
    found = await session.scalar(
        update(User)
        .where(
            User.id == user.id,
            User.disabled_at.is_(None),
            User.password_changed_at.is_not_distinct_from(user.password_changed_at),
        )
        .values(last_signed_in_at=at)
        .returning(User.id)
    )
    return found is not None


async def sessions_by_id(session: ReadSession, ids: Sequence[UUID]) -> dict[UUID, Session]:
    """Give the sessions of these ids, also those that ended."""
    found = await session.scalars(select(Session).where(Session.id.in_(ids)))
    return {row.id: row for row in found}


async def sessions_of_users(
    session: ReadSession, user_ids: Sequence[UUID], at: datetime, most: int
) -> dict[UUID, list[Session]]:
    """Give the sessions of each of these users that hold: at most `most`, those used last first."""
    place = func.row_number().over(
        partition_by=Session.user_id, order_by=(Session.last_used_at.desc(), Session.id.desc())
    )
    numbered = select(Session.id, place.label("place")).where(Session.user_id.in_(user_ids), _holds(at)).subquery()
    rows = await session.scalars(
        select(Session)
        .join(numbered, numbered.c.id == Session.id)
        .where(numbered.c.place <= most)
        .order_by(numbered.c.place)
    )
    found: dict[UUID, list[Session]] = {user_id: [] for user_id in user_ids}
    for row in rows:
        found[row.user_id].append(row)
    return found


async def note_session_uses(session: WriteSession, uses: Mapping[UUID, SessionUse]) -> None:
    """Note when and from where sessions were used last, in one go and always in the same order, as for keys."""
    statement = (
        update(Session)
        .where(Session.id == bindparam("session_id"), Session.last_used_at < bindparam("used_at"))
        .values(last_used_at=bindparam("used_at"), address=bindparam("used_from"))
    )
    rows = [{"session_id": it, "used_at": uses[it].at, "used_from": uses[it].address} for it in sorted(uses)]
    await (await session.connection()).execute(statement, rows)


async def purge_sessions(session: WriteSession, before: datetime) -> None:
    """Remove the sessions that ended before a moment, and with them their refresh tokens."""
    await session.execute(delete(Session).where(stale(before)))


def stale(before: datetime) -> ColumnElement[bool]:
    """Give the condition of those that ended before a moment."""
    return or_(Session.expires_at < before, Session.revoked_at < before)


def _holds(at: datetime) -> ColumnElement[bool]:
    return and_(Session.revoked_at.is_(None), Session.expires_at > at)
