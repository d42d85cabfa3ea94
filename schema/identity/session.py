"""Sessions: sign-ins that last."""

from datetime import datetime
from enum import Enum
from typing import Annotated, Self

import strawberry

from auth.principal import Principal
from db import tables
from gateway.identity import SignedIn
from schema.errors import InvalidInput, NotFound, SessionEnded, Unsupported
from schema.node import Node, global_id


@strawberry.type(description="A sign-in on one device, from `login` until `logout`, or until it expires.")
class Session(Node):
    client: str = strawberry.field(
        description="The `User-Agent` of the client that signed in, or the name that a device gave."
    )
    address: str = strawberry.field(description="The network address from which the session was used last.")
    provider: str = strawberry.field(
        description="Who checked the identity: `password` for a password of the gateway, `device` for a device that "
        "the user approved, or the identity provider."
    )
    created_at: datetime = strawberry.field(description="When the user signed in.")
    last_used_at: datetime = strawberry.field(
        description="When the session was last used, with a precision of one minute."
    )
    expires_at: datetime = strawberry.field(
        description="When the session ends if it is not refreshed before; each `refreshSession` moves it."
    )
    revoked_at: datetime | None = strawberry.field(description="When the session was ended; null if it was not.")
    current: bool = strawberry.field(description="Whether it is the session of this request.")

    @classmethod
    def of(cls, row: tables.Session, principal: Principal | None = None, *, current: bool = False) -> Self:
        """Give the session of a row, as the caller sees it."""
        return cls(
            id=global_id("Session", row.id),
            client=row.client,
            address=row.address,
            provider=row.provider,
            created_at=row.created_at,
            last_used_at=row.last_used_at,
            expires_at=row.expires_at,
            revoked_at=row.revoked_at,
            current=current or (principal is not None and principal.session_id == row.id),
        )


@strawberry.enum(description="Where a refresh token is kept.")
class RefreshTokenIn(Enum):
    BODY = strawberry.enum_value("BODY", description="In the response, for the client to keep.")
    COOKIE = strawberry.enum_value(
        "COOKIE",
        description="In an `HttpOnly` cookie, for pages in a browser: no script can read it. Needs one JSON response "
        "over HTTP, and a page of the gateway's own site.",
    )


@strawberry.input(description="The refresh token to exchange.")
class RefreshSessionInput:
    refresh_token: str | None = strawberry.field(
        default=None,
        description="The refresh token. Null: the one in the cookie, and the next one goes into the cookie, too.",
    )


@strawberry.type(description="The session goes on.")
class RefreshSessionSuccess:
    access_token: str = strawberry.field(description="A JWT to send as `Authorization: Bearer …`.")
    expires_at: datetime = strawberry.field(description="When the access token expires.")
    refresh_token: str | None = strawberry.field(
        description="The next refresh token; the one that was sent holds no longer. Null if it is in the cookie."
    )
    refresh_expires_at: datetime = strawberry.field(description="When the refresh token expires, and the session ends.")
    session: Session = strawberry.field(description="The session.")

    @classmethod
    def of(cls, signed_in: SignedIn, *, in_cookie: bool) -> Self:
        """Give the new tokens; the refresh token only where it is not in the cookie."""
        return cls(
            access_token=signed_in.token.token,
            expires_at=signed_in.token.expires_at,
            refresh_token=None if in_cookie else signed_in.refresh_token.token,
            refresh_expires_at=signed_in.refresh_token.expires_at,
            session=Session.of(signed_in.session, current=True),
        )


RefreshSessionResult = Annotated[
    RefreshSessionSuccess | SessionEnded | InvalidInput,
    strawberry.union("RefreshSessionResult", description="The result of `refreshSession`."),
]


@strawberry.input(description="The sessions to end.")
class LogoutInput:
    everywhere: bool | None = strawberry.field(
        default=False, description="Whether to end all of the caller's sessions, and not only this one."
    )


@strawberry.type(description="The caller is signed out.")
class LogoutSuccess:
    signed_out: bool = strawberry.field(description="Always true.")
    logout_url: str | None = strawberry.field(
        description="Where to send the browser to sign out at the identity provider, too, from where it comes back to "
        "the start page. Null for a session that did not begin at such a provider, if the provider has no such place "
        "or cannot be reached, and over a WebSocket."
    )


LogoutResult = Annotated[
    LogoutSuccess | Unsupported,
    strawberry.union("LogoutResult", description="The result of `logout`."),
]


@strawberry.input(description="A session to end.")
class RevokeSessionInput:
    id: strawberry.ID = strawberry.field(description="The session's id.")


@strawberry.type(description="The session has ended.")
class RevokeSessionSuccess:
    session: Session = strawberry.field(description="The session, with `revokedAt`.")


RevokeSessionResult = Annotated[
    RevokeSessionSuccess | NotFound | InvalidInput,
    strawberry.union("RevokeSessionResult", description="The result of `revokeSession`."),
]
