"""The root fields of service accounts."""

from typing import Annotated

import strawberry

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
        row = await info.context.gateway.identity.accounts.add(info.context.caller, input.to_user())
        return CreateServiceAccountSuccess(user=User.of(row))
