"""The root fields of passwords."""

from typing import Annotated

import strawberry

from auth.scopes import Scope
from resolvers.identity.costs import HASHES_A_PASSWORD
from schema.access import PUBLIC, requires
from schema.context import Info
from schema.identity import (
    ChangePasswordInput,
    ChangePasswordResult,
    ChangePasswordSuccess,
    CreatePasswordResetInput,
    CreatePasswordResetResult,
    CreatePasswordResetSuccess,
    OneTimeLink,
    SetPasswordInput,
    SetPasswordResult,
    SetPasswordSuccess,
    User,
)
from schema.node import parse_uuid


@strawberry.type
class PasswordMutation:
    @strawberry.mutation(
        description="Change the caller's own password. The caller's other sessions end.", directives=[HASHES_A_PASSWORD]
    )
    @requires(Scope.PROFILE_WRITE)
    async def change_password(
        self,
        info: Info,
        input: Annotated[ChangePasswordInput, strawberry.argument(description="The current and the new password.")],
    ) -> ChangePasswordResult | None:
        user = await info.context.gateway.identity.passwords.change(
            info.context.caller, input.current_password, input.new_password, info.context.client
        )
        return ChangePasswordSuccess(user=User.of(user))

    @strawberry.mutation(
        description="Set a password with the one-time link of an invitation or a reset. Needs no credentials.",
        directives=[HASHES_A_PASSWORD],
    )
    @requires(PUBLIC)
    async def set_password(
        self, info: Info, input: Annotated[SetPasswordInput, strawberry.argument(description="The link's token.")]
    ) -> SetPasswordResult | None:
        user = await info.context.gateway.identity.passwords.set_by_link(input.token, input.password)
        return SetPasswordSuccess(username=user.username)

    @strawberry.mutation(
        description="Create a one-time link with which another user chooses a new password. The gateway sends no "
        "e-mail: give the link to them."
    )
    @requires(Scope.USERS_WRITE)
    async def create_password_reset(
        self,
        info: Info,
        input: Annotated[CreatePasswordResetInput, strawberry.argument(description="The user who lost a password.")],
    ) -> CreatePasswordResetResult | None:
        user_id = parse_uuid(input.user_id, "User", "userId")
        user, link = await info.context.gateway.identity.passwords.create_reset(info.context.caller, user_id)
        return CreatePasswordResetSuccess(user=User.of(user), link=OneTimeLink.of(link))
