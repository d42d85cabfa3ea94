"""Running GraphQL requests: parse, validate, execute, and tell errors in the form in which they are sent.

The phases are called one by one on graphql-core, and not through `strawberry.Schema.execute`, because transports
must tell them apart: a request error has no `data` and is answered with 400, a field error stands beside data.
"""

import logging
from collections import OrderedDict
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, cast

import anyio
import graphql
import strawberry
from graphql import (
    DocumentNode,
    ExecutionResult,
    GraphQLError,
    GraphQLSyntaxError,
    NoSchemaIntrospectionCustomRule,
    OperationDefinitionNode,
    OperationType,
    parse,
    specified_rules,
    validate,
)
from strawberry.execution.is_awaitable import optimized_is_awaitable

from auth.errors import AuthenticationError
from db.engine import DatabaseUnavailable
from gateway.errors import DatabaseDown, ErrorCode, GatewayError
from schema.context import Context
from server.compiled_events import CompiledEventExecutor
from server.cost import operation_cost
from server.limits import DocumentLimits, check_limits, fragments_of, limit_exceeded, root_fields, too_costly
from server.persisted import PersistedDocuments
from server.requests import GraphQLRequest

logger = logging.getLogger(__name__)

# graphql-core's own annotations leave type variables open, which strict checking does not let through
_execute = cast("Callable[..., Awaitable[ExecutionResult] | ExecutionResult]", graphql.execute)  # pyright: ignore[reportUnknownMemberType]
_Stream = ExecutionResult | AsyncGenerator[ExecutionResult, None]
_subscribe = cast("Callable[..., Awaitable[_Stream] | _Stream]", graphql.subscribe)  # pyright: ignore[reportUnknownMemberType]

Response = dict[str, Any]
"""A response in JSON types: `data`, `errors` and `extensions` (GraphQL specification, section 7.1)."""

MAX_VALIDATION_ERRORS = 5
MAX_CACHED_DOCUMENTS = 500


class RequestError(Exception):
    """The request was refused before anything ran: a response without `data`."""

    def __init__(self, errors: Sequence[GraphQLError]) -> None:
        self.errors = errors
        super().__init__(errors[0].message)


@dataclass(frozen=True, slots=True)
class Operation:
    """A request that is parsed, valid and knows its operation.

    `cost` is the most that it can come to; `generates` is whether it waits for a model's whole answer.
    """

    request: GraphQLRequest
    document: DocumentNode
    type: OperationType
    cost: int
    generates: bool


@dataclass(frozen=True, slots=True)
class _Document:
    """A valid document, and what was found of its operations, by their names: costs of those without variables only."""

    document: DocumentNode
    costs: dict[str | None, int] = field(default_factory=dict[str | None, int])
    generates: dict[str | None, bool] = field(default_factory=dict[str | None, bool])


