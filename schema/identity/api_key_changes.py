"""What to do with API keys, and what comes of it."""

from datetime import datetime, timedelta
from typing import Annotated, Literal, Self, TypeVar

import strawberry

from auth.key_limits import MAX_PLACES
from auth.model_access import MAX_PATTERNS
from auth.principal import ContentPolicy
from auth.scopes import Scope
from gateway.identity import (
    DEFAULT_GRACE,
    MAX_GRACE,
    UNCHANGED,
    KeyChanges,
    KeyRequest,
    NewApiKey,
    Unchanged,
)
from schema.errors import InvalidInput, LimitExceeded, NotFound
from schema.identity.api_key import ApiKey
from schema.node import parse_uuid

_T = TypeVar("_T")

MODELS_TOLD = (
    f"Patterns of the models that it may use, such as `llama3*`, 1 to {MAX_PATTERNS}; null for all models of its user."
)
ORIGINS_TOLD = (
    f"The sites whose pages may use it, such as `https://app.example`, 1 to {MAX_PLACES}; null for no limit. With a "
    "list, only browsers can use it. It opens no CORS: that is OLLAGRAPH_CORS_ORIGINS."
)
NETWORKS_TOLD = f"The addresses and networks from which it may be used, 1 to {MAX_PLACES}; null for no limit."

CONTENT_TOLD = (
    "What the database keeps at most of prompts and answers of its requests, whatever the setting "
    "OLLAGRAPH_CONTENT_POLICY allows; null for no limit."
)

GRACE = DEFAULT_GRACE // timedelta(seconds=1)
MOST_GRACE = MAX_GRACE // timedelta(seconds=1)


@strawberry.input(
    description="A key to create. A key cannot create one that allows more than itself or outlives it: where a limit "
    "is null, it passes on its own."
)
class CreateApiKeyInput:
    name: str = strawberry.field(description="Its name, 1 to 100 characters.")
    user_id: strawberry.ID | None = strawberry.field(
        default=None,
        description="The user or the service account who will own it; null for the caller. For others, USERS_WRITE is "
        "needed, and the key has no more scopes than its owner and its creator.",
    )
    expires_at: datetime | None = strawberry.field(
        default=None,
        description="When it expires. Null: never, or together with the key that creates it.",
    )
    scopes: list[Scope] | None = strawberry.field(
        default=None,
        description="What it may do; null for everything an app needs, which does not include creating keys.",
    )
    models: list[str] | None = strawberry.field(default=None, description=MODELS_TOLD)
    allowed_origins: list[str] | None = strawberry.field(default=None, description=ORIGINS_TOLD)
    allowed_networks: list[str] | None = strawberry.field(default=None, description=NETWORKS_TOLD)
    content_policy: ContentPolicy | None = strawberry.field(default=None, description=CONTENT_TOLD)

    def to_request(self) -> KeyRequest:
        """In the gateway's form. Raises InvalidInput for an id that is none."""
        return KeyRequest(
            name=self.name,
            user_id=None if self.user_id is None else parse_uuid(self.user_id, "User", "userId"),
            scopes=self.scopes,
            models=self.models,
            origins=self.allowed_origins,
            networks=self.allowed_networks,
            content_policy=self.content_policy,
            expires_at=self.expires_at,
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
    CreateApiKeySuccess | InvalidInput | LimitExceeded | NotFound,
    strawberry.union("CreateApiKeyResult", description="The result of `createApiKey`."),
]


@strawberry.input(
    description="What to change of a key. A field that is not given stays as it is; a null lifts the limit. A key can "
    "only change keys that allow no more than itself."
)
class UpdateApiKeyInput:
    id: strawberry.ID = strawberry.field(description="The key's id.")
    name: str | None = strawberry.field(
        default=strawberry.UNSET, description="A new name, 1 to 100 characters. Null changes nothing."
    )
    scopes: list[Scope] | None = strawberry.field(
        default=strawberry.UNSET, description="All that it may do from now on. Null changes nothing."
    )
    models: list[str] | None = strawberry.field(default=strawberry.UNSET, description=MODELS_TOLD)
    allowed_origins: list[str] | None = strawberry.field(default=strawberry.UNSET, description=ORIGINS_TOLD)
    allowed_networks: list[str] | None = strawberry.field(default=strawberry.UNSET, description=NETWORKS_TOLD)
    content_policy: ContentPolicy | None = strawberry.field(default=strawberry.UNSET, description=CONTENT_TOLD)
    expires_at: datetime | None = strawberry.field(
        default=strawberry.UNSET, description="When it expires; null if it shall not expire."
    )

    def to_changes(self) -> KeyChanges:
        """In the gateway's form."""
        return KeyChanges(
            name=UNCHANGED if self.name is None else _given(self.name),
            scopes=UNCHANGED if self.scopes is None else _given(self.scopes),
            models=_given(self.models),
            origins=_given(self.allowed_origins),
            networks=_given(self.allowed_networks),
            content_policy=_given(self.content_policy),
            expires_at=_given(self.expires_at),
        )


@strawberry.type(description="The key was changed, effective immediately.")
class UpdateApiKeySuccess:
    api_key: ApiKey = strawberry.field(description="The key.")


UpdateApiKeyResult = Annotated[
    UpdateApiKeySuccess | NotFound | InvalidInput,
    strawberry.union("UpdateApiKeyResult", description="The result of `updateApiKey`."),
]


@strawberry.input(description="A key that gets a new secret.")
class RotateApiKeyInput:
    id: strawberry.ID = strawberry.field(description="The key's id, which stays the same.")
    grace_seconds: int | None = strawberry.field(
        default=None,
        description=f"How long the old secret works beside the new one, 0 to {MOST_GRACE}; null for {GRACE}. 0 ends it "
        "at once, with any secret before. While an old secret works, only a rotation with 0 is accepted.",
    )
    idempotency_key: str | None = strawberry.field(
        default=None,
        description="1 to 255 characters that you choose for this rotation. Sent again with the same key, it is the "
        "same rotation and gives the same secret, for as long as the old one works and at least for 10 minutes. "
        "Without one, a secret that does not arrive is lost.",
    )

    @property
    def grace(self) -> timedelta:
        """How long the old secret works."""
        return DEFAULT_GRACE if self.grace_seconds is None else timedelta(seconds=self.grace_seconds)


@strawberry.type(description="The key has a new secret.")
class RotateApiKeySuccess:
    api_key: ApiKey = strawberry.field(description="The key, with the `prefix` of its new secret.")
    secret: str = strawberry.field(description="The new secret. Store it: the gateway keeps nothing but a hash.")

    @classmethod
    def of(cls, new: NewApiKey) -> Self:
        """Give the key and its secret."""
        return cls(api_key=ApiKey.of(new.key), secret=new.secret)


RotateApiKeyResult = Annotated[
    RotateApiKeySuccess | NotFound | InvalidInput,
    strawberry.union("RotateApiKeyResult", description="The result of `rotateApiKey`."),
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


def _given(value: _T) -> _T | Literal[Unchanged.UNCHANGED]:
    """Give a value of an input, or that it was not given."""
    return UNCHANGED if value is strawberry.UNSET else value
