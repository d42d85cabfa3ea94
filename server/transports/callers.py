"""From a connection to the context of an operation: the one place where transports meet authentication."""

import logging
from dataclasses import dataclass
from typing import Any

import anyio
from sqlalchemy.exc import SQLAlchemyError
from starlette.requests import HTTPConnection, Request

from auth.client import Client, shown_user_agent
from auth.credentials import Credentials, read_credentials
from auth.errors import AuthenticationError
from db.engine import DatabaseUnavailable
from gateway import Gateway
from gateway.errors import DatabaseDown, InternalError
from gateway.request_limits import RequestBucket, RequestLimits
from schema.context import Context
from server.graphql import Operation
from server.logs import note
from server.transports.middleware import path_prefix

logger = logging.getLogger(__name__)


def client_of(connection: HTTPConnection) -> Client:
    """Give where a request or a socket comes from."""
    return Client(
        host=connection.client.host if connection.client else None,
        origin=connection.headers.get("origin"),
        user_agent=shown_user_agent(connection.headers.get("user-agent")),
        reached=_reached(connection),
    )


def _reached(connection: HTTPConnection) -> str | None:
    """Give the address of the page beside what was asked for. The host was checked before (`hosts.py`)."""
    host = connection.headers.get("host")
    scheme = "https" if connection.scope["scheme"] in {"https", "wss"} else "http"
    return host and f"{scheme}://{host}{path_prefix(connection.scope)}"


def credentials_of(request: Request) -> Credentials | AuthenticationError | None:
    """Give the credentials in the head of a request, or why they cannot be read; None where there are none."""
    try:
        return read_credentials(request.headers)
    except AuthenticationError as error:
        return error


@dataclass(frozen=True, slots=True)
class Callers:
    """Makes contexts for callers. `max_text` is how many characters of generations' text one answer may hold.

    `check_timeout` is how long it may take to look credentials up: then they could not be checked.
    """

    gateway: Gateway
    max_text: int
    check_timeout: float
    requests: RequestLimits

    async def context(
        self, credentials: Credentials | AuthenticationError | None, request_id: str, client: Client
    ) -> Context:
        """Give a fresh context for a client. Raises TooManyRequests for one who is nobody known, by address.

        Credentials that do not hold are kept as the reason, for the fields that need them.
        """
        context = await self._looked_up(credentials, request_id, client)
        if context.principal is None:
            await self.requests.count(RequestBucket.ANONYMOUS, client)
        return context

    async def count_sign_ins(self, operation: Operation, client: Client) -> None:
        """Count what an operation does for who signs in, known or not. Raises TooManyRequests."""
        if operation.sign_ins:
            await self.requests.count(RequestBucket.SIGN_IN, client, operation.sign_ins)

    async def _looked_up(
        self, credentials: Credentials | AuthenticationError | None, request_id: str, client: Client
    ) -> Context:
        if credentials is None:
            return self._context(request_id, client)
        if isinstance(credentials, AuthenticationError):
            return self._context(request_id, client, refused=credentials)
        try:
            with anyio.fail_after(self.check_timeout):
                principal = await self.gateway.identity.authentication.authenticate(credentials, client)
        except AuthenticationError as error:
            return self._context(request_id, client, refused=error)
        except (DatabaseUnavailable, TimeoutError):
            return self._context(request_id, client, refused=DatabaseDown())
        except SQLAlchemyError:
            logger.exception("request %s: the credentials could not be checked", request_id)
            return self._context(request_id, client, refused=InternalError())
        note(user=str(principal.user_id))
        return self._context(request_id, client, principal=principal)

    async def context_of(self, request: Request) -> Context:
        """Give a fresh context for whoever sent a request, by the credentials in its head. Raises TooManyRequests."""
        return await self.context(credentials_of(request), request.state.request_id, client_of(request))

    def _context(self, request_id: str, client: Client, **who: Any) -> Context:
        return Context(self.gateway, request_id, max_text=self.max_text, client=client, **who)
