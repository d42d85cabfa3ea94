"""Signing in with a password: who guesses is stopped, and nobody can be locked out by a stranger.

Each sign-in is counted before its password is looked at (`attempts.py`), and taken back if it works.

    counted by          allowed in a window    then
    name and address    `failures`             closed for the window; at an address from which anybody has signed in
                                               lately only for a short and growing time
    address             3 times `failures`     closed for the window
    name                10 times `failures`    closed for the window

Whoever has signed in under a name from an address lately is counted there by both together alone: what others do, from
wherever, does not close that door. The caps by name and by address are wide, for many people share an address behind
one router, and a stranger who is willing to fail a hundred times closes a name to all new addresses only.

It makes no difference who verifies the password, the gateway or an identity provider (`external/passwords.py`). Only an
attempt of which no provider has learnt anything, for it could not be reached, is taken back.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import anyio

from auth.client import UNKNOWN_CLIENT, Client, origin
from auth.lane import LaneFull
from auth.passwords import PasswordHasher
from auth.providers import BuiltInPasswords, StoredPassword
from db import queries
from db.clock import now
from db.engine import Database
from db.queries import Subject, Who
from db.tables import User
from gateway.errors import AccountLocked, InvalidCredentials, Overloaded
from gateway.identity.attempts import ADDRESS_FACTOR, ANY_ADDRESS, ANY_NAME, Attempts, Count
from gateway.identity.external import ExternalPasswords, Others, ProvidersUnavailable, Question
from gateway.identity.sessions import Sessions, SignedIn
from gateway.tasks import purge_regularly

NAME_FACTOR = 10

KNOWN_TIME = timedelta(days=30)
"""How long an address is known after a sign-in from there."""

PURGE_SECONDS = 60

TOLD = "failed sign-ins"

REGISTRATION = "  "
"""The name by which registrations are counted, which nobody can type either."""


@dataclass(frozen=True, slots=True)
class _Checked:
    """A user whose password is right, and by whom that was verified."""

    user: User
    provider: str


class SignIns:
    """Sign-ins with passwords."""

    def __init__(
        self,
        database: Database,
        passwords: PasswordHasher,
        external: ExternalPasswords,
        sessions: Sessions,
        attempts: Attempts,
    ) -> None:
        self._database = database
        self._passwords = passwords
        self._built_in = BuiltInPasswords(passwords, self._stored_password, self._store_hash)
        self._external = external
        self._sessions = sessions
        self._attempts = attempts

    async def sign_in(self, username: str, password: str, client: Client = UNKNOWN_CLIENT) -> SignedIn:
        """Check a password of the gateway or of a provider, and begin a session.

        Raises what `check` raises; ProvidersUnavailable; and ExternalSignInRefused for somebody whose password is
        right, and who may not sign in.
        """
        checked = await self._check(username, password, client, self._external.for_sign_in)
        return await self._sessions.begin(checked.user, client, checked.provider)

    async def check(self, username: str, password: str, client: Client = UNKNOWN_CLIENT) -> User:
        """Check a password of the gateway itself, and give whose it is: for what asks for it once more.

        Raises InvalidCredentials or AccountLocked, which are the same, and take the same time, whether or not there is
        such a user; Overloaded where too many wait to have their passwords looked at.
        """
        return (await self._check(username, password, client)).user

    async def check_with(self, username: str, password: str, client: Client, others: Others) -> User:
        """Do what `check` does with a password that identity providers may have to verify, too.

        Raises ProvidersUnavailable and ExternalSignInRefused beside what `check` raises.
        """
        return (await self._check(username, password, client, others)).user

    async def _check(self, username: str, password: str, client: Client, others: Others | None = None) -> _Checked:
        typed = username.strip()
        username, address = _typed_name(username), origin(client.host)
        at = now()
        async with self._database.reading() as session:
            who = await queries.sign_in.who_signs_in(session, username, address, at - KNOWN_TIME)
            counts = self._counts(username, address, who)
            locks = await queries.sign_in.locks(session, [count.subject for count in counts], at)
        if locks:
            raise AccountLocked(await self._attempts.cut(max(locks), at), TOLD)
        questions = await others.questions(who.user, typed) if others else []
        lane = self._external if questions else self._passwords
        try:
            with lane.place(address, known=who.address_known):
                async with self._counted(counts):  # a client who leaves has guessed all the same
                    checked = await self._checked(who, questions, password, others)
        except LaneFull:
            raise _full() from None
        if checked is None:
            raise InvalidCredentials
        with anyio.CancelScope(shield=True):
            await self._settle(checked, address, counts)
        return checked

    @asynccontextmanager
    async def registering(self, client: Client) -> AsyncGenerator[None]:
        """Hash a stranger's password within the block, counted by their address, and last in the line.

        Raises AccountLocked where too many have registered from there within the window; Overloaded.
        """
        address = origin(client.host)
        try:
            with self._passwords.place(address, known=False):
                async with self._counted([Count(Subject(REGISTRATION, address), self._attempts.policy.failures)]):
                    yield
        except LaneFull:
            raise _full() from None

    async def unlock(self, username: str) -> bool:
        """Forget what has failed under a name and at the addresses that tried it; tells whether there was anything."""
        async with self._database.transaction() as tx:
            return await queries.sign_in.unlock_name(tx, _typed_name(username), ANY_NAME) > 0

    async def run(self) -> None:
        """Remove what is too old to count, until cancelled."""
        await purge_regularly("old sign-ins", self._purge, PURGE_SECONDS)

    async def _purge(self) -> None:
        at = now()
        async with self._database.transaction() as tx:
            await queries.sign_in.purge_sign_ins(tx, at - self._attempts.policy.window, at - KNOWN_TIME)
            await queries.one_time_link.purge(tx, at)

    def _counts(self, username: str, address: str, who: Who) -> list[Count]:
        """Give what this sign-in counts against, always in the order name, address, both."""
        failures = self._attempts.policy.failures
        both = Count(Subject(username, address), failures, backs_off=who.address_known)
        if who.known:
            return [both]
        return [
            Count(Subject(username, ANY_ADDRESS), NAME_FACTOR * failures),
            Count(Subject(ANY_NAME, address), ADDRESS_FACTOR * failures),
            both,
        ]

    async def _checked(
        self, who: Who, questions: Sequence[Question], password: str, others: Others | None
    ) -> _Checked | None:
        """Have the password verified by whom it is for; None where it is wrong."""
        if questions and others:
            by_other = await self._external.verify(questions, password, others, known=who.address_known)
            return None if by_other is None else _Checked(by_other.user, by_other.provider)
        username = who.user.username if who.user is not None else ""
        identity = await self._built_in.verify(username, password, known=who.address_known)
        if identity is None or who.user is None or identity.subject != str(who.user.id):
            return None
        return _Checked(who.user, identity.provider)

    async def _stored_password(self, username: str) -> StoredPassword | None:
        async with self._database.reading() as session:
            user = await queries.identity.user_by_name(session, username)
        if user is None or user.disabled_at is not None:
            return None
        return StoredPassword(str(user.id), user.username, user.password_hash)

    async def _store_hash(self, stored: StoredPassword, new_hash: str) -> None:
        async with self._database.transaction() as tx:
            await queries.identity.replace_hash(tx, UUID(stored.subject), stored.password_hash or "", new_hash)

    @asynccontextmanager
    async def _counted(self, counts: list[Count]) -> AsyncGenerator[None]:
        """Count one more before the block, and take it back where nobody has looked at the password in it.

        Raises AccountLocked, and has counted nothing then.
        """
        with anyio.CancelScope(shield=True):
            async with self._database.transaction() as tx:
                await self._attempts.count(tx, counts, TOLD)
        try:
            yield
        except (LaneFull, ProvidersUnavailable) as error:
            if isinstance(error, LaneFull) or error.nobody_answered:
                with anyio.CancelScope(shield=True):
                    async with self._database.transaction() as tx:
                        await self._attempts.take_back(tx, counts)
            raise

    async def _settle(self, checked: _Checked, address: str, counts: list[Count]) -> None:
        """Take back what was counted, and remember the address: the sign-in worked."""
        async with self._database.transaction() as tx:
            await self._attempts.take_back(tx, counts[:-1])
            await queries.sign_in.forget_sign_ins(tx, counts[-1].subject)
            await queries.sign_in.note_address(tx, checked.user.id, address, now())


def _full() -> Overloaded:
    return Overloaded("Too many people sign in at this moment. Try again in a moment.")


def _typed_name(username: str) -> str:
    """Give the name as it is looked up, and as failures are counted: PostgreSQL keeps no U+0000 in a text."""
    return username.strip().lower()[:64].replace("\0", "\N{REPLACEMENT CHARACTER}")
