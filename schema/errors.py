"""Errors that a client is expected to handle, as data: members of the mutations' result unions."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

import strawberry
from strawberry.types.field import StrawberryField

from gateway import errors
from gateway.catalog import Capability
from gateway.errors import ErrorCode, GatewayError
from schema.context import Info
from schema.cost import FEW, list_of
from schema.node import global_id


@strawberry.interface(description="Something that was refused, and why. Select it to handle every expected error.")
class UserError:
    message: str = strawberry.field(description="What went wrong and what to do, for a person to read.")
    code: ErrorCode = strawberry.field(description="The reason, for a program to read.")


@strawberry.type(description="The username or the password is wrong; which one is not told.")
class InvalidCredentials(UserError):
    pass


@strawberry.type(
    description="Sign-in under this name or from this address is closed for a while, after too many wrong passwords."
)
class AccountLocked(UserError):
    retry_after_ms: int | None = strawberry.field(description="Milliseconds from now until it opens again.")
    locked_until: datetime = strawberry.field(description="When it opens again.")


@strawberry.type(description="One invalid value.")
class InputIssue:
    path: list[str] = strawberry.field(
        description="Where the value is, within the argument `input`: field names and list indexes, such as "
        '["messages", "0", "content"].'
    )
    message: str = strawberry.field(description="What is wrong with it, for a person to read.")


@strawberry.type(description="Invalid values.")
class InvalidInput(UserError):
    issues: list[InputIssue] = strawberry.field(
        description=f"Each invalid value that was found, at least one and at most {errors.MOST_ISSUES}.",
        directives=[list_of(FEW)],
    )


@strawberry.type(description="The caller has as many of these as one may have.")
class LimitExceeded(UserError):
    limit: int = strawberry.field(description="How many that is.")


@strawberry.type(description="There is no such thing, or it is not the caller's.")
class NotFound(UserError):
    id: strawberry.ID = strawberry.field(description="The id that was asked for.")


@strawberry.type(description="No backend serves a model of this name.")
class ModelNotFound(UserError):
    model_name: str = strawberry.field(description="The name that was asked for.")
    suggestions: list[str] = strawberry.field(
        description="The names of models that are most like it, the likeliest first; at most 3, and empty if none is."
    )


@strawberry.type(description="The model or its backend cannot do what was asked.")
class Unsupported(UserError):
    capability: Capability | None = strawberry.field(
        description="What the model lacks; null if the reason is something else."
    )


@strawberry.type(description="A queue is full.")
class Overloaded(UserError):
    retry_after_ms: int | None = strawberry.field(
        description="Wait this many milliseconds before you ask again; null if that is unknown."
    )


@strawberry.type(description="The gateway is stopping and starts nothing new.")
class ShuttingDown(UserError):
    retry_after_ms: int | None = strawberry.field(
        description="Wait this many milliseconds before you ask again; null if that is unknown."
    )


class _Expected:
    """Turns one kind of exception into its member of the field's union, where the union has it.

    A `strawberry.ExceptionHandler` by its shape.
    """

    def __init__(
        self,
        exception_type: type[GatewayError] | tuple[type[GatewayError], ...],
        error_type: type[UserError],
        details: Callable[[Any], dict[str, object]] = lambda error: {},
    ) -> None:
        self.exception_type = exception_type
        self.error_type = error_type
        self._details = details

    def handle(self, exception: GatewayError, *, field: StrawberryField, info: Info) -> UserError:
        return self.converted(exception)

    def converted(self, exception: GatewayError) -> UserError:
        """Give the exception as data."""
        return self.error_type(message=exception.message, code=exception.code, **self._details(exception))


def _retry(error: GatewayError) -> dict[str, object]:
    return {"retry_after_ms": error.retry_after_ms}


EXPECTED_ERRORS = (
    _Expected(errors.InvalidCredentials, InvalidCredentials),
    _Expected(errors.AccountLocked, AccountLocked, lambda error: _retry(error) | {"locked_until": error.locked_until}),
    _Expected(
        errors.InvalidInput,
        InvalidInput,
        lambda error: {"issues": [InputIssue(path=issue.path, message=issue.message) for issue in error.issues]},
    ),
    _Expected(errors.LimitExceeded, LimitExceeded, lambda error: {"limit": error.limit}),
    _Expected(errors.NotFound, NotFound, lambda error: {"id": global_id(error.kind, error.key)}),
    _Expected(
        errors.ModelNotFound,
        ModelNotFound,
        lambda error: {"model_name": error.name, "suggestions": list(error.suggestions)},
    ),
    _Expected(errors.Unsupported, Unsupported, lambda error: {"capability": error.capability}),
    _Expected(errors.Overloaded, Overloaded, _retry),
    _Expected(errors.ShuttingDown, ShuttingDown, _retry),
)


def refusal(error: GatewayError) -> UserError | None:
    """Give the error as data; None where it is none that a client is expected to handle."""
    for expected in EXPECTED_ERRORS:
        if isinstance(error, expected.exception_type):
            return expected.converted(error)
    return None
