"""Errors that a client is expected to handle, as data: members of the mutations' result unions."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

import strawberry
from strawberry.types.field import StrawberryField

from gateway import errors
from gateway.errors import ErrorCode, GatewayError
from schema.context import Info


@strawberry.interface(description="Something that was refused, and why. Select it to handle every expected error.")
class Error:
    message: str = strawberry.field(description="What went wrong and what to do, for a person to read.")
    code: ErrorCode = strawberry.field(description="The reason, for a program to read.")


@strawberry.type(description="The username or the password is wrong; which one is not told.")
class InvalidCredentials(Error):
    pass


@strawberry.type(
    description="Sign-in under this name or from this address is closed for a while, after too many wrong passwords."
)
class AccountLocked(Error):
    until: datetime = strawberry.field(description="When to try again.")


@strawberry.type(description="A value that is not taken.")
class InvalidInput(Error):
    field: str = strawberry.field(description="The path of the value within the input.")


@strawberry.type(description="The caller has as many of these as one may have.")
class LimitExceeded(Error):
    limit: int = strawberry.field(description="How many that is.")


@strawberry.type(description="There is no such thing, or it is not the caller's.")
class NotFound(Error):
    pass


@strawberry.type(description="No backend serves a model of this name.")
class ModelNotFound(Error):
    model: str = strawberry.field(description="The name that was asked for.")


@strawberry.type(description="The model or its backend cannot do what was asked.")
class Unsupported(Error):
    pass


@strawberry.type(description="There is no place left in a queue, or the gateway is stopping.")
class Overloaded(Error):
    retryable: bool = strawberry.field(description="Whether asking again later may work.")


class _Expected:
    """Turns one kind of exception into its member of the field's union, where the union has it.

    A `strawberry.ExceptionHandler` by its shape.
    """

    def __init__(
        self,
        exception_type: type[GatewayError] | tuple[type[GatewayError], ...],
        error_type: type[Error],
        details: Callable[[Any], dict[str, object]] = lambda error: {},
    ) -> None:
        self.exception_type = exception_type
        self.error_type = error_type
        self._details = details

    def handle(self, exception: GatewayError, *, field: StrawberryField, info: Info) -> Error:
        return self.error_type(message=exception.message, code=exception.code, **self._details(exception))


EXPECTED_ERRORS = (
    _Expected(errors.InvalidCredentials, InvalidCredentials),
    _Expected(errors.AccountLocked, AccountLocked, lambda error: {"until": error.until}),
    _Expected(errors.InvalidInput, InvalidInput, lambda error: {"field": error.field}),
    _Expected(errors.LimitExceeded, LimitExceeded, lambda error: {"limit": error.limit}),
    _Expected(errors.NotFound, NotFound),
    _Expected(errors.ModelNotFound, ModelNotFound, lambda error: {"model": error.name}),
    _Expected(errors.Unsupported, Unsupported),
    _Expected((errors.Overloaded, errors.ShuttingDown), Overloaded, lambda error: {"retryable": error.retryable}),
)
