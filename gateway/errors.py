"""What the gateway refuses, and the stable codes by which clients tell the reasons apart.

GatewayError                 anything below; has a `code` and a message fit for its user
├── Forbidden                the credentials lack a scope
├── InvalidCredentials       wrong username or password (never tells which)
├── AccountLocked            too many wrong passwords, by name or address; `until` says when to come back
├── InvalidInput             a value out of range; `field` is its path in the input
│   └── IdempotencyKeyReused the key stands for another request
├── LimitExceeded            the caller has as many as one may have
├── NotFound                 no such thing, or it is not the caller's
├── ModelNotFound            no backend serves the model
├── Unsupported              the model or its backend cannot do what was asked
├── Overloaded               a queue is full (retryable)
├── ShuttingDown             the gateway takes no new work (retryable)
├── DatabaseDown             the database cannot be reached, or takes no writes (retryable)
├── InternalError            a fault of the gateway's own, told in the log
├── StreamExpired            the stream's text is no longer kept
├── TooMuchText              the texts of one answer are too long together
├── StreamLogUnavailable     the log that the gateways share cannot be reached (retryable)
├── Interrupted              the gateway that ran the generation died (retryable)
└── BackendFailure           a `backends.errors.BackendError`, told in the gateway's codes
"""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum

from backends import errors as backend_errors
from backends.errors import BackendError


class ErrorCode(StrEnum):
    """The reason of a refusal or failure. Values never change their meaning; new ones may come."""

    UNAUTHENTICATED = "UNAUTHENTICATED"
    FORBIDDEN = "FORBIDDEN"
    INVALID_CREDENTIALS = "INVALID_CREDENTIALS"
    ACCOUNT_LOCKED = "ACCOUNT_LOCKED"
    INVALID_INPUT = "INVALID_INPUT"
    NOT_FOUND = "NOT_FOUND"
    MODEL_NOT_FOUND = "MODEL_NOT_FOUND"
    UNSUPPORTED = "UNSUPPORTED"
    OVERLOADED = "OVERLOADED"
    SHUTTING_DOWN = "SHUTTING_DOWN"
    DATABASE_UNAVAILABLE = "DATABASE_UNAVAILABLE"
    STREAM_EXPIRED = "STREAM_EXPIRED"
    STREAM_LOG_UNAVAILABLE = "STREAM_LOG_UNAVAILABLE"
    IDEMPOTENCY_KEY_REUSED = "IDEMPOTENCY_KEY_REUSED"
    INTERRUPTED = "INTERRUPTED"
    CONTEXT_TOO_LONG = "CONTEXT_TOO_LONG"
    MALFORMED_TOOL_CALL = "MALFORMED_TOOL_CALL"
    BACKEND_UNAVAILABLE = "BACKEND_UNAVAILABLE"
    BACKEND_TIMEOUT = "BACKEND_TIMEOUT"
    BACKEND_OVERLOADED = "BACKEND_OVERLOADED"
    BACKEND_REJECTED = "BACKEND_REJECTED"
    BACKEND_FAILED = "BACKEND_FAILED"
    BACKEND_PROTOCOL_ERROR = "BACKEND_PROTOCOL_ERROR"
    BAD_REQUEST = "BAD_REQUEST"
    LIMIT_EXCEEDED = "LIMIT_EXCEEDED"
    TIMEOUT = "TIMEOUT"
    PERSISTED_QUERY_NOT_FOUND = "PERSISTED_QUERY_NOT_FOUND"
    PERSISTED_QUERY_NOT_SUPPORTED = "PERSISTED_QUERY_NOT_SUPPORTED"
    GRAPHQL_PARSE_FAILED = "GRAPHQL_PARSE_FAILED"
    GRAPHQL_VALIDATION_FAILED = "GRAPHQL_VALIDATION_FAILED"
    INTERNAL_ERROR = "INTERNAL_ERROR"


MOST_REPEATED = 80
"""Characters of what a client sent that an error message repeats."""


def cut(text: str) -> str:
    """The beginning of what a client sent, to be repeated in a message."""
    return text if len(text) <= MOST_REPEATED else f"{text[:MOST_REPEATED]}…"


class GatewayError(Exception):
    """The root of the tree."""

    code: ErrorCode = ErrorCode.INTERNAL_ERROR
    retryable = False

    @property
    def message(self) -> str:
        """What a user is told."""
        return str(self)


class Forbidden(GatewayError):
    """The caller is known and may not do this."""

    code = ErrorCode.FORBIDDEN


class InvalidCredentials(GatewayError):
    """A sign-in that failed; the same words whether or not the user exists."""

    code = ErrorCode.INVALID_CREDENTIALS

    def __init__(self) -> None:
        super().__init__("The username or the password is wrong.")


