"""Signing in."""

from datetime import datetime
from typing import Annotated, Self

import strawberry

from gateway import identity
from gateway.identity import SignedIn, SignInKind
from schema.errors import AccountLocked, InvalidCredentials, InvalidInput, Overloaded, SignInRefused
from schema.identity.session import RefreshTokenIn, Session
from schema.identity.user import User


@strawberry.type(description="A way to sign in.")
class SignInOption:
    name: str = strawberry.field(description="The provider's name; `password` for passwords of the gateway itself.")
    label: str = strawberry.field(description="What to call it on a form.")
    kind: SignInKind = strawberry.field(description="How a person proves who they are.")
    start_url: str | None = strawberry.field(
        description="Where to send the browser, a path of the gateway; `?returnTo=/…` says where it goes afterwards. "
        "Null for passwords: use `login`."
    )

    @classmethod
    def of(cls, option: identity.SignInOption) -> Self:
        """Give an option."""
        return cls(name=option.name, label=option.label, kind=option.kind, start_url=option.start_path)


@strawberry.input(
    description="A user name and a password, of the gateway or of an identity provider such as a directory."
)
class LoginInput:
    username: str = strawberry.field(description="The user name, in upper or lower case.")
    password: str = strawberry.field(description="The password.")
    refresh_token_in: RefreshTokenIn | None = strawberry.field(
        default=RefreshTokenIn.BODY, description="Where the refresh token is to be kept."
    )


@strawberry.type(description="The sign-in succeeded.")
class LoginSuccess:
    access_token: str = strawberry.field(description="A JWT to send as `Authorization: Bearer …`.")
    expires_at: datetime = strawberry.field(description="When the access token expires.")
    refresh_token: str | None = strawberry.field(
        description="What `refreshSession` takes, once, for the next access token; null if it is in the cookie."
    )
    refresh_expires_at: datetime = strawberry.field(description="When the refresh token expires, and the session ends.")
    user: User = strawberry.field(description="The user who signed in.")
    session: Session = strawberry.field(description="The session that began.")

    @classmethod
    def of(cls, signed_in: SignedIn, *, in_cookie: bool) -> Self:
        """Give the tokens and their user; the refresh token only where it is not in the cookie."""
        return cls(
            access_token=signed_in.token.token,
            expires_at=signed_in.token.expires_at,
            refresh_token=None if in_cookie else signed_in.refresh_token.token,
            refresh_expires_at=signed_in.refresh_token.expires_at,
            session=Session.of(signed_in.session, current=True),
            user=User.of(signed_in.user),
        )


LoginResult = Annotated[
    LoginSuccess | InvalidCredentials | AccountLocked | SignInRefused | InvalidInput | Overloaded,
    strawberry.union("LoginResult", description="The result of `login`."),
]
