"""Signing in."""

from datetime import datetime
from typing import Annotated, Self

import strawberry

from gateway.identity import SignedIn
from schema.errors import AccountLocked, InvalidCredentials, Overloaded
from schema.identity.user import User


@strawberry.input(description="A user name and a password.")
class LoginInput:
    username: str = strawberry.field(description="The user name, in upper or lower case.")
    password: str = strawberry.field(description="The password.")


@strawberry.type(description="The sign-in succeeded.")
class LoginSuccess:
    access_token: str = strawberry.field(description="A JWT to send as `Authorization: Bearer …`.")
    expires_at: datetime = strawberry.field(description="When the token expires.")
    user: User = strawberry.field(description="The user who signed in.")

    @classmethod
    def of(cls, signed_in: SignedIn) -> Self:
        """Give the token and its user."""
        return cls(
            access_token=signed_in.token.token,
            expires_at=signed_in.token.expires_at,
            user=User.of(signed_in.user),
        )


LoginResult = Annotated[
    LoginSuccess | InvalidCredentials | AccountLocked | Overloaded,
    strawberry.union("LoginResult", description="The result of `login`."),
]
