"""From a connection to the context of an operation: the one place where transports meet authentication."""

import logging
from dataclasses import dataclass

from sqlalchemy.exc import SQLAlchemyError

from auth.credentials import Credentials
from auth.errors import AuthenticationError
from db.engine import DatabaseUnavailable
from gateway import Gateway
from gateway.errors import DatabaseDown, InternalError
from schema.context import Context

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Callers:
    """Makes contexts for callers."""

    gateway: Gateway

    async def context(
        self, credentials: Credentials | AuthenticationError | None, request_id: str, host: str | None
    ) -> Context:
        """A fresh context for a client at `host`.

        Credentials that do not hold are kept as the reason, for the fields that need them.
        """
        if credentials is None:
            return Context(self.gateway, request_id, host=host)
        if isinstance(credentials, AuthenticationError):
            return Context(self.gateway, request_id, refused=credentials, host=host)
        try:
            principal = await self.gateway.identity.authenticate(credentials)
        except AuthenticationError as error:
            return Context(self.gateway, request_id, refused=error, host=host)
        except DatabaseUnavailable:
            return Context(self.gateway, request_id, refused=DatabaseDown(), host=host)
        except SQLAlchemyError:
            logger.exception("request %s: the credentials could not be checked", request_id)
            return Context(self.gateway, request_id, refused=InternalError(), host=host)
        return Context(self.gateway, request_id, principal=principal, host=host)
