"""From a connection to the context of an operation: the one place where transports meet authentication."""

import logging
from dataclasses import dataclass
from typing import Any

from sqlalchemy.exc import SQLAlchemyError
from starlette.requests import Request

from auth.credentials import Credentials, read_credentials
from auth.errors import AuthenticationError
from db.engine import DatabaseUnavailable
from gateway import Gateway
from gateway.errors import DatabaseDown, InternalError
from schema.context import Context

logger = logging.getLogger(__name__)


def host_of(request: Request) -> str | None:
    """Give the address of the client; None where the connection has none."""
    return request.client.host if request.client else None


def credentials_of(request: Request) -> Credentials | AuthenticationError | None:
    """Give the credentials in the head of a request, or why they cannot be read; None where there are none."""
    try:
        return read_credentials(request.headers)
    except AuthenticationError as error:
        return error


@dataclass(frozen=True, slots=True)
class Callers:
    """Makes contexts for callers. `max_text` is how many characters of generations' text one answer may hold."""

    gateway: Gateway
    max_text: int

    async def context(
        self, credentials: Credentials | AuthenticationError | None, request_id: str, host: str | None
    ) -> Context:
        """Give a fresh context for a client at `host`.

        Credentials that do not hold are kept as the reason, for the fields that need them.
        """
        if credentials is None:
            return self._context(request_id, host)
        if isinstance(credentials, AuthenticationError):
            return self._context(request_id, host, refused=credentials)
        try:
            principal = await self.gateway.identity.authenticate(credentials)
        except AuthenticationError as error:
            return self._context(request_id, host, refused=error)
        except DatabaseUnavailable:
            return self._context(request_id, host, refused=DatabaseDown())
        except SQLAlchemyError:
            logger.exception("request %s: the credentials could not be checked", request_id)
            return self._context(request_id, host, refused=InternalError())
        return self._context(request_id, host, principal=principal)

    async def context_of(self, request: Request) -> Context:
        """Give a fresh context for whoever sent a request, by the credentials in its head."""
        return await self.context(credentials_of(request), request.state.request_id, host_of(request))

    def _context(self, request_id: str, host: str | None, **who: Any) -> Context:
        return Context(self.gateway, request_id, max_text=self.max_text, host=host, **who)