class Executor:
    """Executes requests against the schema. `debug` tells internal errors to clients."""

    def __init__(
        self,
        schema: strawberry.Schema,
        limits: DocumentLimits,
        persisted: PersistedDocuments,
        *,
        query_timeout: float,
        introspection: bool,
        suggestions: bool,
        debug: bool,
    ) -> None:
        self._schema = schema._schema  # pyright: ignore[reportPrivateUsage] - Strawberry has no other way to it
        self._limits = limits
        self._persisted = persisted
        self._query_timeout = query_timeout
        self._debug = debug
        self._hide_suggestions = not suggestions
        self._documents: OrderedDict[str, _Document] = OrderedDict()
        self._rules = [*specified_rules] if introspection else [*specified_rules, NoSchemaIntrospectionCustomRule]

    def prepare(self, request: GraphQLRequest) -> Operation:
        """Parse, validate and choose the operation. Raises RequestError."""
        try:
            text = self._persisted.text(request)
        except GraphQLError as error:
            raise RequestError([error]) from error
        known = self._document(text)
        self._persisted.keep(request)
        name = request.operation_name
        chosen = _chosen(known.document, name)
        cost = known.costs.get(name)
        if cost is None:
            cost = self._cost(known.document, chosen, request)
            known.generates[name] = "generate" in root_fields(known.document, chosen)
            if not chosen.variable_definitions:
                known.costs[name] = cost
        if cost > self._limits.cost:
            raise RequestError([too_costly(cost, self._limits.cost)])
        return Operation(request, known.document, chosen.operation, cost, known.generates[name])

    def _cost(self, document: DocumentNode, operation: OperationDefinitionNode, request: GraphQLRequest) -> int:
        return operation_cost(self._schema, operation, fragments_of(document), request.variables)

    def _document(self, query: str) -> _Document:
        """The valid document of a query text. Those used last are kept: an application has few, and sends them often.

        Only valid ones are kept, so that every error is found and told anew.
        """
        known = self._documents.get(query)
        if known is not None:
            self._documents.move_to_end(query)
            return known
        known = self._documents[query] = _Document(self._checked(query))
        if len(self._documents) > MAX_CACHED_DOCUMENTS:
            self._documents.popitem(last=False)
        return known

    def _checked(self, query: str) -> DocumentNode:
        """Parse, measure and validate, in the order of what they cost."""
        try:
            if len(query) > self._limits.length:
                raise RequestError([limit_exceeded("characters", self._limits.length)])
            document = _parse(query, self._limits)
            check_limits(document, self._limits)
            errors = validate(
                self._schema,
                document,
                self._rules,
                max_errors=MAX_VALIDATION_ERRORS,
                hide_suggestions=self._hide_suggestions,
            )
        except GraphQLError as error:
            raise RequestError([error]) from error
        except RecursionError as error:
            raise RequestError([limit_exceeded("levels", self._limits.depth)]) from error
        if errors:
            raise RequestError(errors)
        return document

    async def execute(self, operation: Operation, context: Context) -> Response:
        """Run a query or mutation. A response without `data` means that its variables were refused.

        What does not wait for a model's answer has a time limit.
        """
        with anyio.move_on_after(None if operation.generates else self._query_timeout):
            result = _execute(self._schema, operation.document, **self._arguments(operation, context))
            if not isinstance(result, ExecutionResult):
                result = await result
            return self._response(result, context) | self._told_cost(operation)
        return {"errors": self.formatted([_too_slow(self._query_timeout)], context.request_id), "data": None}

    def _told_cost(self, operation: Operation) -> Response:
        cost = {"requestedQueryCost": operation.cost, "maximumAvailable": self._limits.cost}
        return {"extensions": {"cost": cost}}

    async def subscribe(self, operation: Operation, context: Context) -> AsyncGenerator[Response, None] | Response:
        """Begin a subscription: its responses, or the one response that tells why it did not begin."""
        stream = _subscribe(self._schema, operation.document, **self._arguments(operation, context))
        if not isinstance(stream, ExecutionResult | AsyncGenerator):
            stream = await stream
        if isinstance(stream, ExecutionResult):
            return {"errors": self.formatted(stream.errors or [], context.request_id)}
        return self._responses(stream, context)

    def _arguments(self, operation: Operation, context: Context) -> dict[str, Any]:
        return {
            "context_value": context,
            "variable_values": operation.request.variables,
            "operation_name": operation.request.operation_name,
            "hide_suggestions": self._hide_suggestions,
            "is_awaitable": optimized_is_awaitable,
            "executor_class": CompiledEventExecutor,
            "operation_extensions": operation.request.extensions,
        }

    def formatted(self, errors: Sequence[GraphQLError], request_id: str) -> list[dict[str, Any]]:
        """Errors as they are sent: with `code` and `requestId`, and without what is nobody's business."""
        return [self._format(error, request_id) for error in errors]

    async def _responses(
        self, results: AsyncGenerator[ExecutionResult, None], context: Context
    ) -> AsyncGenerator[Response, None]:
        async with aclosing(results):
            try:
                async for result in results:
                    yield self._response(result, context)  # noqa: ASYNC119 - whoever iterates closes it
            except Exception as error:
                # the source stream failed: the specification ends the response stream with the error
                located = GraphQLError(str(error), original_error=error)
                yield {"errors": self.formatted([located], context.request_id)}  # noqa: ASYNC119

    def _response(self, result: ExecutionResult, context: Context) -> Response:
        if not result.errors:
            return {"data": result.data}
        errors = self.formatted(result.errors, context.request_id)
        if result.data is None and all(error.path is None for error in result.errors):
            return {"errors": errors}
        return {"errors": errors, "data": result.data}

    def _format(self, error: GraphQLError, request_id: str) -> dict[str, Any]:
        cause = _cause(error)
        formatted: dict[str, Any] = {**error.formatted}
        extensions: dict[str, Any] = {"requestId": request_id}
        if isinstance(cause, AuthenticationError):
            extensions |= {"code": ErrorCode.UNAUTHENTICATED, "reason": cause.code}
        elif isinstance(cause, DatabaseUnavailable):
            down = DatabaseDown()
            formatted["message"] = down.message
            extensions |= {"code": down.code, "retryable": down.retryable}
        elif isinstance(cause, GatewayError):
            extensions |= {"code": cause.code, "retryable": cause.retryable}
        elif cause is None or (error.path is None and isinstance(cause, ValueError | TypeError)):
            syntax = isinstance(error, GraphQLSyntaxError)
            extensions["code"] = ErrorCode.GRAPHQL_PARSE_FAILED if syntax else ErrorCode.GRAPHQL_VALIDATION_FAILED
        else:
            logger.error("request %s: internal error at %s", request_id, error.path, exc_info=cause)
            extensions["code"] = ErrorCode.INTERNAL_ERROR
            if not self._debug:
                formatted["message"] = "The gateway failed on this request. Its log has the details."
        formatted["extensions"] = {**extensions, **(error.extensions or {})}
        return formatted


def _cause(error: GraphQLError) -> BaseException | None:
    """The exception that a resolver raised; None when GraphQL itself found the error."""
    cause: BaseException | None = error
    while isinstance(cause, GraphQLError):
        cause = cause.original_error
    return cause


def _chosen(document: DocumentNode, name: str | None) -> OperationDefinitionNode:
    """GetOperation (GraphQL specification, section 6.1). Raises RequestError."""
    operations = [node for node in document.definitions if isinstance(node, OperationDefinitionNode)]
    if name is not None:
        operations = [node for node in operations if node.name is not None and node.name.value == name]
        if not operations:
            raise RequestError([GraphQLError(f"The document has no operation named {name!r}.")])
    if len(operations) > 1:
        raise RequestError([GraphQLError("The document has several operations: name one in operationName.")])
    if not operations:
        raise RequestError([GraphQLError("The document has no operation.")])
    return operations[0]


def _too_slow(seconds: float) -> GraphQLError:
    return GraphQLError(
        f"The operation took longer than {seconds:g} s and was ended. Ask for less at once.",
        extensions={"code": ErrorCode.TIMEOUT, "retryable": True},
    )


def _parse(query: str, limits: DocumentLimits) -> DocumentNode:
    """Parse. Raises GraphQLError, with a code of its own where the parser gave up on a document's size."""
    try:
        return parse(query, max_lexical_tokens=limits.tokens)
    except GraphQLSyntaxError as error:
        if error.message.endswith("nested too deeply. Parsing aborted."):
            raise limit_exceeded("levels", limits.depth) from error
        if error.message.endswith("tokens. Parsing aborted."):
            raise limit_exceeded("tokens", limits.tokens) from error
        raise
