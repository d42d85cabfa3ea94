"""Groups of users, and the models that they may use."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy.exc import IntegrityError

from auth.model_access import MAX_PATTERNS, pattern_problem
from auth.principal import Principal
from auth.scopes import Scope
from db import queries
from db.clock import new_id, now
from db.engine import Database, WriteSession
from db.tables import Group
from gateway.errors import InputIssues, InvalidInput, LimitExceeded, NotFound, cut
from gateway.identity.accounts import MAX_GROUPS_OF_A_USER, check_search
from gateway.identity.api_keys import UNCHANGED, Unchanged
from gateway.identity.known import KnownCallers, KnownUser
from gateway.identity.rights import acting_scopes, check_covers, scopes_of_role

MAX_NAME = 100
MAX_DESCRIPTION = 200

MAX_MEMBERS_AT_ONCE = 100
"""Users added or removed by one call."""


@dataclass(frozen=True, slots=True)
class GroupChange:
    """What a group is to be. `models` are patterns of names; None allows all. What is UNCHANGED stays."""

    name: str | Unchanged = UNCHANGED
    description: str | Unchanged = UNCHANGED
    models: Sequence[str] | Unchanged | None = UNCHANGED

    def columns(self, issues: InputIssues) -> dict[str, Any]:
        """Give the columns to write, and add to `issues` what cannot be written."""
        found: dict[str, Any] = {}
        if not isinstance(self.name, Unchanged):
            found["name"] = name = unicodedata.normalize("NFC", self.name.strip())
            if not 1 <= len(name) <= MAX_NAME or not name.isprintable():
                issues.add("name", f"must have 1 to {MAX_NAME} printable characters.")
        if not isinstance(self.description, Unchanged):
            found["description"] = text = self.description.strip()
            if len(text) > MAX_DESCRIPTION or not text.isprintable():
                issues.add("description", f"must have at most {MAX_DESCRIPTION} printable characters.")
        if not isinstance(self.models, Unchanged):
            found["models"] = None if self.models is None else list(dict.fromkeys(self.models))
            _check_patterns(found["models"] or (), issues)
        return found


class Groups:
    """Makes groups, changes them and their members, and tells which there are."""

    def __init__(self, database: Database, known: KnownCallers) -> None:
        self._database = database
        self._known = known

    async def page(self, search: str | None, first: int, after: str | None) -> tuple[Sequence[Group], bool]:
        """Give groups by their names, those after a name; and whether there are more. Raises InvalidInput."""
        check_search(search, "search")
        async with self._database.reading() as session:
            rows = await queries.group.groups_page(session, search, limit=first + 1, after=after)
        return rows[:first], len(rows) > first

    async def named(self, name: str) -> Group:
        """Give a group by its name, as it is written. Raises NotFound."""
        async with self._database.reading() as session:
            group = await queries.group.group_by_name(session, unicodedata.normalize("NFC", name.strip()))
        if group is None:
            raise NotFound(f"There is no group {cut(name)!r}.", "Group", cut(name))
        return group

    async def visible(self, principal: Principal, ids: Sequence[UUID]) -> list[Group | None]:
        """Give those of these groups that the caller may see, in the order of the ids: one's own, or all."""
        async with self._database.reading() as session:
            found = await queries.group.groups_by_id(session, ids)
            if found and not principal.has(Scope.USERS_READ):
                mine = await queries.group.groups_of(session, [principal.user_id])
                own = {group.id for group in mine[principal.user_id]}
                found = {group_id: group for group_id, group in found.items() if group_id in own}
        return [found.get(group_id) for group_id in ids]

    async def of_users(self, user_ids: Sequence[UUID]) -> list[list[Group]]:
        """Give the groups of each of these users, by their names."""
        async with self._database.reading() as session:
            found = await queries.group.groups_of(session, user_ids)
        return [found[user_id] for user_id in user_ids]

    async def member_counts(self, ids: Sequence[UUID]) -> list[int]:
        """Count the members of each of these groups."""
        async with self._database.reading() as session:
            found = await queries.group.member_counts(session, ids)
        return [found.get(group_id, 0) for group_id in ids]

    async def create(self, principal: Principal, wanted: GroupChange) -> Group:
        """Make a group without members. Raises InvalidInput, Forbidden."""
        issues = InputIssues()
        group = Group(id=new_id(), created_at=now(), **wanted.columns(issues))
        issues.check()
        try:
            async with self._database.transaction() as tx:
                await acting_scopes(tx, principal)
                tx.add(group)
        except IntegrityError as error:
            raise InvalidInput("name", f"{group.name!r} is taken.") from error
        return group

    async def update(self, principal: Principal, group_id: UUID, wanted: GroupChange) -> Group:
        """Change a group. Raises InvalidInput, NotFound; Forbidden, also where a member may do more than the caller."""
        issues = InputIssues()
        columns = wanted.columns(issues)
        issues.check()
        try:
            async with self._database.transaction() as tx:
                await _lock(tx, principal, group_id)
                group = await queries.group.change(tx, group_id, columns)
        except IntegrityError as error:
            raise InvalidInput("name", f"{columns['name']!r} is taken.") from error
        self._known.clear()
        return group

    async def delete(self, principal: Principal, group_id: UUID) -> Group:
        """Remove a group; its members stay. Raises NotFound, Forbidden."""
        async with self._database.transaction() as tx:
            group = await _lock(tx, principal, group_id)
            await queries.group.remove(tx, group_id)
        self._known.clear()
        return group

    async def add_members(self, principal: Principal, group_id: UUID, user_ids: Sequence[UUID]) -> Group:
        """Put users into a group. Raises InvalidInput, LimitExceeded, NotFound, Forbidden."""
        _check_number(user_ids)
        async with self._database.transaction() as tx:
            group = await _lock(tx, principal, group_id)
            await _check_users(tx, principal, user_ids, must_exist=True)
            await queries.group.add_members(tx, group_id, set(user_ids))
            if await queries.group.most_groups(tx, user_ids) > MAX_GROUPS_OF_A_USER:
                limit = MAX_GROUPS_OF_A_USER
                raise LimitExceeded(f"A user can be in at most {limit} groups.", limit)
        self._known.clear()
        return group

    async def remove_members(self, principal: Principal, group_id: UUID, user_ids: Sequence[UUID]) -> Group:
        """Take users out of a group; who is not in it stays so. Raises InvalidInput, NotFound, Forbidden."""
        _check_number(user_ids)
        async with self._database.transaction() as tx:
            group = await _lock(tx, principal, group_id)
            await _check_users(tx, principal, user_ids, must_exist=False)
            await queries.group.remove_members(tx, group_id, set(user_ids))
        self._known.clear()
        return group


