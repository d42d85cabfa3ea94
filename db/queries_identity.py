"""The statements about users, their keys and their sign-ins."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import case, delete, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from db.engine import ReadSession, WriteSession
from db.tables import ApiKey, LoginAttempts, User


async def user_by_name(session: ReadSession, username: str) -> User | None:
    """The user of this name, which is in lower case."""
    return await session.scalar(select(User).where(User.username == username))


async def users_by_id(session: ReadSession, ids: Sequence[UUID]) -> dict[UUID, User]:
    """The users of these ids."""
    users = await session.scalars(select(User).where(User.id.in_(ids)))
    return {user.id: user for user in users}


async def any_user_exists(session: ReadSession) -> bool:
    """Whether there is a user at all."""
    return await session.scalar(select(User.id).limit(1)) is not None


async def set_password_hash(session: WriteSession, user_id: UUID, password_hash: str) -> None:
    """Keep a new hash of the same or a new password."""
    await session.execute(update(User).where(User.id == user_id).values(password_hash=password_hash))


async def login_attempts(session: ReadSession, username: str) -> LoginAttempts | None:
    """The failed sign-ins under this name, for which no user need exist."""
    return await session.get(LoginAttempts, username)


async def count_failed_login(session: WriteSession, username: str, at: datetime, window_start: datetime) -> int:
    """Count one more failure under this name and return the count; those before `window_start` are forgotten.

    One statement, so that guesses made in parallel all count.
    """
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    failures = case((LoginAttempts.last_failed_at < window_start, 1), else_=LoginAttempts.failures + 1)
    return (
        await session.scalars(
            insert(LoginAttempts)
            .values(username=username, failures=1, last_failed_at=at)
            .on_conflict_do_update(
                index_elements=[LoginAttempts.username], set_={"failures": failures, "last_failed_at": at}
            )
            .returning(LoginAttempts.failures)
        )
    ).one()


async def lock_login(session: WriteSession, username: str, until: datetime) -> None:
    """Close sign-in under this name."""
    await session.execute(update(LoginAttempts).where(LoginAttempts.username == username).values(locked_until=until))


async def forget_failed_logins(session: WriteSession, username: str) -> None:
    """A sign-in worked: start counting anew."""
    await session.execute(delete(LoginAttempts).where(LoginAttempts.username == username))


async def api_key_by_hash(session: ReadSession, secret_hash: str) -> tuple[ApiKey, User] | None:
    """The key with this hash and its user."""
    row = (
        await session.execute(
            select(ApiKey, User).join(User, User.id == ApiKey.user_id).where(ApiKey.secret_hash == secret_hash)
        )
    ).one_or_none()
    if row is None:
        return None
    key, user = row
    return key, user


async def api_keys_by_id(session: ReadSession, ids: Sequence[UUID]) -> dict[UUID, ApiKey]:
    """The keys of these ids."""
    keys = await session.scalars(select(ApiKey).where(ApiKey.id.in_(ids)))
    return {key.id: key for key in keys}


async def api_keys_of_users(session: ReadSession, user_ids: Sequence[UUID]) -> dict[UUID, list[ApiKey]]:
    """All keys of each of these users, newest first."""
    keys = await session.scalars(select(ApiKey).where(ApiKey.user_id.in_(user_ids)).order_by(ApiKey.id.desc()))
    found: dict[UUID, list[ApiKey]] = {user_id: [] for user_id in user_ids}
    for key in keys:
        found[key.user_id].append(key)
    return found


async def touch_api_key(session: WriteSession, key_id: UUID, at: datetime, unless_since: datetime) -> None:
    """Note that the key was used, unless that was noted since `unless_since`."""
    await session.execute(
        update(ApiKey)
        .where(ApiKey.id == key_id, or_(ApiKey.last_used_at.is_(None), ApiKey.last_used_at < unless_since))
        .values(last_used_at=at)
    )


async def revoke_api_key(session: WriteSession, key_id: UUID, user_id: UUID, at: datetime) -> ApiKey | None:
    """Revoke this user's key; one revoked earlier keeps its date. None when the user has no such key."""
    key = await session.scalar(select(ApiKey).where(ApiKey.id == key_id, ApiKey.user_id == user_id).with_for_update())
    if key is not None and key.revoked_at is None:
        key.revoked_at = at
    return key
