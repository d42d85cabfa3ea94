"""Who makes their own account, where that is allowed."""

from sqlalchemy.exc import IntegrityError

from auth.client import Client
from auth.passwords import PasswordHasher
from auth.roles import BuiltInRole
from db import queries
from db.clock import new_id, now
from db.engine import Database
from db.tables import User
from gateway.errors import Forbidden, InputIssues, InvalidInput
from gateway.identity.profile import USERNAME, Profile, check_new_password, checked_username
from gateway.identity.sign_in import SignIns


class Registration:
    """Makes users with the role `user`, and never another. `self_registration` is whether strangers may."""

    def __init__(
        self, database: Database, passwords: PasswordHasher, sign_ins: SignIns, *, self_registration: bool
    ) -> None:
        self._database = database
        self._passwords = passwords
        self._sign_ins = sign_ins
        self._self_registration = self_registration

    async def register(self, username: str, password: str, profile: Profile, client: Client) -> User:
        """Make a user. Raises Forbidden where strangers may not; InvalidInput; AccountLocked; Overloaded."""
        if not self._self_registration:
            raise Forbidden(
                "Self-registration is off (OLLAGRAPH_SELF_REGISTRATION). Ask an administrator for an invitation."
            )
        issues = InputIssues()
        username = checked_username(username, issues)
        await check_new_password(self._passwords, issues, "password", password, username)
        columns = profile.columns(issues)
        async with self._database.reading() as session:
            if USERNAME.fullmatch(username) and await queries.user.name_is_taken(session, username):
                issues.add("username", f"{username!r} is taken.")
        issues.check()
        async with self._sign_ins.registering(client):
            password_hash = await self._passwords.hash(password, known=False)
        at = now()
        user = User(
            id=new_id(),
            username=username,
            password_hash=password_hash,
            role=BuiltInRole.USER.value,
            created_at=at,
            password_changed_at=at,
            **columns,
        )
        try:
            async with self._database.transaction() as tx:
                tx.add(user)
        except IntegrityError as error:
            raise InvalidInput("username", f"{username!r} is taken.") from error
        return user