class AccountLocked(GatewayError):
    """Sign-in under this name, or from this address, is closed for a while."""

    code = ErrorCode.ACCOUNT_LOCKED

    def __init__(self, until: datetime) -> None:
        self.until = until
        super().__init__(f"Too many failed sign-ins. Try again after {until:%Y-%m-%d %H:%M:%S} UTC.")


class InvalidInput(GatewayError):
    """A value that the gateway does not take. `field` is its path in the input, in GraphQL's names."""

    code = ErrorCode.INVALID_INPUT

    def __init__(self, field: str, reason: str) -> None:
        self.field = field
        super().__init__(f"{field}: {reason}")


class IdempotencyKeyReused(InvalidInput):
    """Something else was asked under the same key before."""

    code = ErrorCode.IDEMPOTENCY_KEY_REUSED

    def __init__(self) -> None:
        super().__init__("idempotencyKey", "another request was made under this key. Take a new key for a new request.")


class LimitExceeded(GatewayError):
    """The caller has as many of these as one may have; `limit` is how many."""

    code = ErrorCode.LIMIT_EXCEEDED

    def __init__(self, message: str, limit: int) -> None:
        self.limit = limit
        super().__init__(message)


class NotFound(GatewayError):
    """No such thing for this caller."""

    code = ErrorCode.NOT_FOUND


class ModelNotFound(GatewayError):
    """No backend serves a model of this name; `silent` are the backends that could not be asked."""

    code = ErrorCode.MODEL_NOT_FOUND

    def __init__(self, name: str, silent: Sequence[str] = ()) -> None:
        self.name = name
        message = f"There is no model {cut(name)!r}. The query `models` lists those that you may use."
        if silent:
            message += f" Without an answer now: {', '.join(silent)}."
        super().__init__(message)


class Unsupported(GatewayError):
    """The model, or the kind of server behind it, cannot do this."""

    code = ErrorCode.UNSUPPORTED


class Overloaded(GatewayError):
    """There is no place left in a queue."""

    code = ErrorCode.OVERLOADED
    retryable = True


class ShuttingDown(GatewayError):
    """The gateway is stopping."""

    code = ErrorCode.SHUTTING_DOWN
    retryable = True

    def __init__(self) -> None:
        super().__init__("The gateway is shutting down. Ask again in a moment.")


class DatabaseDown(GatewayError):
    """The gateway's database cannot be reached, or takes no writes."""

    code = ErrorCode.DATABASE_UNAVAILABLE
    retryable = True

    def __init__(self) -> None:
        super().__init__("The gateway cannot use its database. Ask again in a moment.")


class InternalError(GatewayError):
    """A fault of the gateway's own, which its log tells more about."""

    def __init__(self) -> None:
        super().__init__("The gateway failed on this request. Its log has the details.")


class StreamExpired(GatewayError):
    """The generation is known, its text is no longer kept."""

    code = ErrorCode.STREAM_EXPIRED

    def __init__(self) -> None:
        super().__init__("The text of this generation is no longer kept; its usage and timings still are.")


class TooMuchText(GatewayError):
    """One answer asks for more text than it may hold."""

    code = ErrorCode.LIMIT_EXCEEDED

    def __init__(self) -> None:
        super().__init__(
            "The texts in this answer are too long together (OLLAGRAPH_MAX_ANSWER_TEXT). Ask for fewer generations at "
            "once, or for their text one by one."
        )


class StreamLogUnavailable(GatewayError):
    """The log that the gateways share does not answer, and this one does not run the generation itself."""

    code = ErrorCode.STREAM_LOG_UNAVAILABLE
    retryable = True

    def __init__(self, *, shared: bool = True) -> None:
        super().__init__(
            "The stream log cannot be reached. Ask again in a moment."
            if shared
            else "Another gateway runs this generation, and the two share no stream log. Ask that gateway, or set "
            "OLLAGRAPH_REDIS_URL for both."
        )


class Interrupted(GatewayError):
    """The gateway that ran a generation is no more."""

    code = ErrorCode.INTERRUPTED
    retryable = True

    def __init__(self) -> None:
        super().__init__("The gateway stopped while this generation was under way.")


class RecordedError(GatewayError):
    """An error that is told again, from the record of how a generation ended."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        self.code = code
        self.retryable = code in _RETRYABLE
        super().__init__(message)


_BACKEND_CODES: dict[type[BackendError], ErrorCode] = {
    backend_errors.BackendUnavailable: ErrorCode.BACKEND_UNAVAILABLE,
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
        super().__init__(str(error))


_RETRYABLE = frozenset(
    {error.code for error in GatewayError.__subclasses__() if error.retryable}
    | {code for error, code in _BACKEND_CODES.items() if error.retryable}
)
