"""How people come to a password: by changing it, or by a link that works once."""

import hashlib
import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from auth.client import Client
from auth.passwords import PasswordHasher
from auth.principal import Principal
from db import queries
from db.clock import now
from db.engine import Database, WriteSession
from db.tables import OneTimeLink, User
from gateway.errors import InputIssues, InvalidCredentials, InvalidInput
from gateway.identity.accounts import Accounts, NewUser
from gateway.identity.attempts import ANY_NAME
from gateway.identity.known import KnownCallers
from gateway.identity.profile import UserKind, check_new_password
from gateway.identity.refusals import InvalidLink
from gateway.identity.rights import OPERATOR, lock_target
from gateway.identity.sign_in import SignIns

SECRET_BYTES = 32


class LinkPurpose(StrEnum):
    """What a one-time link is for."""

    INVITATION = "INVITATION"
    RESET = "RESET"


@dataclass(frozen=True, slots=True)
class NewLink:
    """A link just made. Its secret is shown this once, and nothing but its hash is kept."""

    secret: str = field(repr=False)
    purpose: LinkPurpose
    expires_at: datetime


class Passwords:
    """Changes passwords. `link_lifetime` is how long a link can be used."""

    def __init__(
        self,
        database: Database,
        known: KnownCallers,
        passwords: PasswordHasher,
        sign_ins: SignIns,
        accounts: Accounts,
        *,
        link_lifetime: timedelta,
    ) -> None:
        self._database = database
        self._known = known
        self._passwords = passwords
        self._sign_ins = sign_ins
        self._accounts = accounts
        self._link_lifetime = link_lifetime

    async def change(self, principal: Principal, current: str, new: str, client: Client) -> User:
        """Give the caller a new password, and end their other sessions.

        A wrong current one counts as a sign-in that failed. Raises InvalidCredentials, AccountLocked, Overloaded;
        InvalidInput.
        """
        issues = InputIssues()
        await check_new_password(self._passwords, issues, "newPassword", new, principal.username)
        if new == current:
            issues.add("newPassword", "must differ from the current password.")
        issues.check()
        user = await self._sign_ins.check(principal.username, current, client)
        if user.id != principal.user_id:
            raise InvalidCredentials
        columns = _columns(await self._passwords.hash(new))
        async with self._database.transaction() as tx:
            await queries.user.lock_user(tx, user.id)
            await _check_unchanged(tx, user)
            await queries.session.revoke_sessions(tx, user.id, now(), "PASSWORD_CHANGED", keep=principal.session_id)
            await queries.one_time_link.remove_of(tx, user.id)
            user = await queries.user.change(tx, user.id, columns)
        self._known.clear()
        return user

    async def invite(self, principal: Principal, new: NewUser) -> tuple[User, NewLink]:
        """Make a user who chooses their first password with the link. Raises what `Accounts.add` raises."""
        user = await self._accounts.add(principal, new)
        async with self._database.transaction() as tx:
            return user, self._add_link(tx, principal, user.id, LinkPurpose.INVITATION)

    async def create_reset(self, principal: Principal, user_id: UUID) -> tuple[User, NewLink]:
        """Make a link with which another user chooses a new password; earlier links of theirs end.

        Until then the old password works. Raises NotFound, Forbidden; InvalidInput for oneself, who has to know the
        current password, and for who is to have none.
        """
        async with self._database.transaction() as tx:
            user = (await lock_target(tx, principal, user_id)).user
            if user.id == principal.user_id:
                raise InvalidInput("userId", "change your own password with `changePassword`.")
            _check_has_password(user, "userId")
            await queries.one_time_link.remove_of(tx, user_id)
            return user, self._add_link(tx, principal, user_id, LinkPurpose.RESET)

    async def set_by_link(self, secret: str, password: str) -> User:
        """Give the user of a link a password, end their sessions, and use the link up.

        Raises InvalidLink; InvalidInput, and the link stays usable.
        """
        secret_hash = _hash(secret)
        async with self._database.reading() as session:  # nothing is hashed for who has no link
            user = await queries.one_time_link.user_of(session, secret_hash, now())
        if user is None:
            raise InvalidLink
        issues = InputIssues()
        await check_new_password(self._passwords, issues, "password", password, user.username)
        issues.check()
        columns = _columns(await self._passwords.hash(password))
        async with self._database.transaction() as tx:
            await queries.user.lock_user(tx, user.id)
            if await queries.one_time_link.use(tx, secret_hash, now()) is None:
                raise InvalidLink
            user = await self._replace(tx, user, columns)
        self._known.clear()
        return user

    async def reset(self, username: str) -> tuple[User, str]:
        """Give a user a password that is made up and holds for one sign-in, open their name, and end their sessions.

        For the command line. Raises NotFound; InvalidInput for who is to have none.
        """
        user = await self._accounts.named(username)
        password = self._passwords.make_up()
        columns = _columns(await self._passwords.hash(password)) | {"must_change_password": True}
        async with self._database.transaction() as tx:
            user = (await lock_target(tx, OPERATOR, user.id)).user
            _check_has_password(user, "username")
            user = await self._replace(tx, user, columns)
        self._known.clear()
        return user, password

    def _add_link(self, tx: WriteSession, principal: Principal, user_id: UUID, purpose: LinkPurpose) -> NewLink:
        link = NewLink(secrets.token_urlsafe(SECRET_BYTES), purpose, now() + self._link_lifetime)
        tx.add(
            OneTimeLink(
                secret_hash=_hash(link.secret),
                user_id=user_id,
                purpose=purpose,
                created_by=principal.user_id,
                expires_at=link.expires_at,
            )
        )
        return link

    async def _replace(self, tx: WriteSession, user: User, columns: dict[str, Any]) -> User:
        """Write a password that nobody had to know the old one for: whoever did is sent away."""
        await queries.session.revoke_sessions(tx, user.id, now(), "PASSWORD_RESET")
        await queries.one_time_link.remove_of(tx, user.id)
        await queries.sign_in.unlock_name(tx, user.username, ANY_NAME)
        return await queries.user.change(tx, user.id, columns)


async def _check_unchanged(tx: WriteSession, user: User) -> None:
    """Refuse a password that was right when it was looked at, and is not the user's any more: two change it at once."""
    found = (await queries.identity.users_by_id(tx, [user.id])).get(user.id)
    if found is None or found.disabled_at is not None or found.password_changed_at != user.password_changed_at:
        raise InvalidCredentials


def _columns(password_hash: str) -> dict[str, Any]:
    return {"password_hash": password_hash, "must_change_password": False, "password_changed_at": now()}


def _check_has_password(user: User, field: str) -> None:
    if user.kind != UserKind.PERSON:
        raise InvalidInput(field, "service accounts have no password; they use API keys.")
    if user.disabled_at is not None:
        raise InvalidInput(field, "this user is deactivated. Reactivate them first.")


def _hash(secret: str) -> str:
    """Give what is kept of a secret: with 256 random bits it needs no slow hash."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
