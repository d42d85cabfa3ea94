"""Roles."""

from typing import Annotated, Self

import strawberry

from auth.roles import RoleScopes
from auth.scopes import Scope
from schema.errors import Conflict, InvalidInput, LimitExceeded

ASSUMED_ROLES = 20
"""Roles that a gateway is assumed to have: the built-in ones and some more, of 100 at most."""


@strawberry.type(description="A name for what users may do.")
class Role:
    name: str = strawberry.field(description="The name.")
    description: str = strawberry.field(description='What it is for; "" if nothing is said.')
    scopes: list[Scope] = strawberry.field(description="What it allows.")
    built_in: bool = strawberry.field(description="Whether it is always there and cannot be changed.")

    @classmethod
    def of(cls, role: RoleScopes) -> Self:
        """Give a role of the gateway."""
        scopes = [scope for scope in Scope if scope in role.scopes]
        return cls(name=role.name, description=role.description, scopes=scopes, built_in=role.built_in)


@strawberry.input(description="A role to create.")
class CreateRoleInput:
    name: str = strawberry.field(
        description="Its name: 1 to 64 lower-case letters, digits, hyphens and underscores, the first one a letter."
    )
    description: str | None = strawberry.field(default="", description="What it is for, up to 200 characters.")
    scopes: list[Scope] = strawberry.field(
        description="What it allows, at least one scope, and none that the caller lacks."
    )


@strawberry.type(description="The role was created.")
class CreateRoleSuccess:
    role: Role = strawberry.field(description="The role.")


CreateRoleResult = Annotated[
    CreateRoleSuccess | InvalidInput | LimitExceeded,
    strawberry.union("CreateRoleResult", description="The result of `createRole`."),
]


@strawberry.input(description="What to change of a role. What is null stays as it is.")
class UpdateRoleInput:
    name: str = strawberry.field(description="The role's name, which cannot be changed.")
    description: str | None = strawberry.field(default=None, description="Its new description.")
    scopes: list[Scope] | None = strawberry.field(
        default=None, description="What it allows from now on, to all who have it."
    )


@strawberry.type(description="The role was changed, effective immediately.")
class UpdateRoleSuccess:
    role: Role = strawberry.field(description="The role as it is now.")


UpdateRoleResult = Annotated[
    UpdateRoleSuccess | InvalidInput,
    strawberry.union("UpdateRoleResult", description="The result of `updateRole`."),
]


@strawberry.input(description="A role to delete.")
class DeleteRoleInput:
    name: str = strawberry.field(description="The role's name. Users must not have it any more.")


@strawberry.type(description="The role was deleted.")
class DeleteRoleSuccess:
    name: str = strawberry.field(description="The name that it had.")


DeleteRoleResult = Annotated[
    DeleteRoleSuccess | InvalidInput | Conflict,
    strawberry.union("DeleteRoleResult", description="The result of `deleteRole`."),
]
