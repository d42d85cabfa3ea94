"""The root fields of accounts at identity providers."""

from typing import Annotated

import strawberry

from auth.scopes import Scope
from gateway.identity import BrowserHere, LinkedBy
from resolvers.identity.costs import HASHES_A_PASSWORD
from schema.access import requires
from schema.context import Info
from schema.identity import (
    LinkProviderInput,
    LinkProviderResult,
    LinkProviderSuccess,
    UnlinkProviderInput,
    UnlinkProviderResult,
    UnlinkProviderSuccess,
    User,
)
from schema.node import parse_uuid


@strawberry.type
class ExternalAccountMutation:
    @strawberry.mutation(
        description="Link an account at an identity provider to the caller, who can sign in with it from then on. It "
        "is linked at once if the provider verifies passwords; to any other the browser has to go first. Needs an "
        "access token and not an API key, and a sign-in of the last ten minutes or the password.",
        directives=[HASHES_A_PASSWORD],
    )
    @requires(Scope.PROFILE_WRITE)
    async def link_provider(
        self,
        info: Info,
        input: Annotated[LinkProviderInput, strawberry.argument(description="The account to link.")],
    ) -> LinkProviderResult | None:
        context, cookie = info.context, info.context.sign_in_cookie
        if context.cookie is not None:
            context.cookie.check()
        browser = None if cookie is None else BrowserHere(cookie.origin, cookie.sent)
        linked = await context.gateway.identity.linking.link(
            context.caller, input.to_request(), browser, context.client
        )
        if isinstance(linked, LinkedBy):
            return LinkProviderSuccess(url=None, user=User.of(linked.user))
        if cookie is not None:
            cookie.keep(linked.browser)
        return LinkProviderSuccess(url=linked.url, user=None)

    @strawberry.mutation(
        description="Unlink an account at an identity provider from the caller; with USERS_WRITE, from anybody. The "
        "sessions that began there end, except for this one. The last way to sign in stays."
    )
    @requires(Scope.PROFILE_WRITE, Scope.USERS_WRITE)
    async def unlink_provider(
        self,
        info: Info,
        input: Annotated[UnlinkProviderInput, strawberry.argument(description="The account to unlink.")],
    ) -> UnlinkProviderResult | None:
        user_id = None if input.user_id is None else parse_uuid(input.user_id, "User", "userId")
        user = await info.context.gateway.identity.links.unlink(info.context.caller, user_id, input.provider)
        return UnlinkProviderSuccess(user=User.of(user))
