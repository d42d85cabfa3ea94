"""Ends what is open when its credentials expire or are revoked."""

import logging
from collections.abc import Callable, Generator
from contextlib import contextmanager

import anyio

from auth.client import Client
from auth.credentials import ApiKeySecret, Credentials
from auth.errors import AuthenticationError
from auth.principal import Principal
from db.engine import DatabaseUnavailable
from gateway.identity import Authentication, OpenCredentials

logger = logging.getLogger(__name__)

Revoked = Callable[[AuthenticationError], None]
"""What to do when the credentials hold no longer, and why they do not."""


def open_credentials(credentials: Credentials | None, principal: Principal | None) -> OpenCredentials | None:
    """Give what keeps a connection open that these credentials opened: the API key, or the session of the token."""
    if principal is not None and principal.session_id is not None:
        return principal.session_id
    return credentials if isinstance(credentials, ApiKeySecret) else None


class CredentialWatch:
    """Looks at all credentials in use every `interval` seconds, at each once, however many connections use it.

    One task looks for all, at hundreds in one statement: thousands of open sockets are no load on the database.
    """

    def __init__(self, authentication: Authentication, interval: float) -> None:
        self._authentication = authentication
        self._interval = interval
        self._watched: dict[tuple[OpenCredentials, Client], list[Revoked]] = {}

    @contextmanager
    def watching(self, credentials: OpenCredentials | None, client: Client, revoked: Revoked) -> Generator[None]:
        """Within the block, `revoked` is called once if the credentials hold no longer."""
        if credentials is None:
            yield
            return
        watchers = self._watched.setdefault(caller := (credentials, client), [])
        watchers.append(revoked)
        try:
            yield
        finally:
            watchers.remove(revoked)
            if not watchers and self._watched.get(caller) is watchers:
                del self._watched[caller]

    async def run(self) -> None:
        """Look, for ever. Whoever starts it ends it."""
        while True:
            await anyio.sleep(self._interval)
            await self.look()

    async def look(self) -> None:
        """Look once at each of the credentials in use."""
        watched = list(self._watched)
        try:
            found = await self._authentication.check_all(watched)
        except DatabaseUnavailable:
            logger.warning("the credentials of open connections could not be checked: the database does not answer")
            return
        except Exception:  # in the task group of the whole application it would end everything
            logger.exception("the credentials of open connections could not be checked")
            return
        for caller, principal in zip(watched, found, strict=True):
            if isinstance(principal, AuthenticationError):
                for revoked in self._watched.pop(caller, [])[:]:
                    revoked(principal)
