"""The root fields of sessions."""

from typing import Annotated

import strawberry

from auth.scopes import Scope
from gateway.errors import InvalidInput, SessionEnded
from schema.access import PUBLIC, SIGNED_IN, requires
from schema.context import Context, Info
from schema.identity import (
    LogoutInput,
    LogoutResult,
    LogoutSuccess,
    RefreshSessionInput,
    RefreshSessionResult,
    RefreshSessionSuccess,
    RevokeSessionInput,
    RevokeSessionResult,
    RevokeSessionSuccess,
    Session,
)
from schema.node import parse_uuid
from schema.session_cookie import SessionCookie


def usable_cookie(context: Context, field: str) -> SessionCookie:
    """Give the session cookie. Raises InvalidInput on `field` where there can be none, Forbidden for a foreign page."""
    if context.cookie is None:
        raise InvalidInput(
            field, "the session cookie needs HTTP and one JSON response; use the token in the body here."
        )
    context.cookie.check()
    return context.cookie


@strawberry.type
class SessionMutation:
    @strawberry.mutation(
        description="Exchange a refresh token for the next one and an access token. A refresh token can be used once: "
        "if it is used again later, the whole session is ended. For 10 seconds, as long as the next token is unused, "
        "the same request gives the same refresh token, so that it can be repeated if the response was lost."
    )
    @requires(PUBLIC)
    async def refresh_session(
        self,
        info: Info,
        input: Annotated[RefreshSessionInput, strawberry.argument(description="The refresh token.")],
    ) -> RefreshSessionResult | None:
        cookie = usable_cookie(info.context, "refreshToken") if input.refresh_token is None else None
        token = cookie.sent if cookie else input.refresh_token
        try:
            signed_in = await info.context.gateway.identity.sessions.refresh(token or "", info.context.client)
        except SessionEnded:
            if cookie is not None:
                cookie.clear()
            raise
        if cookie is not None:
            cookie.keep(signed_in.refresh_token)
        return RefreshSessionSuccess.of(signed_in, in_cookie=cookie is not None)

    @strawberry.mutation(
        description="End the caller's session, or all of the caller's sessions: their tokens no longer work, and their "
        "open connections are closed. Needs no scope, but an access token and not an API key."
    )
    @requires(SIGNED_IN)
    async def logout(
        self, info: Info, input: Annotated[LogoutInput, strawberry.argument(description="Which sessions to end.")]
    ) -> LogoutResult | None:
        context = info.context
        origin = None if context.sign_in_cookie is None else context.sign_in_cookie.origin
        logout_url = await context.gateway.identity.sign_outs.sign_out(
            context.caller, origin, everywhere=bool(input.everywhere)
        )
        if context.cookie is not None:
            context.cookie.clear()
        return LogoutSuccess(signed_out=True, logout_url=logout_url)

    @strawberry.mutation(
        description="End one of the caller's sessions; with USERS_WRITE, anybody's. Its open connections are closed "
        "within seconds. A session that ended before stays as it is."
    )
    @requires(Scope.PROFILE_WRITE, Scope.USERS_WRITE)
    async def revoke_session(
        self, info: Info, input: Annotated[RevokeSessionInput, strawberry.argument(description="The session to end.")]
    ) -> RevokeSessionResult | None:
        caller = info.context.caller
        row = await info.context.gateway.identity.sessions.revoke(caller, parse_uuid(input.id, "Session"))
        return RevokeSessionSuccess(session=Session.of(row, caller))
