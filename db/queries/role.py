"""The statements about roles that are not built in."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import delete, func, select, text, update

from db.engine import ReadSession, WriteSession
from db.tables import Role, User


async def roles(session: ReadSession) -> Sequence[Role]:
    """Give all roles, by their names."""
    return (await session.scalars(select(Role).order_by(Role.name))).all()


async def find(session: ReadSession, name: str) -> Role | None:
    """Give the role of this name."""
    return await session.scalar(select(Role).where(Role.name == name))


async def lock(session: WriteSession) -> None:
    """Let no other transaction change a role, or give one to a user, before this one ends.

    A user refers to a role by its name and no foreign key, for most roles are in no table. SQLite has one writer.
    """
    if session.get_bind().dialect.name == "postgresql":
        await session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})


_LOCK = 0x6F6C6C61726F6C65  # "ollarole"


async def count(session: ReadSession) -> int:
    """Count the roles."""
    return await session.scalar(select(func.count()).select_from(Role)) or 0


async def change(session: WriteSession, name: str, columns: dict[str, Any]) -> Role | None:
    """Change columns of a role and give it; None where there is none of this name."""
    if columns:
        await session.execute(update(Role).where(Role.name == name).values(columns))
    return await session.scalar(select(Role).where(Role.name == name).execution_options(populate_existing=True))


async def users_with(session: ReadSession, name: str) -> int:
    """Count the users who have a role."""
    return await session.scalar(select(func.count()).select_from(User).where(User.role == name)) or 0


async def remove(session: WriteSession, name: str) -> None:
    """Remove a role."""
    await session.execute(delete(Role).where(Role.name == name))
