"""Signing out where an identity provider has a session, too.

here first     `sign_out`: the gateway's session ends, whatever the provider says; then the browser may go there
there first    `end_elsewhere`: the provider tells the gateway (OpenID Connect Back-Channel Logout 1.0)
"""

import logging

import anyio

from auth.principal import Principal
from auth.providers import (
    EndedElsewhere,
    ProviderError,
    Providers,
    ProviderUnavailable,
    SignInRefused,
    TellsOfSignOuts,
    UnknownProvider,
)
from db import queries
from db.clock import now
from db.engine import Database
from db.queries import Elsewhere
from gateway.errors import InvalidInput, NotFound
from gateway.identity.external.accounts import stored_subject
from gateway.identity.external.passwords import ProvidersUnavailable
from gateway.identity.known import KnownCallers
from gateway.identity.sessions import Sessions

logger = logging.getLogger(__name__)

PROVIDER_SECONDS = 5
"""How long an answer waits for a provider that has not told yet where its sessions end."""

ENDED_ELSEWHERE = "ENDED_AT_PROVIDER"
"""Why sessions end that ended at the provider."""


class SignOuts:
    """Ends sessions, and tells where they end at the provider."""

    def __init__(self, database: Database, known: KnownCallers, providers: Providers, sessions: Sessions) -> None:
        self._database = database
        self._known = known
        self._providers = providers
        self._sessions = sessions

    async def sign_out(self, principal: Principal, origin: str | None, *, everywhere: bool = False) -> str | None:
        """End the caller's session, or all of them, and give where the browser has to go to sign out there, too.

        The provider sends it back to the start page at `origin`. None where the session did not begin at such a
        provider, it cannot be asked, or there is no browser. Raises Unsupported for a caller without a session.
        """
        await self._sessions.sign_out(principal, everywhere=everywhere)
        if origin is None or principal.session_id is None:
            return None
        async with self._database.reading() as session:
            found = await queries.session.sessions_by_id(session, [principal.session_id])
            began_at = found[principal.session_id].provider if principal.session_id in found else ""
            accounts = await queries.external.linked_accounts(session, principal.user_id, [began_at])
        username = accounts[0].username if accounts else None
        return await self._logout_url(began_at, f"{origin}/", username)

    async def end_elsewhere(self, provider: str, logout_token: str) -> int:
        """End the sessions that ended at a provider, by what it tells; gives how many.

        Raises NotFound for a provider that tells of none; InvalidInput for a token that cannot be trusted;
        ProvidersUnavailable where its keys cannot be had.
        """
        told = await self._told(provider, logout_token)
        async with self._database.transaction() as tx:
            user_id = None
            if told.subject is not None:
                account = await queries.external.account_by_subject(tx, provider, stored_subject(told.subject))
                if account is None:
                    return 0
                user_id = account.user_id
            ended = Elsewhere(provider, told.provider_session, user_id, told.at)
            count = await queries.session.revoke_sessions_ended_elsewhere(tx, ended, now(), ENDED_ELSEWHERE)
        self._known.clear()
        logger.info("%s tells of a sign-out: %d sessions ended", provider, count)
        return count

    async def _told(self, provider: str, logout_token: str) -> EndedElsewhere:
        try:
            asked = self._providers.redirect(provider)
            if not isinstance(asked, TellsOfSignOuts):
                raise UnknownProvider(provider)
            return await asked.ended_elsewhere(logout_token)
        except UnknownProvider:
            raise NotFound(
                f"No identity provider {provider[:32]!r} tells of sign-outs here.", "SignInOption", provider
            ) from None
        except SignInRefused as error:
            logger.warning("a logout token for %s cannot be trusted: %s", provider, ascii(error.detail[:300]))
            raise InvalidInput("logout_token", "cannot be verified.") from error
        except ProviderUnavailable as error:
            raise ProvidersUnavailable(provider, nobody_answered=True) from error

    async def _logout_url(self, provider: str, return_to: str, username: str | None) -> str | None:
        try:
            with anyio.move_on_after(PROVIDER_SECONDS):
                return await self._providers.redirect(provider).logout_url(return_to, username)
        except UnknownProvider:
            return None
        except ProviderError as error:
            logger.warning("where to sign out at %s is not known: %s", provider, ascii(str(error)[:300]))
            return None
        logger.warning("%s did not tell in %d seconds where to sign out", provider, PROVIDER_SECONDS)
        return None
