"""The caller."""

from datetime import datetime
from typing import Annotated, Self

import strawberry

from auth.principal import AuthMethod, Principal
from auth.scopes import Scope
from gateway.limits import Asking
from schema.access import SIGNED_IN, requires
from schema.context import Info
from schema.cost import list_of
from schema.identity.api_key import ApiKey
from schema.identity.session import Session
from schema.identity.user import User
from schema.limits import ASSUMED_LIMITS, LimitStatus


@strawberry.type(description="The caller, and the credentials of this request.")
class Viewer:
    principal: strawberry.Private[Principal]
    method: AuthMethod = strawberry.field(description="The kind of credentials.")
    scopes: list[Scope] = strawberry.field(description="What these credentials allow.")
    expires_at: datetime | None = strawberry.field(
        description="When these credentials expire; null for an API key that does not expire."
    )

    @strawberry.field(description="The user who owns the credentials. Needs PROFILE_READ.")
    @requires(Scope.PROFILE_READ)
    async def user(self, info: Info) -> User | None:
        """Null only for a caller who may not see it, or whose user was deleted a moment ago."""
        caller = info.context.caller
        row = await info.context.loaders.users.load(caller.user_id)
        return None if row is None else User.of(row)

    @strawberry.field(description="The API key that was used; null for an access token. Needs no scope.")
    @requires(SIGNED_IN)
    async def api_key(self, info: Info) -> ApiKey | None:
        """Give the key that authenticated this request."""
        if self.principal.api_key_id is None:
            return None
        row = await info.context.loaders.api_keys.load(self.principal.api_key_id)
        return None if row is None else ApiKey.of(row)

    @strawberry.field(description="The session of the access token; null for an API key. Needs no scope.")
    @requires(SIGNED_IN)
    async def session(self, info: Info) -> Session | None:
        """Give the session that authenticated this request."""
        if self.principal.session_id is None:
            return None
        row = await info.context.loaders.visible_sessions.load(self.principal.session_id)
        return None if row is None else Session.of(row, self.principal)

    @strawberry.field(
        description="How the limits stand that apply to the caller. Those on models and end users are told of the ones "
        "that are given.",
        directives=[list_of(ASSUMED_LIMITS)],
    )
    @requires(Scope.USAGE_READ)
    async def limits(
        self,
        info: Info,
        model: Annotated[str | None, strawberry.argument(description="A model that would be asked.")] = None,
        end_user: Annotated[str | None, strawberry.argument(description="An end user it would be for.")] = None,
    ) -> list[LimitStatus] | None:
        """Tell what a generation would be counted for."""
        statuses = await info.context.gateway.limits.statuses(Asking.of(self.principal, model, end_user))
        return [LimitStatus.of(status) for status in statuses]

    @classmethod
    def of(cls, principal: Principal) -> Self:
        """Describe an authenticated caller."""
        return cls(
            principal=principal,
            method=principal.method,
            scopes=[scope for scope in Scope if principal.has(scope)],
            expires_at=principal.expires_at,
        )
