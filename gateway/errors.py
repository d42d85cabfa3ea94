"""What the gateway refuses, and the stable codes by which clients tell the reasons apart.

GatewayError                 anything below; has a `code` and a message fit for its user
├── Forbidden                the credentials lack a scope
├── InvalidCredentials       wrong username or password (never tells which)
├── AccountLocked            too many wrong passwords, by name or address; `locked_until` says when to come back
├── SessionEnded             the refresh token leads to no session that holds
├── InvalidInput             values that are refused; `issues` tells of each
│   ├── IdempotencyKeyReused the key stands for another request
│   └── UnknownMediaType     the file is of no type that a model takes
├── LimitExceeded            the caller has as many as one may have
│   ├── BlobTooLarge         one file is too large
│   └── BlobQuotaExceeded    the caller's files are too large together
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
└── BackendFailure, RecordedError   how a generation failed (`gateway.failures`)
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from math import ceil
from uuid import UUID

from backends.protocol import Capability
from db.clock import now
from gateway.codes import ErrorCode, TransportErrorCode

MOST_ISSUES = 100
"""Refused values of one request that are told of."""

MOST_TOLD = 3
"""Refused values that an error's message repeats; `issues` holds the rest too."""

LONGEST_RETRY_MS = 2**31 - 1
"""What an Int of GraphQL holds. A model server may ask for any pause."""

RETRY_AFTER_SECONDS = 1
"""The pause asked of whoever finds the gateway full or stopping. Nobody knows how long that lasts."""

MOST_REPEATED = 80
"""Characters of what a client sent that an error message repeats."""


def cut(text: str) -> str:
    """Give the beginning of what a client sent, to be repeated in a message."""
    return text if len(text) <= MOST_REPEATED else f"{text[:MOST_REPEATED]}…"


class GatewayError(Exception):
    """The root of the tree."""

    code: ErrorCode = ErrorCode.INTERNAL_ERROR
    transport_code: TransportErrorCode | None = None
    """Of what is never data: its code at the top level of an answer."""
    retryable = False
    retry_after_ms: int | None = None
    """After how many milliseconds to ask again, where that is known or asked for."""

    @property
    def message(self) -> str:
        """What a user is told."""
        return str(self)

    @property
    def told_as(self) -> TransportErrorCode:
        """The code of this error at the top level of an answer, where it is not data."""
        return self.transport_code or _AT_THE_TOP.get(self.code, TransportErrorCode.INTERNAL_ERROR)


_AT_THE_TOP = {
    ErrorCode.INVALID_INPUT: TransportErrorCode.INVALID_INPUT,
    ErrorCode.NOT_FOUND: TransportErrorCode.NOT_FOUND,
    ErrorCode.LIMIT_EXCEEDED: TransportErrorCode.LIMIT_EXCEEDED,
    ErrorCode.OVERLOADED: TransportErrorCode.OVERLOADED,
    ErrorCode.DATABASE_UNAVAILABLE: TransportErrorCode.DATABASE_UNAVAILABLE,
}


class Forbidden(GatewayError):
    """The caller is known and may not do this. `recorded`: the audit log has been told."""

    recorded = False
    transport_code = TransportErrorCode.FORBIDDEN


class InvalidCredentials(GatewayError):
    """A sign-in that failed; the same words whether or not the user exists."""

    code = ErrorCode.INVALID_CREDENTIALS

    def __init__(self) -> None:
        super().__init__("The user name or the password is wrong.")


class AccountLocked(GatewayError):
    """Sign-in under this name, or from this address, is closed for a while: there were too many of what `told` says."""

    code = ErrorCode.ACCOUNT_LOCKED

    def __init__(self, locked_until: datetime, told: str = "failed sign-ins") -> None:
        self.locked_until = locked_until
        self.retry_after_ms = max(0, ceil((locked_until - now()).total_seconds() * 1000))
        super().__init__(f"Too many {told}. Try again after {locked_until:%Y-%m-%d %H:%M:%S} UTC.")


class SessionEnded(GatewayError):
    """A refresh token that leads on to nothing: unknown, used before, or of a session that is over."""

    code = ErrorCode.SESSION_ENDED

    def __init__(
        self, message: str = "The session has ended, or the refresh token is not valid. Sign in again."
    ) -> None:
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class InputIssue:
    """One value that is refused. `field` is its place in the input, in GraphQL's names: `messages[0].content`."""

    field: str
    message: str

    @property
    def path(self) -> list[str]:
        """The names and the indexes of lists that lead to the value."""
        return [step for step in _STEPS.split(self.field) if step]


_STEPS = re.compile(r"[.\[\]]+")


class InvalidInput(GatewayError):
    """Values that the gateway does not take: one, or with `of` all that were found."""

    code = ErrorCode.INVALID_INPUT

    def __init__(self, field: str, reason: str, *others: InputIssue) -> None:
        self.issues = [InputIssue(field, reason), *others]
        told = [f"{issue.field}: {issue.message}" for issue in self.issues[:MOST_TOLD]]
        if len(self.issues) > MOST_TOLD:
            told.append(f"Invalid values in total: {len(self.issues)} values.")
        super().__init__(" ".join(told))

    @classmethod
    def of(cls, issues: Sequence[InputIssue]) -> "InvalidInput":
        """Make the refusal of several values. `issues` holds at least one."""
        first, *others = issues
        return InvalidInput(first.field, first.message, *others)

    @property
    def field(self) -> str:
        """The place of the first value."""
        return self.issues[0].field


