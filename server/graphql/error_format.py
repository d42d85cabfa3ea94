"""Errors as they are sent: with a code and the request's id, and without what is nobody's business."""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from graphql import GraphQLError, GraphQLSyntaxError

from auth.errors import AuthenticationError
from db.engine import DatabaseUnavailable
from gateway.errors import DatabaseDown, GatewayError, InternalError, TransportErrorCode
from gateway.request_limits import TooManyRequests

logger = logging.getLogger(__name__)

LONGEST_MESSAGE = 400
"""Characters of a message of GraphQL's own, which may repeat names that were sent."""

_SENT = (
    # "…, found: {…}.", "…, but encountered error '…'; found: 5.", and "Did you mean 'name'. Found: {…}."
    (re.compile(r"(, but encountered error '.*)?([,;.]|(\?)) [Ff]ound: .*", re.DOTALL), r"\3."),
    # "Int cannot represent non-integer value: 5", "Enum 'MessageRole' cannot represent non-string value: 5. …"
    (re.compile(r"( cannot represent [\w -]*value): .*", re.DOTALL), r"\1."),
    (re.compile(r"\bValue '.*' does not exist in ", re.DOTALL), "The value does not exist in "),
    # "Syntax Error: Expected Name, found String \"…\"."
    (re.compile(r"""\b((?:Block)?String) ["'].*["']""", re.DOTALL), r"\1"),
    # "Fields 'a' conflict because they have differing arguments …" never repeat a value
)
"""What GraphQL's own messages repeat of the values that were sent, which may be passwords, and what is left of it."""


class Unexpected(Exception):
    """Stands for an exception that nobody foresaw, its `__cause__`, so that it is never taken for one that was."""


@dataclass(frozen=True, slots=True)
class ErrorFormat:
    """Writes errors. `debug` tells internal errors to clients."""

    debug: bool = False

    def formatted(self, errors: Sequence[GraphQLError], request_id: str) -> list[dict[str, Any]]:
        """Format errors as they stand in a response."""
        return [self._format(error, request_id) for error in errors]

    def _format(self, error: GraphQLError, request_id: str) -> dict[str, Any]:
        cause = _cause(error)
        formatted: dict[str, Any] = {**error.formatted}
        extensions: dict[str, Any] = {"requestId": request_id}
        if isinstance(cause, AuthenticationError):
            extensions |= {"code": TransportErrorCode.UNAUTHENTICATED, "reason": cause.code}
        elif isinstance(cause, DatabaseUnavailable):
            down = DatabaseDown()
            formatted["message"] = down.message
            extensions |= {"code": down.told_as, "retryable": down.retryable}
        elif isinstance(cause, GatewayError):
            extensions |= {"code": cause.told_as, "retryable": cause.retryable}
            if isinstance(cause, TooManyRequests):
                extensions |= {"limit": cause.limit, "retryAfterMs": cause.retry_after_ms}
        elif cause is None or (error.path is None and isinstance(cause, ValueError | TypeError)):
            syntax = isinstance(error, GraphQLSyntaxError)
            extensions["code"] = (
                TransportErrorCode.GRAPHQL_PARSE_FAILED if syntax else TransportErrorCode.GRAPHQL_VALIDATION_FAILED
            )
            formatted["message"] = without_values(error.message)
        else:
            found = cause.__cause__ if isinstance(cause, Unexpected) else cause
            logger.error("request %s: internal error at %s", request_id, error.path, exc_info=found)
            extensions["code"] = TransportErrorCode.INTERNAL_ERROR
            formatted["message"] = str(found) if self.debug else InternalError().message
        formatted["extensions"] = {**extensions, **(error.extensions or {})}
        for it in (error, cause):  # its traceback refers to the operation, which refers to its errors
            if it is not None:
                it.__traceback__ = None
        return formatted


def unexpected(error: Exception) -> GraphQLError:
    """Make an error for what nobody foresaw: it is masked, and logged when it is written."""
    stand_in = Unexpected()
    stand_in.__cause__ = error
    return GraphQLError(InternalError().message, original_error=stand_in)


def raised(error: Exception) -> GraphQLError:
    """Give the error for what an operation raised beside its fields."""
    if isinstance(error, GraphQLError):
        return error
    if isinstance(error, AuthenticationError | GatewayError | DatabaseUnavailable):
        return GraphQLError(str(error), original_error=error)
    return unexpected(error)


def without_values(message: str) -> str:
    """Give a message of GraphQL's own without the values that it repeats, and of bounded length."""
    for pattern, instead in _SENT:
        message = pattern.sub(instead, message)
    return message if len(message) <= LONGEST_MESSAGE else f"{message[:LONGEST_MESSAGE]}…"


def _cause(error: GraphQLError) -> BaseException | None:
    """Give the exception that a resolver raised; None when GraphQL itself found the error."""
    cause: BaseException | None = error
    while isinstance(cause, GraphQLError):
        cause = cause.original_error
    return cause
