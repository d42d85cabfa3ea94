"""Passwords that others verify: which provider is asked for a name that was typed.

    the account of this name          who is asked
    is linked to password providers   those alone, by the name that they know
    has a password here               the gateway itself, and nobody else
    has neither; or there is none     all password providers, in their order, by the name that was typed

So nobody's password is tried in two places, and a directory cannot sign in an account that has its password here. Who
waits for a provider waits in a line of its own: one that hangs must not keep the administrator's password from being
looked at.
"""

import logging
from collections.abc import Awaitable, Callable, Hashable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from auth.lane import Lane
from auth.providers import ExternalIdentity, PasswordProvider, ProviderUnavailable, SignInRefused
from db import queries
from db.engine import Database
from db.queries import NO_PASSWORD
from db.tables import User
from gateway.codes import ErrorCode
from gateway.errors import Overloaded
from gateway.identity.external.accounts import ExternalAccounts
from gateway.identity.external.refusals import ExternalSignInRefused, problem_of

logger = logging.getLogger(__name__)


ASKED_AT_ONCE = 16
"""Sign-ins that are at providers at once. A provider may take fewer; LDAP has a setting for it."""


class ProvidersUnavailable(Overloaded):
    """A provider that may know the password cannot be reached. `nobody_answered`: nothing was learnt of it."""

    code = ErrorCode.PROVIDER_UNAVAILABLE

    def __init__(self, provider: str, *, nobody_answered: bool) -> None:
        self.nobody_answered = nobody_answered
        super().__init__(f"The identity provider {provider!r} cannot be reached. Try again in a moment.")


@dataclass(frozen=True, slots=True)
class Question:
    """A provider to ask, and the name that it knows the person by."""

    provider: PasswordProvider
    username: str


@dataclass(frozen=True, slots=True)
class Others:
    """Which providers are asked for a password, and which user an identity is, once one of them has verified it."""

    questions: Callable[[User | None, str], Awaitable[list[Question]]]
    user_of: Callable[[ExternalIdentity], Awaitable[User]]


@dataclass(frozen=True, slots=True)
class VerifiedByOther:
    """A user whose password a provider has verified."""

    user: User
    provider: str


class ExternalPasswords:
    """Asks password providers, of which there may be none."""

    def __init__(self, database: Database, providers: Sequence[PasswordProvider], accounts: ExternalAccounts) -> None:
        self._database = database
        self._providers = {provider.name: provider for provider in providers}
        self._accounts = accounts
        self._lane = Lane(ASKED_AT_ONCE)

    def place(self, origin: Hashable, *, known: bool) -> AbstractContextManager[None]:
        """Hold a place in the line for a password of this origin. Entering it raises LaneFull."""
        return self._lane.place(origin, known=known)

    @property
    def for_sign_in(self) -> Others:
        """Ask by the table above."""
        return Others(self._questions, self._accounts.user_of)

    @property
    def for_known(self) -> Others:
        """Ask those alone that the user is linked to: for a password that is asked for once more."""
        return Others(self._linked, self._accounts.user_of)

    def at(self, provider: str, user_of: Callable[[ExternalIdentity], Awaitable[User]]) -> Others | None:
        """Ask one provider by the name that was typed; None where no password provider has this name."""
        asked = self._providers.get(provider)
        if asked is None:
            return None

        async def questions(user: User | None, typed: str) -> list[Question]:
            return [Question(asked, typed)]

        return Others(questions, user_of)

    async def verify(
        self, questions: Sequence[Question], password: str, others: Others, *, known: bool
    ) -> VerifiedByOther | None:
        """Ask one after the other until one knows the password; None where none does.

        Who is not `known` lets the others go first where many wait. Raises ProvidersUnavailable where one that was not
        reached may know it, and ExternalSignInRefused.
        """
        async with self._lane.turn(known=known):
            identity = await self._identity(questions, password)
        return None if identity is None else VerifiedByOther(await others.user_of(identity), identity.provider)

    async def _questions(self, user: User | None, typed: str) -> list[Question]:
        """Tell whom to ask for a user, or a name that is nobody's; nobody: the gateway's own passwords decide."""
        if not self._providers or (user is not None and user.disabled_at is not None):
            return []
        if linked := await self._linked(user, typed):
            return linked
        if user is not None and user.password_hash != NO_PASSWORD:
            return []
        return [Question(provider, typed) for provider in self._providers.values()]

    async def _linked(self, user: User | None, typed: str) -> list[Question]:
        if not self._providers or user is None or user.disabled_at is not None:
            return []
        async with self._database.reading() as session:
            linked = await queries.external.linked_accounts(session, user.id, list(self._providers))
        known = {account.provider: account.username for account in linked}
        return [Question(it, known[name]) for name, it in self._providers.items() if name in known]

    async def _identity(self, questions: Sequence[Question], password: str) -> ExternalIdentity | None:
        silent: list[str] = []
        for question in questions:
            try:
                identity = await question.provider.verify(question.username, password)
            except ProviderUnavailable as error:
                logger.warning("%s cannot be asked for a password: %s", error.provider, ascii(error.detail[:300]))
                silent.append(error.provider)
                continue
            except SignInRefused as error:
                logger.warning("%s refuses somebody: %s", question.provider.name, ascii(error.detail[:300]))
                raise ExternalSignInRefused(problem_of(error)) from error
            if identity is not None:
                return identity
        if silent:
            raise ProvidersUnavailable(silent[0], nobody_answered=len(silent) == len(questions))
        return None
