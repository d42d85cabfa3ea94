"""The root fields of roles."""

from typing import Annotated

import strawberry

from auth.scopes import Scope
from schema.access import requires
from schema.context import Info
from schema.cost import list_of
from schema.identity import (
    ASSUMED_ROLES,
    CreateRoleInput,
    CreateRoleResult,
    CreateRoleSuccess,
    DeleteRoleInput,
    DeleteRoleResult,
    DeleteRoleSuccess,
    Role,
    UpdateRoleInput,
    UpdateRoleResult,
    UpdateRoleSuccess,
)


@strawberry.type
class RoleQuery:
    @strawberry.field(
        description="All roles: the built-in ones, and the others by name.", directives=[list_of(ASSUMED_ROLES)]
    )
    @requires(Scope.USERS_READ)
    async def roles(self, info: Info) -> list[Role] | None:
        return [Role.of(role) for role in await info.context.gateway.identity.roles.all()]


@strawberry.type
class RoleMutation:
    @strawberry.mutation(description="Create a role.")
    @requires(Scope.USERS_WRITE)
    async def create_role(
        self, info: Info, input: Annotated[CreateRoleInput, strawberry.argument(description="The role to create.")]
    ) -> CreateRoleResult | None:
        role = await info.context.gateway.identity.roles.create(
            info.context.caller, input.name, input.description or "", input.scopes
        )
        return CreateRoleSuccess(role=Role.of(role))

    @strawberry.mutation(
        description="Change a role, and so what all who have it may do. Built-in roles stay as they are."
    )
    @requires(Scope.USERS_WRITE)
    async def update_role(
        self, info: Info, input: Annotated[UpdateRoleInput, strawberry.argument(description="What to change.")]
    ) -> UpdateRoleResult | None:
        role = await info.context.gateway.identity.roles.update(
            info.context.caller, input.name, input.description, input.scopes
        )
        return UpdateRoleSuccess(role=Role.of(role))

    @strawberry.mutation(description="Delete a role that no user has.")
    @requires(Scope.USERS_WRITE)
    async def delete_role(
        self, info: Info, input: Annotated[DeleteRoleInput, strawberry.argument(description="The role to delete.")]
    ) -> DeleteRoleResult | None:
        name = await info.context.gateway.identity.roles.delete(info.context.caller, input.name)
        return DeleteRoleSuccess(name=name)
