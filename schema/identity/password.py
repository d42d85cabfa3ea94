"""Passwords, and the one-time links that lead to one."""

from datetime import datetime
from typing import Annotated, Self

import strawberry

from gateway.identity import LinkPurpose, NewLink
from schema.errors import (
    AccountLocked,
    InvalidCredentials,
    InvalidInput,
    InvalidLink,
    NotFound,
    Overloaded,
)
from schema.identity.user import User


@strawberry.type(
    description="A secret with which one person chooses a password, once. The gateway sends no e-mail: give it to them."
)
class OneTimeLink:
    token: str = strawberry.field(
        description="The secret for `setPassword`. It is shown here only: the gateway stores nothing but a hash."
    )
    purpose: LinkPurpose = strawberry.field(description="What it is for.")
    expires_at: datetime = strawberry.field(description="Until when it can be used.")

    @classmethod
    def of(cls, link: NewLink) -> Self:
        """Give a link just made."""
        return cls(token=link.secret, purpose=link.purpose, expires_at=link.expires_at)


@strawberry.input(description="The user who has lost their password.")
class CreatePasswordResetInput:
    user_id: strawberry.ID = strawberry.field(description="The user's id.")


@strawberry.type(description="The user can choose a new password with the link. Until then, the old one still works.")
class CreatePasswordResetSuccess:
    user: User = strawberry.field(description="The user.")
    link: OneTimeLink = strawberry.field(description="The link. Earlier links of the user no longer work.")


CreatePasswordResetResult = Annotated[
    CreatePasswordResetSuccess | InvalidInput | NotFound,
    strawberry.union("CreatePasswordResetResult", description="The result of `createPasswordReset`."),
]


@strawberry.input(description="A one-time link and the password to set.")
class SetPasswordInput:
    token: str = strawberry.field(description="The token of the link.")
    password: str = strawberry.field(description="The password to sign in with from now on.")


@strawberry.type(description="The password was set, the link no longer works, and the user's sessions have ended.")
class SetPasswordSuccess:
    username: str = strawberry.field(description="The user name to sign in with.")


SetPasswordResult = Annotated[
    SetPasswordSuccess | InvalidInput | InvalidLink,
    strawberry.union("SetPasswordResult", description="The result of `setPassword`."),
]


@strawberry.input(description="The caller's current password and the new one.")
class ChangePasswordInput:
    current_password: str = strawberry.field(
        description="The current password. A wrong one counts as a failed sign-in."
    )
    new_password: str = strawberry.field(description="The password to sign in with from now on.")


@strawberry.type(description="The password was changed, and the caller's other sessions have ended.")
class ChangePasswordSuccess:
    user: User = strawberry.field(description="The caller.")


ChangePasswordResult = Annotated[
    ChangePasswordSuccess | InvalidInput | InvalidCredentials | AccountLocked | Overloaded,
    strawberry.union("ChangePasswordResult", description="The result of `changePassword`."),
]