class InputIssues:
    """Gathers the refusals of one request, so that its user is told of all of them at once."""

    def __init__(self) -> None:
        self._issues: list[InputIssue] = []

    def add(self, field: str, reason: str) -> None:
        """Refuse one value."""
        if len(self._issues) < MOST_ISSUES:
            self._issues.append(InputIssue(field, reason))

    def check(self) -> None:
        """Raise InvalidInput where anything was refused."""
        if self._issues:
            raise InvalidInput.of(self._issues)


class IdempotencyKeyReused(InvalidInput):
    """Something else was asked under the same key before."""

    code = ErrorCode.IDEMPOTENCY_KEY_REUSED

    def __init__(self) -> None:
        super().__init__(
            "idempotencyKey", "this key was used with a different request. Use a new key for a new request."
        )


class UnknownMediaType(InvalidInput):
    """The bytes of a file are of no type that a model takes."""

    transport_code = TransportErrorCode.UNKNOWN_MEDIA_TYPE

    def __init__(self) -> None:
        super().__init__(
            "body", "must be a PNG, JPEG, GIF, WebP, BMP, TIFF, AVIF, WAV, MP3, Ogg, FLAC or PDF, or text in UTF-8."
        )


class LimitExceeded(GatewayError):
    """The caller has as many of these as one may have; `limit` is how many."""

    code = ErrorCode.LIMIT_EXCEEDED

    def __init__(self, message: str, limit: int) -> None:
        self.limit = limit
        super().__init__(message)


class BlobTooLarge(LimitExceeded):
    """A file has more bytes than one may have."""

    transport_code = TransportErrorCode.BLOB_TOO_LARGE

    def __init__(self, limit: int) -> None:
        super().__init__(f"A blob may have at most {limit:,} bytes (OLLAGRAPH_BLOB_MAX_SIZE).", limit)


class BlobQuotaExceeded(LimitExceeded):
    """A user's files would have more bytes together than they may have."""

    transport_code = TransportErrorCode.BLOB_QUOTA_EXCEEDED

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"Your blobs may have at most {limit:,} bytes together (OLLAGRAPH_BLOB_QUOTA). Delete one that is not "
            "needed, or wait until one expires.",
            limit,
        )


class NotFound(GatewayError):
    """No such thing for this caller. `kind` and `key` tell what was asked for."""

    code = ErrorCode.NOT_FOUND

    def __init__(self, message: str, kind: str, key: UUID | str) -> None:
        self.kind = kind
        self.key = key
        super().__init__(message)


class ModelNotFound(GatewayError):
    """No backend serves a model of this name.

    `silent` are the backends that could not be asked, and `suggestions` the listed names that are most like it.
    """

    code = ErrorCode.MODEL_NOT_FOUND

    def __init__(self, name: str, silent: Sequence[str] = (), suggestions: Sequence[str] = ()) -> None:
        self.name = name
        self.suggestions = suggestions
        message = f"There is no model {cut(name)!r}. The query `models` lists those that you may use."
        if silent:
            message += f" These backends do not answer now: {', '.join(silent)}."
        super().__init__(message)


class Unsupported(GatewayError):
    """The model, or the kind of server behind it, cannot do this. `capability` is what it lacks, where that is told."""

    code = ErrorCode.UNSUPPORTED

    def __init__(self, message: str, capability: Capability | None = None) -> None:
        self.capability = capability
        super().__init__(message)


class Overloaded(GatewayError):
    """There is no place left in a queue."""

    code = ErrorCode.OVERLOADED
    retryable = True
    retry_after_ms = RETRY_AFTER_SECONDS * 1000


class ShuttingDown(GatewayError):
    """The gateway is stopping."""

    code = ErrorCode.SHUTTING_DOWN
    retryable = True
    retry_after_ms = RETRY_AFTER_SECONDS * 1000

    def __init__(self) -> None:
        super().__init__("The gateway is shutting down. Try again in a moment.")


class DatabaseDown(GatewayError):
    """The gateway's database cannot be reached, or takes no writes."""

    code = ErrorCode.DATABASE_UNAVAILABLE
    retryable = True

    def __init__(self) -> None:
        super().__init__("The gateway cannot use its database. Try again in a moment.")


class InternalError(GatewayError):
    """A fault of the gateway's own, which its log tells more about."""

    def __init__(self) -> None:
        super().__init__("The gateway failed on this request. Its log has the details.")


class StreamExpired(GatewayError):
    """The generation is known, its text is no longer kept."""

    transport_code = TransportErrorCode.STREAM_EXPIRED

    def __init__(self) -> None:
        super().__init__("The text of this generation is no longer kept; its usage and timings still are.")


class TooMuchText(GatewayError):
    """One answer asks for more text than it may hold."""

    code = ErrorCode.LIMIT_EXCEEDED

    def __init__(self) -> None:
        super().__init__(
            "The texts in this response are too long in total (OLLAGRAPH_MAX_ANSWER_TEXT). Request fewer generations "
            "at once, or their texts one by one."
        )


class StreamLogUnavailable(GatewayError):
    """The log that the gateways share does not answer, and this one does not run the generation itself."""

    transport_code = TransportErrorCode.STREAM_LOG_UNAVAILABLE
    retryable = True

    def __init__(self, *, shared: bool = True) -> None:
        super().__init__(
            "The stream log cannot be reached. Try again in a moment."
            if shared
            else "Another gateway runs this generation, and the two share no stream log. Ask that gateway, or set "
            "OLLAGRAPH_REDIS_URL for both."
        )


class Interrupted(GatewayError):
    """The gateway that ran a generation is no more."""

    code = ErrorCode.INTERRUPTED
    retryable = True

    def __init__(self) -> None:
        super().__init__("The gateway stopped while this generation was running.")
