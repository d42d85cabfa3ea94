"""Accounts at identity providers with which a user signs in, and linking them."""

from datetime import datetime
from typing import Annotated, Self

import strawberry

from db import tables
from gateway.identity import LinkRequest
from schema.errors import (
    AccountLocked,
    Conflict,
    InvalidCredentials,
    InvalidInput,
    LimitExceeded,
    NotFound,
    Overloaded,
    SessionEnded,
    SignInRefused,
    Unsupported,
)
from schema.identity.user import User


@strawberry.type(description="An account at an identity provider with which a user signs in.")
class ExternalAccount:
    provider: str = strawberry.field(description="The provider's name.")
    label: str = strawberry.field(
        description="What to call the provider; its name if the gateway does not use it any more."
    )
    username: str = strawberry.field(
        description="What the provider calls the person. It may change there; what links the two does not."
    )
    linked_at: datetime = strawberry.field(description="When the account was linked.")
    last_signed_in_at: datetime | None = strawberry.field(
        description="When the user last signed in with it; null if never."
    )

    @classmethod
    def of(cls, row: tables.ExternalAccount, label: str) -> Self:
        """Give the account of a row."""
        return cls(
            provider=row.provider,
            label=label,
            username=row.username,
            linked_at=row.linked_at,
            last_signed_in_at=row.last_signed_in_at,
        )


@strawberry.input(
    description="The account to link. Whoever signed in more than ten minutes ago has to give `currentPassword`."
)
class LinkProviderInput:
    provider: str = strawberry.field(description="The provider's name, as `signInOptions` has it.")
    username: str | None = strawberry.field(
        default=None,
        description="For a provider that verifies passwords: the user name there. Null: the same as here.",
    )
    password: str | None = strawberry.field(
        default=None, description="For a provider that verifies passwords: the password there."
    )
    current_password: str | None = strawberry.field(
        default=None, description="The password with which the caller signs in."
    )
    return_to: str | None = strawberry.field(
        default="/#account",
        description="For a provider that the browser is sent to: where it goes afterwards, a path of the gateway. With "
        "`#link-error=` and a code if the account was not linked.",
    )

    def to_request(self) -> LinkRequest:
        """In the gateway's form."""
        return LinkRequest(
            self.provider,
            self.username,
            self.password,
            self.current_password,
            "/#account" if self.return_to is None else self.return_to,
        )


@strawberry.type(description="The account is linked, or the browser has to go to the provider for it.")
class LinkProviderSuccess:
    url: str | None = strawberry.field(
        description="Where to send this browser, within ten minutes; null if the account is linked already. The answer "
        "sets a cookie by which the browser is known when it comes back: another one cannot finish this."
    )
    user: User | None = strawberry.field(description="The user to whom the account was linked; null if `url` is set.")


LinkProviderResult = Annotated[
    LinkProviderSuccess
    | NotFound
    | InvalidInput
    | InvalidCredentials
    | AccountLocked
    | SignInRefused
    | Conflict
    | SessionEnded
    | Unsupported
    | LimitExceeded
    | Overloaded,
    strawberry.union("LinkProviderResult", description="The result of `linkProvider`."),
]


@strawberry.input(description="The account to unlink.")
class UnlinkProviderInput:
    provider: str = strawberry.field(description="The provider's name.")
    user_id: strawberry.ID | None = strawberry.field(
        default=None, description="Whose account; null: the caller's. Another user's needs USERS_WRITE."
    )


@strawberry.type(description="The user can no longer sign in with this provider.")
class UnlinkProviderSuccess:
    user: User = strawberry.field(description="The user, without this account.")


UnlinkProviderResult = Annotated[
    UnlinkProviderSuccess | NotFound | Conflict | InvalidInput,
    strawberry.union("UnlinkProviderResult", description="The result of `unlinkProvider`."),
]
