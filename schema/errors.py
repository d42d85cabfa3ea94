"""Errors that a client is expected to handle, as data: members of the mutations' result unions."""

from datetime import datetime
from typing import Self

import strawberry

from gateway import errors
from gateway.catalog import Capability
from gateway.errors import ErrorCode, GatewayError
from gateway.streams import Failed
from schema.cost import FEW, list_of


@strawberry.interface(description="An expected error. Select this interface to handle every expected error of a field.")
class UserError:
    message: str = strawberry.field(description="What went wrong and what to do, for people.")
    code: ErrorCode = strawberry.field(description="The reason, for programs.")


@strawberry.type(description="The user name or the password is wrong. The response does not say which.")
class InvalidCredentials(UserError):
    pass


@strawberry.type(
    description="Sign-in with this name or from this address is locked for a while, after too many wrong passwords or "
    "codes, or too many devices that began to sign in."
)
class AccountLocked(UserError):
    retry_after_ms: int | None = strawberry.field(description="Milliseconds until the lock ends.")
    locked_until: datetime = strawberry.field(description="When the lock ends.")


@strawberry.type(
    description="The refresh token is unknown, expired or was used before, or its session was ended. Sign in again."
)
class SessionEnded(UserError):
    pass


@strawberry.type(
    description="The password is right, but the identity provider or a rule of the gateway keeps this person out. "
    "`message` says why."
)
class SignInRefused(UserError):
    pass


@strawberry.type(description="Nobody has approved or denied the device yet.")
class DeviceSignInPending(UserError):
    retry_after_ms: int = strawberry.field(description="How many milliseconds to wait before the next call, at least.")


@strawberry.type(description="The device calls too often. Its interval is longer from now on, up to a minute.")
class DeviceSignInTooFast(UserError):
    retry_after_ms: int = strawberry.field(description="How many milliseconds to wait before the next call, at least.")


@strawberry.type(description="The person denied the device, or may not sign in any more.")
class DeviceSignInDenied(UserError):
    pass


@strawberry.type(description="The device code has expired, was used, or never existed. Start again.")
class DeviceSignInExpired(UserError):
    pass


@strawberry.type(description="One invalid value.")
class InputIssue:
    path: list[str] = strawberry.field(
        description="Where the value is, within the argument `input`: field names and list indexes, such as "
        '["messages", "0", "content"].'
    )
    message: str = strawberry.field(description="What is wrong with it, for people.")


@strawberry.type(description="Invalid values.")
class InvalidInput(UserError):
    issues: list[InputIssue] = strawberry.field(
        description=f"The invalid values, at least one and at most {errors.MOST_ISSUES}.",
        directives=[list_of(FEW)],
    )


@strawberry.type(description="The caller already has the allowed number of these.")
class LimitExceeded(UserError):
    limit: int = strawberry.field(description="The allowed number.")


@strawberry.type(description="It does not exist, or it does not belong to the caller.")
class NotFound(UserError):
    id: strawberry.ID = strawberry.field(description="The requested id.")


@strawberry.type(description="Something else stands against the change; `code` and `message` say what.")
class Conflict(UserError):
    pass


@strawberry.type(description="The one-time link was used before, has expired, or never existed.")
class InvalidLink(UserError):
    pass


@strawberry.type(description="No backend serves a model with this name.")
class ModelNotFound(UserError):
    model_name: str = strawberry.field(description="The requested name.")
    suggestions: list[str] = strawberry.field(
        description="The most similar names of models, at most 3, the best match first."
    )


@strawberry.type(description="The model or its backend does not support what was requested.")
class Unsupported(UserError):
    capability: Capability | None = strawberry.field(
        description="The capability that the model lacks; null if the reason is another one."
    )


@strawberry.type(
    description="A plugin of the gateway refuses the request (REQUEST_REFUSED), or one that has to check it failed "
    "(GUARD_FAILED)."
)
class RequestRefused(UserError):
    pass


@strawberry.type(description="A queue is full, or an identity provider cannot be reached.")
class Overloaded(UserError):
    retry_after_ms: int | None = strawberry.field(
        description="How many milliseconds to wait before trying again; null if unknown."
    )


@strawberry.type(description="The gateway is stopping and starts nothing new.")
class ShuttingDown(UserError):
    retry_after_ms: int | None = strawberry.field(
        description="How many milliseconds to wait before trying again; null if unknown."
    )


@strawberry.type(description="Why a generation failed.")
class GenerationError:
    code: ErrorCode = strawberry.field(description="The reason, for programs.")
    message: str = strawberry.field(description="The reason, for people.")
    retryable: bool = strawberry.field(description="Whether the same request may succeed later.")
    retry_after_ms: int | None = strawberry.field(
        description="How many milliseconds after the failure to try again; null if unknown."
    )

    @classmethod
    def of(cls, error: GatewayError | Failed) -> Self:
        """Give the failure that a row or an event tells of."""
        return cls(
            code=error.code, message=error.message, retryable=error.retryable, retry_after_ms=error.retry_after_ms
        )