async def _lock(tx: WriteSession, principal: Principal, group_id: UUID) -> Group:
    """Give a group that the caller may change: what it allows concerns all members, so none may do more than they."""
    own = await acting_scopes(tx, principal)
    group = await queries.group.lock(tx, group_id)
    if group is None or not principal.has(Scope.USERS_READ):
        raise NotFound("There is no group with this id.", "Group", group_id)
    for role in await queries.group.roles_of_members(tx, group_id):
        check_covers(own, await scopes_of_role(tx, role) or frozenset(), "A member of this group")
    return group


async def _check_users(tx: WriteSession, principal: Principal, user_ids: Sequence[UUID], *, must_exist: bool) -> None:
    own, issues = await acting_scopes(tx, principal), InputIssues()
    callers = await queries.identity.callers_by_id(tx, user_ids)
    for place, user_id in enumerate(user_ids):
        caller = callers.get(user_id)
        if caller is not None and caller.user.deleted_at is None:
            check_covers(own, KnownUser.of(caller).scopes, f"The user {caller.user.username!r}")
        elif must_exist:
            issues.add(f"userIds[{place}]", "there is no user with this id.")
    issues.check()


def _check_number(user_ids: Sequence[UUID]) -> None:
    if not 1 <= len(user_ids) <= MAX_MEMBERS_AT_ONCE:
        raise InvalidInput("userIds", f"must hold 1 to {MAX_MEMBERS_AT_ONCE} ids, not {len(user_ids)}.")


def _check_patterns(patterns: Sequence[str], issues: InputIssues) -> None:
    if len(patterns) > MAX_PATTERNS:
        issues.add("models", f"must hold at most {MAX_PATTERNS} patterns, not {len(patterns)}.")
        return
    for place, pattern in enumerate(patterns):
        if reason := pattern_problem(pattern):
            issues.add(f"models[{place}]", reason)
