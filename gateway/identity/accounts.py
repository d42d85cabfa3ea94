"""The users: who there is, and making them."""

import re
from collections.abc import Sequence
from uuid import UUID

from sqlalchemy.exc import IntegrityError

from auth.passwords import PasswordHasher
from auth.principal import Principal
from auth.roles import BuiltInRole
from auth.scopes import Scope
from db import queries
from db.clock import new_id, now
from db.engine import Database
from db.tables import User
from gateway.errors import InputIssues, InvalidInput, NotFound
from gateway.identity.known import KnownCallers

USERNAME = re.compile(r"[a-z0-9](?:[a-z0-9._@+-]{0,62}[a-z0-9])?")


class Accounts:
    """Makes users, and tells which there are."""

    def __init__(self, database: Database, known: KnownCallers, passwords: PasswordHasher) -> None:
        self._database = database
        self._known = known
        self._passwords = passwords

    async def create(self, username: str, password: str, *, role: str = BuiltInRole.DEVELOPER) -> User:
        """Make a user. Raises InvalidInput for a name that is taken or malformed, or a weak password."""
        username = username.strip().lower()
        issues = InputIssues()
        if not USERNAME.fullmatch(username):
            issues.add(
                "username", "must have 1 to 64 letters, digits or . _ @ + - and begin and end with none of these signs."
            )
        for problem in await self._passwords.problems(password, username):
            issues.add("password", problem)
        issues.check()
        password_hash = await self._passwords.hash(password)
        user = User(id=new_id(), username=username, password_hash=password_hash, role=role, created_at=now())
        try:
            async with self._database.transaction() as tx:
                tx.add(user)
        except IntegrityError as error:
            raise InvalidInput("username", f"{username!r} is taken.") from error
        return user

    async def principal_named(self, username: str) -> Principal:
        """Give a principal with all that this user may do, for the command line on the machine. Raises NotFound."""
        async with self._database.reading() as session:
            user = await queries.identity.user_by_name(session, username.strip().lower())
        known = None if user is None else (await self._known.users([user.id])).get(user.id)
        if known is None:
            raise NotFound(f"There is no user {username!r}.", "User", username)
        return Principal(known.user.id, known.user.username, known.scopes, models=known.models)

    async def any_exists(self) -> bool:
        """Tell whether this gateway has been set up."""
        async with self._database.reading() as session:
            return await queries.identity.any_user_exists(session)

    async def by_id(self, ids: Sequence[UUID]) -> list[User | None]:
        """Give many users at once, in the order of the ids."""
        found = await self._known.users(ids)
        return [found[user_id].user if user_id in found else None for user_id in ids]

    async def visible(self, principal: Principal, ids: Sequence[UUID]) -> list[User | None]:
        """Give those of these users that the caller may see, in the order of the ids; None for the others."""
        return [
            user if user and principal.may_see_of(user.id, Scope.USERS_READ) else None for user in await self.by_id(ids)
        ]
