"""The root fields of API keys."""

from typing import Annotated

import strawberry

from auth.scopes import Scope
from schema.access import requires
from schema.context import Info
from schema.identity import (
    ApiKey,
    CreateApiKeyInput,
    CreateApiKeyResult,
    CreateApiKeySuccess,
    RevokeApiKeyInput,
    RevokeApiKeyResult,
    RevokeApiKeySuccess,
)
from schema.node import parse_uuid


@strawberry.type
class ApiKeyMutation:
    @strawberry.mutation(description="Create an API key. Its secret is shown in this response only.")
    @requires(Scope.KEYS_WRITE)
    async def create_api_key(
        self, info: Info, input: Annotated[CreateApiKeyInput, strawberry.argument(description="The key to create.")]
    ) -> CreateApiKeyResult | None:
        new = await info.context.gateway.identity.api_keys.create(
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
        row = await info.context.gateway.identity.api_keys.revoke(info.context.caller, parse_uuid(input.id, "ApiKey"))
        return RevokeApiKeySuccess(api_key=ApiKey.of(row))
