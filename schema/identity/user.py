"""Users."""

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Self
from uuid import UUID

import strawberry
from strawberry import relay

from auth.scopes import Scope
from db import tables
from gateway.identity import UserFilter, UserKind
from schema.access import requires
from schema.context import Info
from schema.cost import FEW, list_of
from schema.limits import ASSUMED_LIMITS_OF_EACH, WHO_MAY_SEE, LimitStatus
from schema.node import Node, global_id, page_info, parse_uuid

if TYPE_CHECKING:
    from schema.identity.api_key import ApiKey
    from schema.identity.external_account import ExternalAccount
    from schema.identity.group import Group
    from schema.identity.session import Session

ASSUMED_API_KEYS = 100
"""Keys that one user is assumed to have: as many as OLLAGRAPH_MAX_API_KEYS_PER_USER allows by default."""

ASSUMED_GROUPS = 40
"""Groups that one user, who may be in 100, is assumed to be in.

So few that a page of users with their groups is within the limit, and so many that groups of members of groups are not.
"""

MOST_SESSIONS = 100
"""Sessions that one user may have: as many as OLLAGRAPH_MAX_SESSIONS_PER_USER can allow."""

USER_CURSOR = "UserCursor"
"""What a cursor is an id of: users are paged by their names."""


@strawberry.type(description="A person or a program that can sign in. Who was deleted remains, without a name.")
class User(Node):
    key: strawberry.Private[UUID]
    row: strawberry.Private[tables.User]
    username: str = strawberry.field(
        description="The name to sign in with, in lower case; `deleted-` and an id for who was deleted."
    )
    kind: UserKind = strawberry.field(description="Whether it is a person or a program.")
    role: str = strawberry.field(description="The name of the role, which decides what the user may do.")
    active: bool = strawberry.field(description="Whether the user may do anything: neither deactivated nor deleted.")
    created_at: datetime = strawberry.field(description="When the user was created.")
    disabled_at: datetime | None = strawberry.field(
        description="Since when the user is deactivated or deleted; null while active."
    )
    deleted_at: datetime | None = strawberry.field(description="When the user was deleted; null if they were not.")

    @strawberry.field(description="What people call the user; null if nothing is set. Needs PROFILE_READ.")
    @requires(Scope.PROFILE_READ)
    async def display_name(self, info: Info) -> str | None:
        """Of the row: whoever sees a user at all sees this."""
        return self.row.display_name

    @strawberry.field(description="The e-mail address; null if none is set. Needs PROFILE_READ.")
    @requires(Scope.PROFILE_READ)
    async def email(self, info: Info) -> str | None:
        """As `displayName`."""
        return self.row.email

    @strawberry.field(
        description="The user's time zone, a name of the IANA database; null if none is set, which means UTC. "
        "Needs PROFILE_READ."
    )
    @requires(Scope.PROFILE_READ)
    async def time_zone(self, info: Info) -> str | None:
        """As `displayName`."""
        return self.row.time_zone

    @strawberry.field(description="When the user last signed in; null if never. Needs PROFILE_READ.")
    @requires(Scope.PROFILE_READ)
    async def last_signed_in_at(self, info: Info) -> datetime | None:
        """As `displayName`."""
        return self.row.last_signed_in_at

    @strawberry.field(
        description="Whether the user has to choose a new password before they can do anything else. "
        "Needs PROFILE_READ."
    )
    @requires(Scope.PROFILE_READ)
    async def must_change_password(self, info: Info) -> bool | None:
        """As `displayName`."""
        return self.row.must_change_password

    @strawberry.field(
        description="The groups that the user is in, by name, at most 100. Needs PROFILE_READ.",
        directives=[list_of(ASSUMED_GROUPS)],
    )
    @requires(Scope.PROFILE_READ)
    async def groups(self, info: Info) -> list[Annotated["Group", strawberry.lazy("schema.identity.group")]]:
        """Those of all users of a page are fetched in one statement."""
        from schema.identity.group import Group  # which imports this module

        return [Group.of(row) for row in await info.context.loaders.groups_of_user.load(self.key)]

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

    @strawberry.field(
        description="The accounts at identity providers with which the user signs in, those linked first before the "
        "others; one at each provider. Needs PROFILE_READ.",
        directives=[list_of(FEW)],
    )
    @requires(Scope.PROFILE_READ)
    async def external_accounts(
        self, info: Info
    ) -> list[Annotated["ExternalAccount", strawberry.lazy("schema.identity.external_account")]]:
        """Give them; a caller who may not see them gets none."""
        from schema.identity.external_account import ExternalAccount  # as above

        links = info.context.gateway.identity.links
        rows = await info.context.loaders.external_accounts_of_user.load(self.key)
        return [ExternalAccount.of(row, links.label(row.provider)) for row in rows]

    @strawberry.field(
        description="How the limits stand that count what the user asks for, "
        f"those of their role and groups among them. {WHO_MAY_SEE}",
        directives=[list_of(ASSUMED_LIMITS_OF_EACH)],
    )
    @requires(Scope.USAGE_READ)
    async def limits(self, info: Info) -> list[LimitStatus] | None:
        """Those of a page are read together."""
        return LimitStatus.all(await info.context.loaders.limits_of_user.load(self.key))

    @classmethod
    def of(cls, row: tables.User) -> Self:
        """Give the user of a row."""
        return cls(
            id=global_id("User", row.id),
            key=row.id,
            row=row,
            username=row.username,
            kind=UserKind(row.kind),
            role=row.role,
            active=row.disabled_at is None,
            created_at=row.created_at,
            disabled_at=row.disabled_at,
            deleted_at=row.deleted_at,
        )


@strawberry.input(description="Which users to list. A user has to match every field that is set.", name="UserFilter")
class UserFilterInput:
    search: str | None = strawberry.field(
        default=None,
        description="Users with this text in their user name, display name or e-mail address, in any case.",
    )
    role: str | None = strawberry.field(default=None, description="Users with this role.")
    group: strawberry.ID | None = strawberry.field(default=None, description="Users in the group with this id.")
    kind: UserKind | None = strawberry.field(default=None, description="Users of this kind.")
    active: bool | None = strawberry.field(
        default=None, description="True for users who are active, false for those who are deactivated."
    )

    def to_filter(self) -> UserFilter:
        """In the gateway's form. Raises InvalidInput."""
        group_id = None if self.group is None else parse_uuid(self.group, "Group", "filter.group")
        return UserFilter(self.search, self.role, group_id, self.kind, self.active)


@strawberry.type(description="A user in a page.")
class UserEdge:
    cursor: str = strawberry.field(description="Pass as `after` to get the items after this one.")
    node: User = strawberry.field(description="The user.")


@strawberry.type(description="A page of users, by user name. Deleted users are not listed.")
class UserConnection:
    edges: list[UserEdge] = strawberry.field(description="The users of this page with their cursors.")
    page_info: relay.PageInfo = strawberry.field(description="How to get the next page.")

    @strawberry.field(description="The users of this page.")
    def nodes(self) -> list[User]:
        """For those who need no cursors."""
        return [edge.node for edge in self.edges]

    @classmethod
    def of(cls, rows: Sequence[tables.User], *, has_more: bool, after: str | None) -> Self:
        """Give a page of rows. A cursor holds the user's name, for that is what they are sorted by."""
        edges = [UserEdge(cursor=global_id(USER_CURSOR, row.username), node=User.of(row)) for row in rows]
        return cls(
            edges=edges,
            page_info=page_info([edge.cursor for edge in edges], has_more=has_more, after=after),
        )
