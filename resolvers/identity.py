"""The root fields of users, sign-in and API keys."""

from typing import Annotated

import strawberry

from auth.scopes import Scope
from schema.access import PUBLIC, requires
from schema.context import Info
from schema.cost import Cost
from schema.identity import (
    ApiKey,
    CreateApiKeyInput,
    CreateApiKeyResult,
    CreateApiKeySuccess,
    LoginInput,
    LoginResult,
    LoginSuccess,
    RevokeApiKeyInput,
    RevokeApiKeyResult,
    RevokeApiKeySuccess,
    User,
    Viewer,
)
from schema.node import parse_uuid

HASHES_A_PASSWORD = Cost(weight="50")


@strawberry.type
class IdentityQuery:
    @strawberry.field(
        description="The caller and the credentials of this request; null for a request without credentials."
    )
    @requires(PUBLIC)
    async def viewer(self, info: Info) -> Viewer | None:
        if info.context.is_nobody:
            return None
        return Viewer.of(info.context.caller)

    @strawberry.field(description="The user who is signed in; null if nobody is.")
    @requires(Scope.PROFILE_READ, null_for_nobody=True)
    async def me(self, info: Info) -> User | None:
        row = await info.context.loaders.users.load(info.context.caller.user_id)
        return None if row is None else User.of(row)


@strawberry.type
class IdentityMutation:
    @strawberry.mutation(description="Sign in with a password and get an access token.", directives=[HASHES_A_PASSWORD])
    @requires(PUBLIC)
    async def login(
        self,
        info: Info,
        input: Annotated[LoginInput, strawberry.argument(description="The user name and the password.")],
    ) -> LoginResult | None:
        signed_in = await info.context.gateway.identity.login(input.username, input.password, info.context.host)
        return LoginSuccess.of(signed_in)

    @strawberry.mutation(description="Create an API key. Its secret is shown in this response only.")
    @requires(Scope.KEYS_WRITE)
    async def create_api_key(
        self, info: Info, input: Annotated[CreateApiKeyInput, strawberry.argument(description="The key to create.")]
    ) -> CreateApiKeyResult | None:
        new = await info.context.gateway.identity.create_api_key(
            info.context.caller, input.name, input.expires_at, input.scopes
        )
        return CreateApiKeySuccess.of(new)

    @strawberry.mutation(
        description="Revoke an API key, effective immediately. A key that is already revoked stays as it is."
    )
    @requires(Scope.KEYS_WRITE)
    async def revoke_api_key(
        self, info: Info, input: Annotated[RevokeApiKeyInput, strawberry.argument(description="The key to revoke.")]
    ) -> RevokeApiKeyResult | None:
        row = await info.context.gateway.identity.revoke_api_key(info.context.caller, parse_uuid(input.id, "ApiKey"))
        return RevokeApiKeySuccess(api_key=ApiKey.of(row))
