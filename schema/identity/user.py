"""Users."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Self
from uuid import UUID

import strawberry

from auth.scopes import Scope
from db import tables
from schema.access import requires
from schema.context import Info
from schema.cost import list_of
from schema.node import Node, global_id

if TYPE_CHECKING:
    from schema.identity.api_key import ApiKey
    from schema.identity.session import Session

ASSUMED_API_KEYS = 100
"""Keys that one user is assumed to have: as many as OLLAGRAPH_MAX_API_KEYS_PER_USER allows by default."""

MOST_SESSIONS = 100
"""Sessions that one user may have: as many as OLLAGRAPH_MAX_SESSIONS_PER_USER can allow."""


@strawberry.type(description="A person or a program that can sign in.")
class User(Node):
    key: strawberry.Private[UUID]
    username: str = strawberry.field(description="The name to sign in with, in lower case.")
    role: str = strawberry.field(description="The name of the role, which decides what the user may do.")
    created_at: datetime = strawberry.field(description="When the user was created.")

    @strawberry.field(
        description="The user's API keys, newest first: all valid ones, and the most recent of those that expired "
        "or were revoked. Needs KEYS_READ.",
        directives=[list_of(ASSUMED_API_KEYS)],
    )
    @requires(Scope.KEYS_READ)
    async def api_keys(self, info: Info) -> list[Annotated["ApiKey", strawberry.lazy("schema.identity.api_key")]]:
        """Give a list and not a connection: a user has few keys, and they are wanted whole."""
        from schema.identity.api_key import ApiKey  # which imports this module

        return [ApiKey.of(row) for row in await info.context.loaders.api_keys_of_user.load(self.key)]

    @strawberry.field(
        description="The sessions in which the user is signed in, those used last first. Needs PROFILE_READ.",
        directives=[list_of(MOST_SESSIONS)],
    )
    @requires(Scope.PROFILE_READ)
    async def sessions(self, info: Info) -> list[Annotated["Session", strawberry.lazy("schema.identity.session")]]:
        """Give those that hold; a caller who may not see them gets none."""
        from schema.identity.session import Session  # as above

        context = info.context
        return [Session.of(row, context.caller) for row in await context.loaders.sessions_of_user.load(self.key)]

    @classmethod
    def of(cls, row: tables.User) -> Self:
        """Give the user of a row."""
        return cls(
            id=global_id("User", row.id),
            key=row.id,
            username=row.username,
            role=row.role,
            created_at=row.created_at,
        )
