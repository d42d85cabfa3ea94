"""The root fields of service accounts."""

from typing import Annotated

import strawberry

from auth.roles import BuiltInRole
from auth.scopes import Scope
from schema.access import requires
from schema.context import Info
from schema.identity import (
    CreateServiceAccountInput,
    CreateServiceAccountResult,
    CreateServiceAccountSuccess,
    User,
)


@strawberry.type
class ServiceAccountMutation:
    @strawberry.mutation(
        description="Create a service account: a user for programs, with API keys and without a password."
    )
    @requires(Scope.USERS_WRITE)
    async def create_service_account(
        self,
        info: Info,
        input: Annotated[CreateServiceAccountInput, strawberry.argument(description="The account to create.")],
    ) -> CreateServiceAccountResult | None:
        row = await info.context.gateway.identity.service_accounts.create(
            info.context.caller, input.username, role=input.role or BuiltInRole.USER, display_name=input.display_name
        )
        return CreateServiceAccountSuccess(user=User.of(row))
