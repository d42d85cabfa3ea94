"""The roles: those that are built in, and those that administrators define."""

from collections.abc import Collection

from sqlalchemy.exc import IntegrityError

from auth.principal import Principal
from auth.roles import BUILT_IN_ROLES, ROLE_NAME, RoleScopes, known_scopes
from auth.scopes import Scope
from db import queries
from db.clock import now
from db.engine import Database
from db.tables import Role
from gateway.errors import InputIssues, InvalidInput, LimitExceeded, cut
from gateway.identity.known import KnownCallers
from gateway.identity.refusals import RoleInUse
from gateway.identity.rights import acting_scopes, check_covers, missing_scopes

MAX_ROLES = 100
"""Roles beside those that are built in."""

MAX_DESCRIPTION = 200


class Roles:
    """Tells which roles there are, and changes those that are not built in."""

    def __init__(self, database: Database, known: KnownCallers) -> None:
        self._database = database
        self._known = known

    async def all(self) -> list[RoleScopes]:
        """Give all roles: the built-in ones, most powerful first, and the others by their names."""
        async with self._database.reading() as session:
            rows = await queries.role.roles(session)
        return [*BUILT_IN_ROLES.values(), *map(_role, rows)]

    async def create(self, principal: Principal, name: str, description: str, scopes: Collection[Scope]) -> RoleScopes:
        """Define a role. Raises InvalidInput, LimitExceeded, Forbidden."""
        issues = InputIssues()
        name = name.strip()
        if not ROLE_NAME.fullmatch(name):
            issues.add(
                "name",
                "must have 1 to 64 lower-case letters, digits, - or _, begin with a letter, and not end with - or _.",
            )
        description = _described(description, issues)
        row = Role(name=name, description=description, scopes=sorted(set(scopes)), created_at=now())
        try:
            async with self._database.transaction() as tx:
                await queries.role.lock(tx)
                _check_scopes(await acting_scopes(tx, principal), scopes, issues)
                taken = ROLE_NAME.fullmatch(name) and await queries.role.find(tx, name)
                if name in BUILT_IN_ROLES or taken:
                    issues.add("name", f"{name!r} is taken.")
                issues.check()
                if await queries.role.count(tx) >= MAX_ROLES:
                    raise LimitExceeded(f"The limit of {MAX_ROLES} roles is reached. Delete one first.", MAX_ROLES)
                tx.add(row)
        except IntegrityError as error:
            raise InvalidInput("name", f"{name!r} is taken.") from error
        self._known.clear()
        return _role(row)

    async def update(
        self, principal: Principal, name: str, description: str | None, scopes: Collection[Scope] | None
    ) -> RoleScopes:
        """Change what a role allows all who have it; None leaves a value. Raises InvalidInput, Forbidden."""
        issues = InputIssues()
        columns: dict[str, object] = {}
        if description is not None:
            columns["description"] = _described(description, issues)
        if scopes is not None:
            columns["scopes"] = sorted(set(scopes))
        async with self._database.transaction() as tx:
            await queries.role.lock(tx)
            own = await acting_scopes(tx, principal)
            row = await queries.role.find(tx, _defined(name))
            if row is None:
                raise InvalidInput("name", f"there is no role {cut(name)!r}.")
            check_covers(own, known_scopes(row.scopes), "Who has this role")
            if scopes is not None:
                _check_scopes(own, scopes, issues)
            issues.check()
            row = await queries.role.change(tx, name, columns) or row
        self._known.clear()
        return _role(row)

    async def delete(self, principal: Principal, name: str) -> str:
        """Remove a role that nobody has, and give its name. Raises InvalidInput, RoleInUse, Forbidden."""
        async with self._database.transaction() as tx:
            await queries.role.lock(tx)
            own = await acting_scopes(tx, principal)
            row = await queries.role.find(tx, _defined(name))
            if row is None:
                raise InvalidInput("name", f"there is no role {cut(name)!r}.")
            check_covers(own, known_scopes(row.scopes), "Who has this role")
            if users := await queries.role.users_with(tx, name):
                raise RoleInUse(name, users)
            await queries.role.remove(tx, name)
        self._known.clear()
        return name


def _role(row: Role) -> RoleScopes:
    return RoleScopes(row.name, row.description, known_scopes(row.scopes))


def _defined(name: str) -> str:
    """Give a name that can be one of an administrator's roles. Raises InvalidInput for any other."""
    if name in BUILT_IN_ROLES:
        raise InvalidInput("name", f"{name!r} is built in and cannot be changed.")
    if not ROLE_NAME.fullmatch(name):
        raise InvalidInput("name", f"there is no role {cut(name)!r}.")
    return name


def _described(description: str, issues: InputIssues) -> str:
    description = description.strip()
    if len(description) > MAX_DESCRIPTION or not description.isprintable():
        issues.add("description", f"must have at most {MAX_DESCRIPTION} printable characters.")
    return description


def _check_scopes(own: frozenset[Scope], scopes: Collection[Scope], issues: InputIssues) -> None:
    if not scopes:
        issues.add("scopes", "must name at least one scope.")
    if missing := missing_scopes(own, scopes):
        issues.add("scopes", f"nobody can grant more than they have: these credentials lack {missing}.")
