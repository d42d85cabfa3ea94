"""How a generation failed, in the gateway's codes: by its model server, or as it stands on record."""

from math import ceil

from backends import errors as backend_errors
from backends.errors import BackendError
from gateway import errors
from gateway.codes import ErrorCode
from gateway.errors import LONGEST_RETRY_MS, GatewayError


class RecordedError(GatewayError):
    """An error that is told again, from the record of how a generation ended."""

    def __init__(self, code: ErrorCode, message: str, retry_after_ms: int | None = None) -> None:
        self.code = code
        self.retryable = code in _RETRYABLE
        self.retry_after_ms = retry_after_ms
        super().__init__(message)


_BACKEND_CODES: dict[type[BackendError], ErrorCode] = {
    backend_errors.BackendUnavailable: ErrorCode.BACKEND_UNAVAILABLE,
    backend_errors.BackendResting: ErrorCode.BACKEND_UNAVAILABLE,
    backend_errors.BackendTimeout: ErrorCode.BACKEND_TIMEOUT,
    backend_errors.BackendOverloaded: ErrorCode.BACKEND_OVERLOADED,
    backend_errors.BackendModelNotFound: ErrorCode.MODEL_NOT_FOUND,
    backend_errors.BackendContextTooLong: ErrorCode.CONTEXT_TOO_LONG,
    backend_errors.MalformedToolCall: ErrorCode.MALFORMED_TOOL_CALL,
    backend_errors.BackendRejected: ErrorCode.BACKEND_REJECTED,
    backend_errors.BackendUnsupported: ErrorCode.UNSUPPORTED,
    backend_errors.BackendFailed: ErrorCode.BACKEND_FAILED,
    backend_errors.BackendProtocolError: ErrorCode.BACKEND_PROTOCOL_ERROR,
}


class BackendFailure(GatewayError):
    """A backend's failure in the gateway's words."""

    def __init__(self, error: BackendError) -> None:
        self.code = _BACKEND_CODES.get(type(error), ErrorCode.BACKEND_FAILED)
        self.retryable = error.retryable
        if error.retry_after is not None:
            self.retry_after_ms = max(0, min(ceil(error.retry_after * 1000), LONGEST_RETRY_MS))
        super().__init__(str(error))


_RETRYABLE = frozenset(
    {
        error.code
        for error in vars(errors).values()
        if isinstance(error, type)
        and issubclass(error, GatewayError)
        and error.retryable
        and error.transport_code is None
    }
    | {code for error, code in _BACKEND_CODES.items() if error.retryable}
)
