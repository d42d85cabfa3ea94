"""Groups."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Self
from uuid import UUID

import strawberry
from strawberry import relay

from auth.scopes import Scope
from db import tables
from gateway.identity import MAX_MEMBERS_AT_ONCE, UNCHANGED, GroupChange, UserFilter
from schema.access import requires
from schema.context import Info
from schema.cost import list_of, page_of
from schema.errors import InvalidInput, LimitExceeded, NotFound
from schema.identity.user import USER_CURSOR, UserConnection
from schema.limits import ASSUMED_LIMITS_OF_EACH, WHO_MAY_SEE, LimitStatus
from schema.node import DEFAULT_PAGE, MAX_PAGE, Node, global_id, page_info, page_size, parse_cursor, parse_uuid

GROUP_CURSOR = "GroupCursor"

PATTERNS = (
    "Patterns of model names, in which `*` stands for any characters, such as `llama3*`; at most 100. Null allows all "
    "models. A user may use what any of their groups allows, and all models if they are in no group."
)


@strawberry.type(description="Users who may use the same models.")
class Group(Node):
    key: strawberry.Private[UUID]
    name: str = strawberry.field(description="The name, unique among all groups.")
    description: str = strawberry.field(description='What the group is for; "" if nothing is said.')
    models: list[str] | None = strawberry.field(
        description="The patterns of the models that the group allows; null if it allows all."
    )
    created_at: datetime = strawberry.field(description="When the group was created.")

    @strawberry.field(description="How many users are in the group. Needs USERS_READ.")
    @requires(Scope.USERS_READ)
    async def member_count(self, info: Info) -> int | None:
        """Those of a page are counted in one statement."""
        return await info.context.loaders.member_counts.load(self.key)

    @strawberry.field(
        description="The users in the group, by user name. Needs USERS_READ.", directives=[page_of(DEFAULT_PAGE)]
    )
    @requires(Scope.USERS_READ)
    async def members(
        self,
        info: Info,
        first: Annotated[
            int | None, strawberry.argument(description=f"How many, 1 to {MAX_PAGE}; null means {DEFAULT_PAGE}.")
        ] = DEFAULT_PAGE,
        after: Annotated[str | None, strawberry.argument(description="A cursor, to get the users after it.")] = None,
    ) -> UserConnection | None:
        """Give a page. Whoever lists many groups asks `memberCount`."""
        size = page_size(first, DEFAULT_PAGE)
        name = None if after is None else parse_cursor(after, USER_CURSOR)
        rows, has_more = await info.context.gateway.identity.accounts.page(UserFilter(group_id=self.key), size, name)
        return UserConnection.of(rows, has_more=has_more, after=after)

    @strawberry.field(
        description="How the limits stand that the group has as a whole; those of its members are theirs. "
        f"{WHO_MAY_SEE}",
        directives=[list_of(ASSUMED_LIMITS_OF_EACH)],
    )
    @requires(Scope.USAGE_READ)
    async def limits(self, info: Info) -> list[LimitStatus] | None:
        """Those of a page are read together."""
        return LimitStatus.all(await info.context.loaders.limits_of_group.load(self.key))

    @classmethod
    def of(cls, row: tables.Group) -> Self:
        """Give the group of a row."""
        return cls(
            id=global_id("Group", row.id),
            key=row.id,
            name=row.name,
            description=row.description,
            models=row.models,
            created_at=row.created_at,
        )


@strawberry.type(description="A group in a page.")
class GroupEdge:
    cursor: str = strawberry.field(description="Pass as `after` to get the items after this one.")
    node: Group = strawberry.field(description="The group.")


@strawberry.type(description="A page of groups, by name.")
class GroupConnection:
    edges: list[GroupEdge] = strawberry.field(description="The groups of this page with their cursors.")
    page_info: relay.PageInfo = strawberry.field(description="How to get the next page.")

    @strawberry.field(description="The groups of this page.")
    def nodes(self) -> list[Group]:
        """For those who need no cursors."""
        return [edge.node for edge in self.edges]

    @classmethod
    def of(cls, rows: Sequence[tables.Group], *, has_more: bool, after: str | None) -> Self:
        """Give a page of rows. A cursor holds the group's name, for that is what they are sorted by."""
        edges = [GroupEdge(cursor=global_id(GROUP_CURSOR, row.name), node=Group.of(row)) for row in rows]
        return cls(
            edges=edges,
            page_info=page_info([edge.cursor for edge in edges], has_more=has_more, after=after),
        )


