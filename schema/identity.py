"""Users, their API keys and signing in."""

from datetime import datetime
from typing import Annotated, Self
from uuid import UUID

import strawberry

from auth.principal import AuthMethod, Principal
from auth.scopes import Scope
from db import tables
from gateway.identity import NewApiKey, SignedIn
from schema.access import requires
from schema.context import Info
from schema.cost import list_of
from schema.errors import AccountLocked, InvalidCredentials, InvalidInput, LimitExceeded, NotFound, Overloaded
from schema.node import Node, global_id

ASSUMED_API_KEYS = 100
"""Keys that one user is assumed to have: as many as OLLAGRAPH_MAX_API_KEYS_PER_USER allows by default."""


@strawberry.type(description="A person or a program that can sign in.")
class User(Node):
    key: strawberry.Private[UUID]
    username: str = strawberry.field(description="The name to sign in with, in lower case.")
    is_admin: bool = strawberry.field(description="Whether this user manages the gateway.")
    created_at: datetime = strawberry.field(description="When the user was created.")

    @strawberry.field(
        description="The user's API keys, newest first: all valid ones, and the most recent of those that expired "
        "or were revoked. Needs KEYS_WRITE.",
        directives=[list_of(ASSUMED_API_KEYS)],
    )
    @requires(Scope.KEYS_WRITE)
    async def api_keys(self, info: Info) -> list["ApiKey"]:
        """Give a list and not a connection: a user has few keys, and they are wanted whole."""
        return [ApiKey.of(row) for row in await info.context.loaders.api_keys_of_user.load(self.key)]

    @classmethod
    def of(cls, row: tables.User) -> Self:
        """Give the user of a row."""
        return cls(
            id=global_id("User", row.id),
            key=row.id,
            username=row.username,
            is_admin=row.is_admin,
            created_at=row.created_at,
        )


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
        """Null only for a caller who may not see it. A key without its user cannot be: deleting the user deletes it."""
        row = await info.context.loaders.users.load(self.user_key)
        if row is None:
            raise LookupError(f"the user of API key {self.id} is gone")
        return User.of(row)

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
    async def api_key(self, info: Info) -> ApiKey | None:
        """Give the key that authenticated this request."""
        if self.principal.api_key_id is None:
            return None
        row = await info.context.loaders.api_keys.load(self.principal.api_key_id)
        return None if row is None else ApiKey.of(row)

    @classmethod
    def of(cls, principal: Principal) -> Self:
        """Describe an authenticated caller."""
        return cls(
            principal=principal,
            method=principal.method,
            scopes=[scope for scope in Scope if principal.has(scope)],
            expires_at=principal.expires_at,
        )


@strawberry.input(description="A user name and a password.")
class LoginInput:
    username: str = strawberry.field(description="The user name, in upper or lower case.")
    password: str = strawberry.field(description="The password.")


@strawberry.type(description="The sign-in succeeded.")
class LoginSuccess:
    access_token: str = strawberry.field(description="A JWT to send as `Authorization: Bearer …`.")
    expires_at: datetime = strawberry.field(description="When the token expires.")
    user: User = strawberry.field(description="The user who signed in.")

    @classmethod
    def of(cls, signed_in: SignedIn) -> Self:
        """Give the token and its user."""
        return cls(
            access_token=signed_in.token.token,
            expires_at=signed_in.token.expires_at,
            user=User.of(signed_in.user),
        )


LoginResult = Annotated[
    LoginSuccess | InvalidCredentials | AccountLocked | Overloaded,
    strawberry.union("LoginResult", description="The result of `login`."),
]


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
