"""API keys."""

from collections.abc import Sequence
from datetime import datetime
from typing import Self
from uuid import UUID

import strawberry
from strawberry import relay

from auth.principal import ContentPolicy
from auth.scopes import Scope
from db import tables
from gateway.errors import InvalidInput as GatewayInvalidInput
from gateway.identity import KeyFilter
from schema.access import requires
from schema.context import Info
from schema.cost import list_of
from schema.identity.user import User
from schema.limits import ASSUMED_LIMITS_OF_EACH, WHO_MAY_SEE, LimitStatus
from schema.node import Node, global_id, page_info, parse_uuid

LONGEST_SEARCH = 100


@strawberry.type(description="A key that authenticates a program. Its secret is shown once.")
class ApiKey(Node):
    key: strawberry.Private[UUID]
    user_key: strawberry.Private[UUID]
    name: str = strawberry.field(description="The name that its user gave it.")
    prefix: str = strawberry.field(description="The first characters of the secret, to recognize it by.")
    scopes: list[Scope] = strawberry.field(description="What it may do. It never allows more than its user may do.")
    models: list[str] | None = strawberry.field(
        description="Patterns of the models that it may use, such as `llama3*`; null if it is not limited. The groups "
        "of its user limit it, too."
    )
    allowed_origins: list[str] | None = strawberry.field(
        description="The sites whose pages may use it; null if it is not limited. With a list, it is for browsers only."
    )
    allowed_networks: list[str] | None = strawberry.field(
        description="The networks, in CIDR notation, from which it may be used; null if it is not limited."
    )
    content_policy: ContentPolicy | None = strawberry.field(
        description="What the database keeps at most of prompts and answers of its requests; null if it sets no limit."
    )
    created_at: datetime = strawberry.field(description="When it was created.")
    expires_at: datetime | None = strawberry.field(description="When it expires; null if it does not expire.")
    last_used_at: datetime | None = strawberry.field(
        description="When it was last used, with a precision of one minute; null if never."
    )
    last_used_address: str | None = strawberry.field(
        description="The address from which it was last used; null if unknown."
    )
    revoked_at: datetime | None = strawberry.field(description="When it was revoked; null if it was not.")
    rotated_at: datetime | None = strawberry.field(description="When it got its present secret; null if at creation.")
    previous_expires_at: datetime | None = strawberry.field(
        description="When the secret before the last rotation stops working, or stopped; null if there is none."
    )

    @strawberry.field(description="The user who owns the key. Needs PROFILE_READ.")
    @requires(Scope.PROFILE_READ)
    async def user(self, info: Info) -> User | None:
        """Null only for a caller who may not see it."""
        row = await info.context.loaders.visible_users.load(self.user_key)
        return None if row is None else User.of(row)

    @strawberry.field(
        description="How the limits stand that count what is asked for with the key, "
        f"those of its user among them. {WHO_MAY_SEE}",
        directives=[list_of(ASSUMED_LIMITS_OF_EACH)],
    )
    @requires(Scope.USAGE_READ)
    async def limits(self, info: Info) -> list[LimitStatus] | None:
        """Those of a page are read together."""
        return LimitStatus.all(await info.context.loaders.limits_of_api_key.load(self.key))

    @classmethod
    def of(cls, row: tables.ApiKey) -> Self:
        """Give the key of a row. Words in `scopes` that this version does not know are left out: they grant nothing."""
        return cls(
            id=global_id("ApiKey", row.id),
            key=row.id,
            user_key=row.user_id,
            name=row.name,
            prefix=row.prefix,
            scopes=[scope for scope in Scope if scope.value in row.scopes],
            created_at=row.created_at,
            expires_at=row.expires_at,
            models=row.models,
            allowed_origins=row.origins,
            allowed_networks=row.networks,
            content_policy=None if row.content_policy is None else ContentPolicy.read(row.content_policy),
            last_used_at=row.last_used_at,
            last_used_address=row.last_used_address,
            revoked_at=row.revoked_at,
            rotated_at=row.rotated_at,
            previous_expires_at=row.previous_expires_at,
        )


@strawberry.input(
    description="Which API keys to list. A key has to match every field that is set.", name="ApiKeyFilter"
)
class ApiKeyFilterInput:
    user_id: strawberry.ID | None = strawberry.field(
        default=None, description="Keys of this user. Those of others need USERS_READ."
    )
    search: str | None = strawberry.field(
        default=None, description="A part of the name in any case, or the beginning of the secret."
    )
    active: bool | None = strawberry.field(
        default=None, description="True for valid keys, false for those that expired or were revoked."
    )

    def to_filter(self) -> KeyFilter:
        """In the gateway's form. Raises InvalidInput for what can be in no name."""
        if self.search is not None and (len(self.search) > LONGEST_SEARCH or not self.search.isprintable()):
            raise GatewayInvalidInput("filter.search", f"must have at most {LONGEST_SEARCH} printable characters.")
        user_id = None if self.user_id is None else parse_uuid(self.user_id, "User", "filter.userId")
        return KeyFilter(user_id=user_id, search=self.search or None, active=self.active)


@strawberry.type(description="An API key in a page.")
class ApiKeyEdge:
    cursor: str = strawberry.field(description="Pass as `after` to get the items after this one.")
    node: ApiKey = strawberry.field(description="The key.")


@strawberry.type(description="A page of API keys, newest first.")
class ApiKeyConnection:
    edges: list[ApiKeyEdge] = strawberry.field(description="The keys of this page with their cursors.")
    page_info: relay.PageInfo = strawberry.field(description="How to get the next page.")

    @strawberry.field(description="The keys of this page.")
    def nodes(self) -> list[ApiKey]:
        """For those who need no cursors."""
        return [edge.node for edge in self.edges]

    @classmethod
    def of(cls, rows: Sequence[tables.ApiKey], *, has_more: bool, after: str | None) -> Self:
        """Give a page of rows. A cursor is the key's id: UUIDv7 sort by time."""
        edges = [ApiKeyEdge(cursor=global_id("ApiKey", row.id), node=ApiKey.of(row)) for row in rows]
        return cls(
            edges=edges,
            page_info=page_info([edge.cursor for edge in edges], has_more=has_more, after=after),
        )
