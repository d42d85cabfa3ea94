"""The root fields of signing in."""

from typing import Annotated

import strawberry

from resolvers.identity.costs import HASHES_A_PASSWORD
from resolvers.identity.sessions import usable_cookie
from schema.access import PUBLIC, requires
from schema.context import Info
from schema.cost import FEW, list_of
from schema.identity import LoginInput, LoginResult, LoginSuccess, RefreshTokenIn, SignInOption


@strawberry.type
class SignInQuery:
    @strawberry.field(
        description="The ways to sign in: passwords first, then identity providers that the browser is sent to.",
        directives=[list_of(FEW)],
    )
    @requires(PUBLIC)
    async def sign_in_options(self, info: Info) -> list[SignInOption] | None:
        return [SignInOption.of(option) for option in info.context.gateway.identity.sign_in_options.all()]


@strawberry.type
class SignInMutation:
    @strawberry.mutation(
        description="Sign in with a password: begin a session, and get an access token and a refresh token.",
        directives=[HASHES_A_PASSWORD],
    )
    @requires(PUBLIC)
    async def login(
        self,
        info: Info,
        input: Annotated[LoginInput, strawberry.argument(description="The user name and the password.")],
    ) -> LoginResult | None:
        in_cookie = input.refresh_token_in is RefreshTokenIn.COOKIE
        cookie = usable_cookie(info.context, "refreshTokenIn") if in_cookie else None
        signed_in = await info.context.gateway.identity.sign_ins.sign_in(
            input.username, input.password, info.context.client
        )
        if cookie is not None:
            cookie.keep(signed_in.refresh_token)
        return LoginSuccess.of(signed_in, in_cookie=in_cookie)
