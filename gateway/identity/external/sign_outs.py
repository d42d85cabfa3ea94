"""Signing out where an identity provider has a session, too: the gateway's ends first, whatever the provider says."""

import logging

import anyio

from auth.principal import Principal
from auth.providers import ProviderError, Providers, UnknownProvider
from db import queries
from db.engine import Database
from gateway.identity.sessions import Sessions

logger = logging.getLogger(__name__)

PROVIDER_SECONDS = 5
"""How long an answer waits for a provider that has not told yet where its sessions end."""


class SignOuts:
    """Ends sessions, and tells where they end at the provider."""

    def __init__(self, database: Database, providers: Providers, sessions: Sessions) -> None:
        self._database = database
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
