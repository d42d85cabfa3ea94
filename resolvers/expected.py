"""Which exceptions of the gateway a client is expected to handle, and the data that each becomes."""

from collections.abc import Callable
from typing import Any

from strawberry.types.field import StrawberryField

from gateway import errors
from gateway.errors import GatewayError
from gateway.identity import Conflict as GatewayConflict
from gateway.identity import DeviceSignInDenied as GatewayDeviceSignInDenied
from gateway.identity import DeviceSignInExpired as GatewayDeviceSignInExpired
from gateway.identity import DeviceSignInPending as GatewayDeviceSignInPending
from gateway.identity import DeviceSignInTooFast as GatewayDeviceSignInTooFast
from gateway.identity import ExternalSignInRefused
from gateway.identity import InvalidLink as GatewayInvalidLink
from gateway.limits import LimitReached
from gateway.limits import QuotaExceeded as GatewayQuotaExceeded
from gateway.limits import RateLimited as GatewayRateLimited
from gateway.plugins import GuardFailed
from gateway.plugins import RequestRefused as GatewayRequestRefused
from schema.context import Info
from schema.errors import (
    AccountLocked,
    Conflict,
    DeviceSignInDenied,
    DeviceSignInExpired,
    DeviceSignInPending,
    DeviceSignInTooFast,
    InputIssue,
    InvalidCredentials,
    InvalidInput,
    InvalidLink,
    LimitExceeded,
    ModelNotFound,
    NotFound,
    Overloaded,
    RequestRefused,
    SessionEnded,
    ShuttingDown,
    SignInRefused,
    Unsupported,
    UserError,
)
from schema.limits import LimitStatus, QuotaExceeded, RateLimited
from schema.node import global_id


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


def _limit(error: LimitReached) -> dict[str, object]:
    return _retry(error) | {"limit": LimitStatus.of(error.limit)}


EXPECTED_ERRORS = (
    _Expected(errors.InvalidCredentials, InvalidCredentials),
    _Expected(errors.AccountLocked, AccountLocked, lambda error: _retry(error) | {"locked_until": error.locked_until}),
    _Expected(errors.SessionEnded, SessionEnded),
    _Expected(ExternalSignInRefused, SignInRefused),
    _Expected(GatewayDeviceSignInPending, DeviceSignInPending, _retry),
    _Expected(GatewayDeviceSignInTooFast, DeviceSignInTooFast, _retry),
    _Expected(GatewayDeviceSignInDenied, DeviceSignInDenied),
    _Expected(GatewayDeviceSignInExpired, DeviceSignInExpired),
    _Expected(
        errors.InvalidInput,
        InvalidInput,
        lambda error: {"issues": [InputIssue(path=issue.path, message=issue.message) for issue in error.issues]},
    ),
    _Expected(errors.LimitExceeded, LimitExceeded, lambda error: {"limit": error.limit}),
    _Expected(errors.NotFound, NotFound, lambda error: {"id": global_id(error.kind, error.key)}),
    _Expected(GatewayConflict, Conflict),
    _Expected(GatewayInvalidLink, InvalidLink),
    _Expected(
        errors.ModelNotFound,
        ModelNotFound,
        lambda error: {"model_name": error.name, "suggestions": list(error.suggestions)},
    ),
    _Expected(errors.Unsupported, Unsupported, lambda error: {"capability": error.capability}),
    _Expected(GatewayRateLimited, RateLimited, _limit),
    _Expected(GatewayQuotaExceeded, QuotaExceeded, _limit),
    _Expected((GatewayRequestRefused, GuardFailed), RequestRefused),
    _Expected(errors.Overloaded, Overloaded, _retry),
    _Expected(errors.ShuttingDown, ShuttingDown, _retry),
)


def refusal(error: GatewayError) -> UserError | None:
    """Give the error as data; None where it is none that a client is expected to handle."""
    for expected in EXPECTED_ERRORS:
        if isinstance(error, expected.exception_type):
            return expected.converted(error)
    return None
