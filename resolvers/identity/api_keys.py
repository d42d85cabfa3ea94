"""The root fields of API keys."""

from typing import Annotated

import strawberry

from auth.scopes import Scope
from schema.access import requires
from schema.context import Info
from schema.cost import page_of
from schema.identity import (
    ApiKey,
    ApiKeyConnection,
    ApiKeyFilterInput,
    CreateApiKeyInput,
    CreateApiKeyResult,
    CreateApiKeySuccess,
    RevokeApiKeyInput,
    RevokeApiKeyResult,
    RevokeApiKeySuccess,
    RotateApiKeyInput,
    RotateApiKeyResult,
    RotateApiKeySuccess,
    UpdateApiKeyInput,
    UpdateApiKeyResult,
    UpdateApiKeySuccess,
)
from schema.node import DEFAULT_PAGE, MAX_PAGE, page_size, parse_uuid


@strawberry.type
class ApiKeyQuery:
    @strawberry.field(
        description="API keys, newest first: the caller's own, and with USERS_READ those of all users.",
        directives=[page_of(DEFAULT_PAGE)],
    )
    @requires(Scope.KEYS_READ, Scope.USERS_READ)
    async def api_keys(
        self,
        info: Info,
        first: Annotated[
            int | None, strawberry.argument(description=f"How many, 1 to {MAX_PAGE}; null means {DEFAULT_PAGE}.")
        ] = DEFAULT_PAGE,
        after: Annotated[str | None, strawberry.argument(description="A cursor, to get the keys after it.")] = None,
        filter: Annotated[
            ApiKeyFilterInput | None, strawberry.argument(description="Which keys to list; null for all.")
        ] = None,
    ) -> ApiKeyConnection | None:
        size = page_size(first, DEFAULT_PAGE)
        before = None if after is None else parse_uuid(after, "ApiKey", "after")
        wanted = (filter or ApiKeyFilterInput()).to_filter()
        rows, has_more = await info.context.gateway.identity.api_keys.page(info.context.caller, wanted, size, before)
        return ApiKeyConnection.of(rows, has_more=has_more, after=after)


@strawberry.type
class ApiKeyMutation:
    @strawberry.mutation(
        description="Create an API key. Its secret is shown in this response only. Keys of other users and of service "
        "accounts need USERS_WRITE."
    )
    @requires(Scope.KEYS_WRITE, Scope.USERS_WRITE)
    async def create_api_key(
        self, info: Info, input: Annotated[CreateApiKeyInput, strawberry.argument(description="The key to create.")]
    ) -> CreateApiKeyResult | None:
        new = await info.context.gateway.identity.api_keys.create(info.context.caller, input.to_request())
        return CreateApiKeySuccess.of(new)

    @strawberry.mutation(
        description="Change what an API key is for, effective immediately. Keys of others need USERS_WRITE."
    )
    @requires(Scope.KEYS_WRITE, Scope.USERS_WRITE)
    async def update_api_key(
        self, info: Info, input: Annotated[UpdateApiKeyInput, strawberry.argument(description="What to change.")]
    ) -> UpdateApiKeyResult | None:
        row = await info.context.gateway.identity.api_keys.change(
            info.context.caller, parse_uuid(input.id, "ApiKey"), input.to_changes()
        )
        return UpdateApiKeySuccess(api_key=ApiKey.of(row))

    @strawberry.mutation(
        description="Give an API key a new secret. The old one works for a while beside it. Keys of others need "
        "USERS_WRITE."
    )
    @requires(Scope.KEYS_WRITE, Scope.USERS_WRITE)
    async def rotate_api_key(
        self, info: Info, input: Annotated[RotateApiKeyInput, strawberry.argument(description="The key to rotate.")]
    ) -> RotateApiKeyResult | None:
        new = await info.context.gateway.identity.rotations.rotate(
            info.context.caller,
            parse_uuid(input.id, "ApiKey"),
            grace=input.grace,
            idempotency_key=input.idempotency_key,
        )
        return RotateApiKeySuccess.of(new)

    @strawberry.mutation(
        description="Revoke an API key with all its secrets, effective immediately. A key that is already revoked "
        "stays as it is. Keys of others need USERS_WRITE."
    )
    @requires(Scope.KEYS_WRITE, Scope.USERS_WRITE)
    async def revoke_api_key(
        self, info: Info, input: Annotated[RevokeApiKeyInput, strawberry.argument(description="The key to revoke.")]
    ) -> RevokeApiKeyResult | None:
        row = await info.context.gateway.identity.api_keys.revoke(info.context.caller, parse_uuid(input.id, "ApiKey"))
        return RevokeApiKeySuccess(api_key=ApiKey.of(row))
