"""Which accounts at identity providers belong to a user, and how one is added and taken away.

    linked by                      to
    the first sign-in              a user who is made for it (`accounts.py`)
    somebody who is signed in      that user, if the subject is nobody else's

A user has one account at each provider. Nothing else links any: not an e-mail address, and not a name.
"""

import logging
from collections.abc import Sequence
from uuid import UUID

from sqlalchemy.exc import IntegrityError

from auth.principal import Principal
from auth.providers import ExternalIdentity, Providers
from auth.scopes import Scope
from db import queries
from db.clock import now
from db.engine import Database, WriteSession
from db.queries import NO_PASSWORD
from db.tables import ExternalAccount, User
from gateway.codes import ErrorCode
from gateway.errors import NotFound
from gateway.identity.external.accounts import MAX_EXTERNAL_NAME, stored_subject
from gateway.identity.external.refusals import ExternalSignInRefused, SignInProblem
from gateway.identity.known import KnownCallers
from gateway.identity.refusals import Conflict
from gateway.identity.rights import lock_target

logger = logging.getLogger(__name__)

UNLINKED = "UNLINKED"
"""Why sessions end that began at a provider which is linked no more."""


class LastSignInMethod(Conflict):
    """The user could not sign in any more."""

    code = ErrorCode.LAST_SIGN_IN_METHOD

    def __init__(self) -> None:
        super().__init__(
            "This is the only way in which this user can sign in. Link another identity provider first, or have an "
            "administrator create a password reset."
        )


class ExternalLinks:
    """Adds accounts at providers to users, takes them away, and tells which there are."""

    def __init__(self, database: Database, known: KnownCallers, providers: Providers) -> None:
        self._database = database
        self._known = known
        self._labels = {it.name: it.label for it in (*providers.passwords, *providers.redirects)}

    def label(self, provider: str) -> str:
        """Give what to call a provider; its name where it is not configured any more."""
        return self._labels.get(provider, provider)

    async def of_users(self, principal: Principal, user_ids: Sequence[UUID]) -> list[list[ExternalAccount]]:
        """Give the accounts of each of these users at providers; none of whom the caller may not see."""
        asked = [user_id for user_id in user_ids if principal.may_see_of(user_id, Scope.USERS_READ)]
        async with self._database.reading() as session:
            found = await queries.external.accounts_of_users(session, asked)
        return [found.get(user_id, []) for user_id in user_ids]

    async def attach(self, identity: ExternalIdentity, user_id: UUID, session_id: UUID) -> tuple[User, ExternalAccount]:
        """Link a verified identity to the user of a session, in which that user asked for it.

        Nothing changes where it is linked to them already. Raises ExternalSignInRefused: the session has ended, the
        identity is another user's, or the user has another account at this provider.
        """
        try:
            async with self._database.transaction() as tx:
                return await self._attach(tx, identity, user_id, session_id)
        except IntegrityError:  # somebody has signed in with it for the first time at this moment
            raise ExternalSignInRefused(SignInProblem.TAKEN) from None

    async def unlink(self, principal: Principal, user_id: UUID | None, provider: str) -> User:
        """Take the account at a provider from the caller, or from another user, and end the sessions begun with it.

        The caller's own session goes on. Raises NotFound, Forbidden; LastSignInMethod.
        """
        async with self._database.transaction() as tx:
            user = await _locked(tx, principal, principal.user_id if user_id is None else user_id)
            accounts = (await queries.external.accounts_of_users(tx, [user.id]))[user.id]
            others = [it for it in accounts if it.provider != provider]
            if len(others) == len(accounts):
                raise NotFound(
                    f"No account at the identity provider {provider[:32]!r} is linked to this user.",
                    "ExternalAccount",
                    provider,
                )
            if user.password_hash == NO_PASSWORD and not any(it.provider in self._labels for it in others):
                raise LastSignInMethod
            await queries.external.unlink(tx, user.id, provider)
            await queries.session.revoke_sessions_of_provider(
                tx, user.id, provider, now(), UNLINKED, keep=principal.session_id
            )
        self._known.clear()
        logger.info("%s is no more linked to the provider %s, by %s", user.username, provider, principal.username)
        return user

    async def _attach(
        self, tx: WriteSession, identity: ExternalIdentity, user_id: UUID, session_id: UUID
    ) -> tuple[User, ExternalAccount]:
        await queries.user.lock_user(tx, user_id)
        found = await queries.session.session_to_go_on(tx, session_id, now())
        if found is None or found[1].id != user_id:
            raise ExternalSignInRefused(SignInProblem.SESSION_ENDED)
        user, subject = found[1], stored_subject(identity.subject)
        account = await queries.external.account_by_subject(tx, identity.provider, subject)
        if account is not None and account.user_id != user_id:
            raise ExternalSignInRefused(SignInProblem.TAKEN)
        if account is None:
            if await queries.external.linked_accounts(tx, user_id, [identity.provider]):
                raise ExternalSignInRefused(SignInProblem.ALREADY_LINKED)
            account = ExternalAccount(
                provider=identity.provider, subject=subject, user_id=user_id, linked_at=now(), last_signed_in_at=None
            )
            tx.add(account)
            logger.info("%s is linked to the provider %s", user.username, identity.provider)
        account.username = identity.username[:MAX_EXTERNAL_NAME]
        await tx.flush()
        return user, account


async def _locked(tx: WriteSession, principal: Principal, user_id: UUID) -> User:
    """Give a user whom the caller may unlink, locked. Raises NotFound and Forbidden."""
    if user_id != principal.user_id or not principal.has(Scope.PROFILE_WRITE):
        return (await lock_target(tx, principal, user_id)).user
    await queries.user.lock_user(tx, user_id)
    user = (await queries.identity.users_by_id(tx, [user_id])).get(user_id)
    if user is None or user.disabled_at is not None:
        raise NotFound("There is no user with this id.", "User", user_id)
    return user
