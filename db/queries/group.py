"""The statements about groups and their members."""

from collections.abc import Collection, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import delete, func, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from db.engine import ReadSession, WriteSession
from db.queries.user import written_in_cases
from db.tables import Group, GroupMember, User


async def groups_by_id(session: ReadSession, ids: Collection[UUID]) -> dict[UUID, Group]:
    """Give the groups of these ids."""
    return {group.id: group for group in await session.scalars(select(Group).where(Group.id.in_(ids)))}


async def group_by_name(session: ReadSession, name: str) -> Group | None:
    """Give the group of this name."""
    return await session.scalar(select(Group).where(Group.name == name))


async def groups_page(session: ReadSession, search: str | None, *, limit: int, after: str | None) -> Sequence[Group]:
    """Give at most `limit` groups by their names, those after a name."""
    query = select(Group)
    if after is not None:
        query = query.where(Group.name > after)
    if search is not None:
        query = query.where(
            or_(
                *(
                    column.icontains(written, autoescape=True)
                    for column in (Group.name, Group.description)
                    for written in written_in_cases(search)
                )
            )
        )
    return (await session.scalars(query.order_by(Group.name).limit(limit))).all()


async def groups_of(session: ReadSession, user_ids: Sequence[UUID]) -> dict[UUID, list[Group]]:
    """Give the groups of each of these users, by their names."""
    query = select(GroupMember.user_id, Group).join(Group, Group.id == GroupMember.group_id)
    rows = await session.execute(query.where(GroupMember.user_id.in_(user_ids)).order_by(Group.name))
    found: dict[UUID, list[Group]] = {user_id: [] for user_id in user_ids}
    for user_id, group in rows:
        found[user_id].append(group)
    return found


async def member_counts(session: ReadSession, ids: Sequence[UUID]) -> dict[UUID, int]:
    """Count the members of each of these groups that has any."""
    query = select(GroupMember.group_id, func.count()).where(GroupMember.group_id.in_(ids))
    return {group_id: number for group_id, number in await session.execute(query.group_by(GroupMember.group_id))}


async def lock(session: WriteSession, group_id: UUID) -> Group | None:
    """Give a group that no other transaction changes, or adds members to, until this one ends."""
    return await session.scalar(select(Group).where(Group.id == group_id).with_for_update())


async def roles_of_members(session: ReadSession, group_id: UUID) -> set[str]:
    """Give the names of the roles that a group's members have."""
    query = select(User.role).join(GroupMember, GroupMember.user_id == User.id)
    return set(await session.scalars(query.where(GroupMember.group_id == group_id).distinct()))


async def change(session: WriteSession, group_id: UUID, columns: dict[str, Any]) -> Group:
    """Change columns of a group that the transaction has locked, and give it."""
    if columns:
        await session.execute(update(Group).where(Group.id == group_id).values(columns))
    query = select(Group).where(Group.id == group_id).execution_options(populate_existing=True)
    return (await session.scalars(query)).one()


async def remove(session: WriteSession, group_id: UUID) -> None:
    """Remove a group. Its members stay users."""
    await session.execute(delete(Group).where(Group.id == group_id))


async def add_members(session: WriteSession, group_id: UUID, user_ids: Collection[UUID]) -> None:
    """Put users into a group; who is in it already stays as they are."""
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    rows = [{"group_id": group_id, "user_id": user_id, "provider": None} for user_id in sorted(user_ids)]
    if rows:
        await session.execute(insert(GroupMember).values(rows).on_conflict_do_nothing())


async def hold(session: WriteSession, ids: Collection[UUID]) -> None:
    """Let no other transaction remove these groups before this one ends. In one order: none waits in a circle."""
    asked = select(Group.id).where(Group.id.in_(ids)).order_by(Group.id)
    await session.execute(asked.with_for_update(read=True, key_share=True))


async def add_to_groups(session: WriteSession, user_id: UUID, group_ids: Collection[UUID]) -> None:
    """Put a new user into groups."""
    session.add_all(GroupMember(group_id=group_id, user_id=user_id) for group_id in set(group_ids))
    await session.flush()


async def remove_members(session: WriteSession, group_id: UUID, user_ids: Collection[UUID]) -> None:
    """Take users out of a group."""
    await session.execute(
        delete(GroupMember).where(GroupMember.group_id == group_id, GroupMember.user_id.in_(user_ids))
    )


async def most_groups(session: ReadSession, user_ids: Collection[UUID]) -> int:
    """Give in how many groups that one of these users is who is in the most."""
    counts = select(func.count().label("count")).where(GroupMember.user_id.in_(user_ids)).group_by(GroupMember.user_id)
    return await session.scalar(select(func.max(counts.subquery().c.count))) or 0
