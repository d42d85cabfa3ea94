"""API keys."""

from datetime import datetime
from typing import Annotated, Self
from uuid import UUID

import strawberry

from auth.scopes import Scope
from db import tables
from gateway.identity import NewApiKey
from schema.access import requires
from schema.context import Info
from schema.errors import InvalidInput, LimitExceeded, NotFound
from schema.identity.user import User
from schema.node import Node, global_id


@strawberry.type(description="A key that authenticates a program. Its secret is shown once, when the key is created.")
class ApiKey(Node):
    user_key: strawberry.Private[UUID]
    name: str = strawberry.field(description="The name that its user gave it.")
    prefix: str = strawberry.field(description="The first characters of the secret, to recognize it by.")
    scopes: list[Scope] = strawberry.field(description="What it may do. It never allows more than its user may do.")
    created_at: datetime = strawberry.field(description="When it was created.")
    expires_at: datetime | None = strawberry.field(description="When it expires; null if it does not expire.")
    last_used_at: datetime | None = strawberry.field(
        description="When it was last used, with a precision of one minute; null if never."
    )
    revoked_at: datetime | None = strawberry.field(description="When it was revoked; null if it was not.")

    @strawberry.field(description="The user who owns the key. Needs PROFILE_READ.")
    @requires(Scope.PROFILE_READ)
    async def user(self, info: Info) -> User | None:
        """Null only for a caller who may not see it."""
        row = await info.context.loaders.visible_users.load(self.user_key)
        return None if row is None else User.of(row)

    @classmethod
    def of(cls, row: tables.ApiKey) -> Self:
        """Give the key of a row. Words in `scopes` that this version does not know are left out: they grant nothing."""
        return cls(
            id=global_id("ApiKey", row.id),
            user_key=row.user_id,
            name=row.name,
            prefix=row.prefix,
            scopes=[scope for scope in Scope if scope.value in row.scopes],
            created_at=row.created_at,
            expires_at=row.expires_at,
            last_used_at=row.last_used_at,
            revoked_at=row.revoked_at,
        )


@strawberry.input(description="A key to create.")
class CreateApiKeyInput:
    name: str = strawberry.field(description="Its name, 1 to 100 characters.")
    expires_at: datetime | None = strawberry.field(
        default=None,
        description="When it expires. Null: never, or together with the key that creates it. A key cannot create "
        "one that outlives it.",
    )
    scopes: list[Scope] | None = strawberry.field(
        default=None,
        description="What it may do; null for everything an app needs, which does not include creating keys.",
    )


@strawberry.type(description="The key was created.")
class CreateApiKeySuccess:
    api_key: ApiKey = strawberry.field(description="The key.")
    secret: str = strawberry.field(
        description="The secret. It is shown here only: the gateway stores nothing but a hash."
    )

    @classmethod
    def of(cls, new: NewApiKey) -> Self:
        """Give the key and its secret."""
        return cls(api_key=ApiKey.of(new.key), secret=new.secret)


CreateApiKeyResult = Annotated[
    CreateApiKeySuccess | InvalidInput | LimitExceeded,
    strawberry.union("CreateApiKeyResult", description="The result of `createApiKey`."),
]


@strawberry.input(description="A key to revoke.")
class RevokeApiKeyInput:
    id: strawberry.ID = strawberry.field(description="The key's id.")


@strawberry.type(description="The key no longer works.")
class RevokeApiKeySuccess:
    api_key: ApiKey = strawberry.field(description="The key, with `revokedAt`.")


RevokeApiKeyResult = Annotated[
    RevokeApiKeySuccess | NotFound | InvalidInput,
    strawberry.union("RevokeApiKeyResult", description="The result of `revokeApiKey`."),
]
