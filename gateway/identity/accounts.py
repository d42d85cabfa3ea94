"""The users: who there is, making and changing them, and what is left of who was deleted."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from uuid import UUID

from sqlalchemy.exc import IntegrityError

from auth.passwords import PasswordHasher
from auth.principal import Principal
from auth.roles import BuiltInRole
from auth.scopes import Scope
from db import queries
from db.clock import new_id, now
from db.engine import Database, ReadSession, WriteSession
from db.queries import NO_PASSWORD, UserFilter
from db.tables import User
from gateway.errors import InputIssues, InvalidInput, NotFound
from gateway.identity.known import KnownCallers
from gateway.identity.profile import TOMBSTONE, USERNAME, Profile, UserKind, check_new_password, checked_username
from gateway.identity.refusals import LastAdministrator
from gateway.identity.rights import OPERATOR, acting_scopes, lock_leaver, lock_target, role_problem

MAX_SEARCH = 100
"""Characters of what is searched for."""

MAX_GROUPS_OF_A_USER = 100

EndGenerations = Callable[[UUID], Awaitable[None]]


async def nothing_runs(user_id: UUID) -> None:
    """End no generation: what runs in other processes ends by itself, and its text is not kept."""


@dataclass(frozen=True, slots=True)
class NewUser:
    """A user to make. Without a password they get none: a person signs in when a link has given them one."""

    username: str
    role: str = BuiltInRole.DEVELOPER.value
    password: str | None = field(default=None, repr=False)
    profile: Profile = field(default_factory=Profile)
    group_ids: Sequence[UUID] = ()
    must_change_password: bool = False
    kind: UserKind = UserKind.PERSON


@dataclass(frozen=True, slots=True)
class UserChange:
    """What to change of a user; None leaves it."""

    role: str | None = None
    must_change_password: bool | None = None
    profile: Profile = field(default_factory=Profile)


class Accounts:
    """Makes users, changes and deletes them, and tells which there are."""

    def __init__(
        self,
        database: Database,
        known: KnownCallers,
        passwords: PasswordHasher,
        end_generations: EndGenerations = nothing_runs,
    ) -> None:
        self._database = database
        self._known = known
        self._passwords = passwords
        self._end_generations = end_generations

    async def create(self, username: str, password: str, *, role: str = BuiltInRole.DEVELOPER.value) -> User:
        """Make a user for whoever runs this machine. Raises InvalidInput."""
        return await self.add(OPERATOR, NewUser(username, role, password))

    async def create_with_password(self, principal: Principal, new: NewUser) -> tuple[User, str | None]:
        """Make a user; without a password, one with a password that is made up, which is given. Raises as `add`."""
        if new.password is not None:
            return await self.add(principal, new), None
        made_up = self._passwords.make_up()
        return await self.add(principal, replace(new, password=made_up)), made_up

    async def add(self, principal: Principal, new: NewUser) -> User:
        """Make a user.

        Raises InvalidInput: a name that is taken or malformed, a weak password, a role that there is not or that may
        do more than the caller, an unknown group. Raises Forbidden.
        """
        issues = InputIssues()
        username = checked_username(new.username, issues)
        if new.password is not None:
            await check_new_password(self._passwords, issues, "password", new.password, username)
        user = User(
            id=new_id(),
            username=username,
            password_hash=NO_PASSWORD,
            kind=new.kind.value,
            role=new.role,
            must_change_password=new.must_change_password,
            created_at=now(),
            **new.profile.columns(issues),
        )
        async with self._database.reading() as session:  # before a hash is computed for nothing
            await _check_new_user(session, principal, user, new.group_ids, issues)
        if new.password is not None:
            user.password_hash = await self._passwords.hash(new.password)
            user.password_changed_at = user.created_at
        try:
            async with self._database.transaction() as tx:
                await queries.role.lock(tx)
                await queries.group.hold(tx, new.group_ids)
                await _check_new_user(tx, principal, user, new.group_ids, InputIssues())
                tx.add(user)
                await tx.flush()
                await queries.group.add_to_groups(tx, user.id, new.group_ids)
        except IntegrityError as error:
            raise InvalidInput("username", f"{username!r} is taken.") from error
        return user

    async def principal_named(self, username: str) -> Principal:
        """Give a principal with all that this user may do, for the command line on the machine. Raises NotFound."""
        user = await self.named(username)
        known = (await self._known.users([user.id])).get(user.id)
        if known is None:
            raise NotFound(f"There is no user {username!r}.", "User", username)
        user = known.user
        return Principal(
            user.id,
            user.username,
            known.scopes,
            models=known.models,
            role=user.role,
            group_ids=known.group_ids,
            time_zone=user.time_zone,
        )

    async def named(self, username: str) -> User:
        """Give a user by their name. Raises NotFound."""
        async with self._database.reading() as session:
            user = await queries.identity.user_by_name(session, username.strip().lower())
        if user is None:
            raise NotFound(f"There is no user {username!r}.", "User", username)
        return user

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

    async def page(self, wanted: UserFilter, first: int, after: str | None) -> tuple[Sequence[User], bool]:
        """Give users by their names, those after a name; and whether there are more. Raises InvalidInput."""
        check_search(wanted.search, "filter.search")
        if wanted.role is not None and "\0" in wanted.role:
            raise InvalidInput("filter.role", "may not hold the character U+0000.")
        async with self._database.reading() as session:
            rows = await queries.user.users_page(session, wanted, limit=first + 1, after=after)
        return rows[:first], len(rows) > first

    async def update(self, principal: Principal, user_id: UUID, change: UserChange) -> User:
        """Change a user. Raises InvalidInput, NotFound, Forbidden, LastAdministrator."""
        issues = InputIssues()
        columns = change.profile.columns(issues)
        if change.must_change_password is not None:
            columns["must_change_password"] = change.must_change_password
        async with self._database.transaction() as tx:
            if change.role is not None:
                await queries.role.lock(tx)
            administrators: set[UUID] = set()
            if change.role not in (None, BuiltInRole.ADMIN.value):
                administrators = await queries.user.lock_administrators(tx, BuiltInRole.ADMIN.value)
            target = await lock_target(tx, principal, user_id)
            if change.role is not None:
                if reason := await role_problem(tx, await acting_scopes(tx, principal), change.role):
                    issues.add("role", reason)
                columns["role"] = change.role
            if change.must_change_password and target.user.password_hash == NO_PASSWORD:
                issues.add("mustChangePassword", "this user has no password.")
            issues.check()
            if administrators == {user_id}:
                raise LastAdministrator
            user = await queries.user.change(tx, user_id, columns)
        self._known.clear()
        return user

    async def update_profile(self, principal: Principal, profile: Profile) -> User:
        """Change what the caller is called. Raises InvalidInput, NotFound."""
        issues = InputIssues()
        columns = profile.columns(issues)
        issues.check()
        async with self._database.transaction() as tx:
            await queries.user.lock_user(tx, principal.user_id)
            found = (await queries.identity.users_by_id(tx, [principal.user_id])).get(principal.user_id)
            if found is None or found.disabled_at is not None:
                raise NotFound("There is no user with this id.", "User", principal.user_id)
            user = await queries.user.change(tx, principal.user_id, columns)
        self._known.clear()
        return user

    async def deactivate(self, principal: Principal, user_id: UUID) -> User:
        """End all that a user may do, and their sessions; one who is deactivated stays so since then.

        Raises NotFound, Forbidden, LastAdministrator.
        """
        async with self._database.transaction() as tx:
            target = await lock_leaver(tx, principal, user_id)
            at = now()
            await queries.session.revoke_sessions(tx, user_id, at, "DEACTIVATED")
            await queries.one_time_link.remove_of(tx, user_id)
            user = await queries.user.change(tx, user_id, {"disabled_at": target.user.disabled_at or at})
        self._known.clear()
        return user

    async def reactivate(self, principal: Principal, user_id: UUID) -> User:
        """Let a user who was deactivated come back. Raises NotFound, Forbidden."""
        async with self._database.transaction() as tx:
            await lock_target(tx, principal, user_id)
            user = await queries.user.change(tx, user_id, {"disabled_at": None})
        self._known.clear()
        return user

    async def delete(self, principal: Principal, user_id: UUID) -> User:
        """Remove what tells who a user was, what they said, and what signed them in; the ledger stays as it is.

        Gives the tombstone that takes the user's place. Raises NotFound, Forbidden, LastAdministrator.
        """
        async with self._database.transaction() as tx:
            await lock_leaver(tx, principal, user_id)
            await _make_tombstone(tx, user_id)
            user = await queries.user.change(tx, user_id, {})
        self._known.clear()
        await self._end_generations(user_id)
        return user


def check_search(search: str | None, field: str) -> None:
    """Raise InvalidInput for what cannot be searched for."""
    if search is not None and ("\0" in search or len(search) > MAX_SEARCH):
        raise InvalidInput(field, f"must have at most {MAX_SEARCH} characters, and not U+0000.")


async def _check_new_user(
    session: ReadSession, principal: Principal, user: User, group_ids: Sequence[UUID], issues: InputIssues
) -> None:
    """Raise InvalidInput, with what is in `issues` already, where the caller cannot make this user."""
    if reason := await role_problem(session, await acting_scopes(session, principal), user.role):
        issues.add("role", reason)
    if USERNAME.fullmatch(user.username) and await queries.user.name_is_taken(session, user.username):
        issues.add("username", f"{user.username!r} is taken.")
    if len(set(group_ids)) > MAX_GROUPS_OF_A_USER:
        issues.add("groupIds", f"a user can be in at most {MAX_GROUPS_OF_A_USER} groups.")
    groups = await queries.group.groups_by_id(session, group_ids)
    for place, group_id in enumerate(group_ids):
        if group_id not in groups:
            issues.add(f"groupIds[{place}]", "there is no group with this id.")
    issues.check()


async def _make_tombstone(tx: WriteSession, user_id: UUID) -> None:
    role = BuiltInRole.READ_ONLY.value
    await queries.user.make_tombstone(tx, user_id, now(), username=f"{TOMBSTONE}{user_id}", role=role)
