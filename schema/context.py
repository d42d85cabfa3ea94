"""What every resolver gets: made anew for each operation, also for each one on a shared WebSocket."""

from dataclasses import dataclass, field
from typing import TypeAlias

import strawberry

from auth.errors import AuthenticationError, MissingCredentials
from auth.principal import Principal
from auth.scopes import Scope
from gateway import Gateway
from gateway.errors import Forbidden, GatewayError
from schema.loaders import Loaders


@dataclass(slots=True)
class Context:
    """One operation: who asks, and what it has loaded. It holds no database session: sibling fields run at once.

    `refused` is why the credentials that were given did not hold, or could not be checked; `host` is the address that
    the client connects from.
    """

    gateway: Gateway
    request_id: str
    principal: Principal | None = None
    refused: AuthenticationError | GatewayError | None = None
    host: str | None = None
    loaders: Loaders = field(init=False)

    def __post_init__(self) -> None:
        self.loaders = Loaders(self.gateway)

    @property
    def caller(self) -> Principal:
        """Who asks. Raises AuthenticationError when nobody is signed in, or why that is not known."""
        if self.principal is None:
            raise self.refused or MissingCredentials()
        return self.principal

    def require(self, scope: Scope) -> Principal:
        """The caller, who may do this. Raises AuthenticationError or Forbidden."""
        caller = self.caller
        if not caller.has(scope):
            raise Forbidden(f"This needs the scope {scope.value}, which these credentials do not have.")
        return caller


Info: TypeAlias = strawberry.Info[Context, None]
