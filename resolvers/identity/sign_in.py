"""The root fields of signing in."""

from typing import Annotated

import strawberry

from schema.access import PUBLIC, requires
from schema.context import Info
from schema.cost import Cost
from schema.identity import LoginInput, LoginResult, LoginSuccess

HASHES_A_PASSWORD = Cost(weight="50")


@strawberry.type
class SignInMutation:
    @strawberry.mutation(description="Sign in with a password and get an access token.", directives=[HASHES_A_PASSWORD])
    @requires(PUBLIC)
    async def login(
        self,
        info: Info,
        input: Annotated[LoginInput, strawberry.argument(description="The user name and the password.")],
    ) -> LoginResult | None:
        signed_in = await info.context.gateway.identity.sign_ins.sign_in(
            input.username, input.password, info.context.client
        )
        return LoginSuccess.of(signed_in)