@strawberry.input(description="A group to create.")
class CreateGroupInput:
    name: str = strawberry.field(description="Its name, 1 to 100 characters.")
    description: str | None = strawberry.field(default="", description="What it is for, up to 200 characters.")
    models: list[str] | None = strawberry.field(default=None, description=PATTERNS)

    def to_group(self) -> GroupChange:
        """In the gateway's form."""
        return GroupChange(self.name, self.description or "", self.models)


@strawberry.type(description="The group was created.")
class CreateGroupSuccess:
    group: Group = strawberry.field(description="The group, without members.")


CreateGroupResult = Annotated[
    CreateGroupSuccess | InvalidInput,
    strawberry.union("CreateGroupResult", description="The result of `createGroup`."),
]


@strawberry.input(description="What to change of a group. What is not given stays as it is.")
class UpdateGroupInput:
    id: strawberry.ID = strawberry.field(description="The group's id.")
    name: str | None = strawberry.field(default=None, description="Its new name; null leaves it.")
    description: str | None = strawberry.field(default=None, description="Its new description; null leaves it.")
    models: list[str] | None = strawberry.field(default=strawberry.UNSET, description=PATTERNS)

    def to_change(self) -> GroupChange:
        """In the gateway's form."""
        return GroupChange(
            UNCHANGED if self.name is None else self.name,
            UNCHANGED if self.description is None else self.description,
            UNCHANGED if self.models is strawberry.UNSET else self.models,
        )


@strawberry.type(description="The group was changed, effective immediately.")
class UpdateGroupSuccess:
    group: Group = strawberry.field(description="The group as it is now.")


UpdateGroupResult = Annotated[
    UpdateGroupSuccess | InvalidInput | NotFound,
    strawberry.union("UpdateGroupResult", description="The result of `updateGroup`."),
]


@strawberry.input(description="A group to delete.")
class DeleteGroupInput:
    id: strawberry.ID = strawberry.field(description="The group's id.")


@strawberry.type(description="The group was deleted. Its members may use what their other groups allow.")
class DeleteGroupSuccess:
    group_id: strawberry.ID = strawberry.field(description="The id that the group had.")


DeleteGroupResult = Annotated[
    DeleteGroupSuccess | InvalidInput | NotFound,
    strawberry.union("DeleteGroupResult", description="The result of `deleteGroup`."),
]


def _users(ids: list[strawberry.ID]) -> list[UUID]:
    return [parse_uuid(id, "User", f"userIds[{place}]") for place, id in enumerate(ids)]


@strawberry.input(description="Users to put into a group.")
class AddGroupMembersInput:
    group_id: strawberry.ID = strawberry.field(description="The group's id.")
    user_ids: list[strawberry.ID] = strawberry.field(description=f"The users' ids, 1 to {MAX_MEMBERS_AT_ONCE}.")

    def users(self) -> list[UUID]:
        """Read the ids. Raises InvalidInput, naming the place of one that is none."""
        return _users(self.user_ids)


@strawberry.input(description="Users to take out of a group.")
class RemoveGroupMembersInput:
    group_id: strawberry.ID = strawberry.field(description="The group's id.")
    user_ids: list[strawberry.ID] = strawberry.field(description=f"The users' ids, 1 to {MAX_MEMBERS_AT_ONCE}.")

    def users(self) -> list[UUID]:
        """Read the ids. Raises InvalidInput, naming the place of one that is none."""
        return _users(self.user_ids)


@strawberry.type(description="The users are in the group.")
class AddGroupMembersSuccess:
    group: Group = strawberry.field(description="The group.")


AddGroupMembersResult = Annotated[
    AddGroupMembersSuccess | InvalidInput | NotFound | LimitExceeded,
    strawberry.union("AddGroupMembersResult", description="The result of `addGroupMembers`."),
]


@strawberry.type(description="The users are not in the group.")
class RemoveGroupMembersSuccess:
    group: Group = strawberry.field(description="The group.")


RemoveGroupMembersResult = Annotated[
    RemoveGroupMembersSuccess | InvalidInput | NotFound,
    strawberry.union("RemoveGroupMembersResult", description="The result of `removeGroupMembers`."),
]
