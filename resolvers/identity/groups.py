"""The root fields of groups."""

from typing import Annotated

import strawberry

from auth.scopes import Scope
from schema.access import requires
from schema.context import Info
from schema.cost import page_of
from schema.identity import (
    GROUP_CURSOR,
    AddGroupMembersInput,
    AddGroupMembersResult,
    AddGroupMembersSuccess,
    CreateGroupInput,
    CreateGroupResult,
    CreateGroupSuccess,
    DeleteGroupInput,
    DeleteGroupResult,
    DeleteGroupSuccess,
    Group,
    GroupConnection,
    RemoveGroupMembersInput,
    RemoveGroupMembersResult,
    RemoveGroupMembersSuccess,
    UpdateGroupInput,
    UpdateGroupResult,
    UpdateGroupSuccess,
)
from schema.node import DEFAULT_PAGE, MAX_PAGE, global_id, page_size, parse_cursor, parse_uuid


@strawberry.type
class GroupQuery:
    @strawberry.field(
        description="One group; null if there is none with this id, or the caller may not see it. Seeing groups that "
        "one is not in needs USERS_READ, too."
    )
    @requires(Scope.PROFILE_READ)
    async def group(
        self, info: Info, id: Annotated[strawberry.ID, strawberry.argument(description="The group's id.")]
    ) -> Group | None:
        row = await info.context.loaders.visible_groups.load(parse_uuid(id, "Group"))
        return None if row is None else Group.of(row)

    @strawberry.field(description="All groups, by name.", directives=[page_of(DEFAULT_PAGE)])
    @requires(Scope.USERS_READ)
    async def groups(
        self,
        info: Info,
        first: Annotated[
            int | None, strawberry.argument(description=f"How many, 1 to {MAX_PAGE}; null means {DEFAULT_PAGE}.")
        ] = DEFAULT_PAGE,
        after: Annotated[str | None, strawberry.argument(description="A cursor, to get the groups after it.")] = None,
        search: Annotated[
            str | None,
            strawberry.argument(description="Groups with this text in their name or description, in any case."),
        ] = None,
    ) -> GroupConnection | None:
        size = page_size(first, DEFAULT_PAGE)
        name = None if after is None else parse_cursor(after, GROUP_CURSOR)
        rows, has_more = await info.context.gateway.identity.groups.page(search, size, name)
        return GroupConnection.of(rows, has_more=has_more, after=after)


@strawberry.type
class GroupMutation:
    @strawberry.mutation(description="Create a group.")
    @requires(Scope.USERS_WRITE)
    async def create_group(
        self, info: Info, input: Annotated[CreateGroupInput, strawberry.argument(description="The group to create.")]
    ) -> CreateGroupResult | None:
        row = await info.context.gateway.identity.groups.create(info.context.caller, input.to_group())
        return CreateGroupSuccess(group=Group.of(row))

    @strawberry.mutation(
        description="Change a group, and so which models its members may use. Nobody can change a group with a member "
        "who may do more than they."
    )
    @requires(Scope.USERS_WRITE)
    async def update_group(
        self, info: Info, input: Annotated[UpdateGroupInput, strawberry.argument(description="What to change.")]
    ) -> UpdateGroupResult | None:
        group_id = parse_uuid(input.id, "Group")
        row = await info.context.gateway.identity.groups.update(info.context.caller, group_id, input.to_change())
        return UpdateGroupSuccess(group=Group.of(row))

    @strawberry.mutation(
        description="Delete a group. Members who are in no other group may use all models from then on."
    )
    @requires(Scope.USERS_WRITE)
    async def delete_group(
        self, info: Info, input: Annotated[DeleteGroupInput, strawberry.argument(description="The group to delete.")]
    ) -> DeleteGroupResult | None:
        row = await info.context.gateway.identity.groups.delete(info.context.caller, parse_uuid(input.id, "Group"))
        return DeleteGroupSuccess(group_id=global_id("Group", row.id))

    @strawberry.mutation(description="Put users into a group. Who is in it already stays.")
    @requires(Scope.USERS_WRITE)
    async def add_group_members(
        self,
        info: Info,
        input: Annotated[AddGroupMembersInput, strawberry.argument(description="The group and the users.")],
    ) -> AddGroupMembersResult | None:
        group_id = parse_uuid(input.group_id, "Group", "groupId")
        row = await info.context.gateway.identity.groups.add_members(info.context.caller, group_id, input.users())
        return AddGroupMembersSuccess(group=Group.of(row))

    @strawberry.mutation(description="Take users out of a group. Whoever is in no group afterwards may use all models.")
    @requires(Scope.USERS_WRITE)
    async def remove_group_members(
        self,
        info: Info,
        input: Annotated[RemoveGroupMembersInput, strawberry.argument(description="The group and the users.")],
    ) -> RemoveGroupMembersResult | None:
        group_id = parse_uuid(input.group_id, "Group", "groupId")
        row = await info.context.gateway.identity.groups.remove_members(info.context.caller, group_id, input.users())
        return RemoveGroupMembersSuccess(group=Group.of(row))
