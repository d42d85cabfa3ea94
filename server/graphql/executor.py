"""Running GraphQL requests: parse, validate, execute, and tell errors in the form in which they are sent.

The phases are called one by one on graphql-core, and not through `strawberry.Schema.execute`, because transports
must tell them apart: a request error has no `data` and is answered with 400, a field error stands beside data.
"""

from collections import OrderedDict
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import anyio
import graphql
import strawberry
from graphql import (
    DocumentNode,
    ExecutionResult,
    GraphQLError,
    OperationDefinitionNode,
    OperationType,
    parse,
)

from auth.errors import AuthenticationError, MissingCredentials
from auth.scopes import Scope
from gateway.errors import GatewayError, TransportErrorCode, cut
from gateway.server_info import IntrospectionAccess
from resolvers.access import public_fields
from schema.context import Context
from schema.limits import limits_extension
from server.graphql.compiled_events import CompiledEventExecutor, EventResponses, executor_of
from server.graphql.compiled_inputs import compile_inputs
from server.graphql.coroutines import Coroutines
from server.graphql.cost import OperationCost, operation_cost
from server.graphql.document_limits import (
    DocumentLimits,
    check_limits,
    fragments_of,
    limit_exceeded,
    parse_within,
    root_fields,
    too_costly,
    variable_uses,
)
from server.graphql.error_format import ErrorFormat, raised
from server.graphql.introspection import IntrospectionLane, introspection_error, introspection_refusal, introspects
from server.graphql.persisted import PersistedDocuments
from server.graphql.request import GraphQLRequest
from server.graphql.timings import OperationTimings
from server.graphql.validation import MAX_ERRORS, validation_errors
from server.graphql.variables import VariableLimits, check_variables, check_work
from server.logs import note

# graphql-core's own annotations leave type variables open, which strict checking does not let through
_execute = cast("Callable[..., Awaitable[ExecutionResult] | ExecutionResult]", graphql.execute)  # pyright: ignore[reportUnknownMemberType]

Response = dict[str, Any]
"""A response in JSON types: `data`, `errors` and `extensions` (GraphQL specification, section 7.1)."""

MAX_CACHED_DOCUMENTS = 500

NOT_SIGNED_IN = MissingCredentials()


class RequestError(Exception):
    """The request was refused before anything ran: a response without `data`."""

    def __init__(self, errors: Sequence[GraphQLError]) -> None:
        self.errors = errors
        super().__init__(errors[0].message)


class NotForNobody(RequestError):
    """The operation needs credentials that hold. Queries and mutations get `data: null`, as their field had failed."""

    def __init__(self, error: GraphQLError, type: OperationType) -> None:
        self.type = type
        super().__init__([error])


@dataclass(frozen=True, slots=True)
class Operation:
    """A request that is parsed, valid and knows its operation.

    `cost` is the most that it can come to; `generates` is whether it waits for a model's whole answer. `sign_ins` are
    how many of its fields change something for who may be nobody: they sign in, or lead there.
    """

    request: GraphQLRequest
    document: DocumentNode
    executor: type[CompiledEventExecutor]
    type: OperationType
    cost: int
    generates: bool
    sign_ins: int
    introspects: bool


@dataclass(frozen=True, slots=True)
class _Document:
    """A valid document, and what was found of its operations, by their names; costs where no variable decides."""

    document: DocumentNode
    trusted: bool
    introspects: bool
    executor: type[CompiledEventExecutor]
    costs: dict[str | None, int] = field(default_factory=dict[str | None, int])
    generates: dict[str | None, bool] = field(default_factory=dict[str | None, bool])
    sign_ins: dict[str | None, int] = field(default_factory=dict[str | None, int])


class Executor:
    """Executes requests against the schema. `debug` tells internal errors to clients."""

    def __init__(
        self,
        schema: strawberry.Schema,
        limits: DocumentLimits,
        persisted: PersistedDocuments,
        *,
        query_timeout: float,
        introspection: IntrospectionAccess,
        suggestions: bool,
        debug: bool,
        variable_limits: VariableLimits,
    ) -> None:
        compile_inputs(schema)
        self.schema = schema
        self._schema = schema._schema  # pyright: ignore[reportPrivateUsage] - Strawberry has no other way to it
        self._public_fields = public_fields(self._schema)
        self.limits = limits
        self._variable_limits = variable_limits
        self._persisted = persisted
        self.query_timeout = query_timeout
        self._errors = ErrorFormat(debug)
        self._debug = debug
        self._introspection = introspection
        self._introspecting = IntrospectionLane()
        self._hide_suggestions = not suggestions
        self._documents: OrderedDict[str, _Document] = OrderedDict()

    def prepare(
        self, request: GraphQLRequest, refused: AuthenticationError | GatewayError | None = NOT_SIGNED_IN
    ) -> Operation:
        """Parse, measure, validate and choose the operation. Raises RequestError, also for what nobody foresaw.

        `refused` is why the caller is nobody known, and None for those who are. Nobody may do much, and learns that
        before anything that is dear is done for them.
        """
        try:
            return self._prepare(request, refused)
        except RequestError:
            raise
        except Exception as error:  # the operation's own failure, not that of what else its connection does
            raise RequestError([raised(error)]) from error

    def forget(self) -> None:
        """Forget the documents that are known, for who measures what an unknown one costs."""
        self._documents.clear()

    def _prepare(self, request: GraphQLRequest, refused: AuthenticationError | GatewayError | None) -> Operation:
        text = self._persisted.text(request)
        check_variables(request.variables, self._variable_limits)
        trusted = text in self._persisted.trusted
        known = self._documents.get(text)
        if known is not None and known.trusted and not trusted:
            known = None  # what it was spared is done now
        document = self._parsed(text, trusted=trusted) if known is None else known.document
        name = request.operation_name
        if refused is not None:
            self._check_public(document, _chosen(document, name), refused)
        introspecting = introspects(text, document) if known is None else known.introspects
        if introspecting:
            self._check_introspection(refused)
        if known is None:
            known = self._keep(text, document, trusted=trusted, introspects=introspecting)
        else:
            self._documents.move_to_end(text)
        chosen = _chosen(document, name)
        if request.variables:
            uses = variable_uses(document, chosen)
            check_work(self._schema, chosen, request.variables, uses, self._variable_limits)
        if refused is None:
            self._persisted.keep(request)
            self._persisted.trusted.note_untrusted(text, document)
        cost = known.costs.get(name)
        if cost is None:
            cost, depends_on_variables = self._cost(document, chosen, request)
            fields = root_fields(document, chosen)
            known.generates[name] = "generate" in fields
            known.sign_ins[name] = self._sign_ins(chosen.operation, fields)
            if not depends_on_variables:
                known.costs[name] = cost
        if cost > self.limits.cost:
            raise RequestError([too_costly(cost, self.limits.cost)])
        note(operation=chosen.name.value if chosen.name else None, type=chosen.operation.value)
        generates, sign_ins = known.generates[name], known.sign_ins[name]
        return Operation(request, document, known.executor, chosen.operation, cost, generates, sign_ins, introspecting)

    def _sign_ins(self, type: OperationType, fields: Mapping[str, int]) -> int:
        """Count the fields, each as often as it is selected."""
        if type is not OperationType.MUTATION:
            return 0
        return sum(count for name, count in fields.items() if name in self._public_fields[type])

    def _cost(
        self, document: DocumentNode, operation: OperationDefinitionNode, request: GraphQLRequest
    ) -> OperationCost:
        longer = {("User", "apiKeys"): self.limits.api_keys}
        return operation_cost(self._schema, operation, fragments_of(document), request.variables, longer)

    def _check_public(
        self,
        document: DocumentNode,
        operation: OperationDefinitionNode,
        refused: AuthenticationError | GatewayError,
    ) -> None:
        """Refuse a root field that there is, and that is not for everybody. Of others validation tells."""
        root = self._schema.get_root_type(operation.operation)
        if root is None:
            return
        for name in root_fields(document, operation):
            if name in root.fields and name not in self._public_fields[operation.operation]:
                raise NotForNobody(GraphQLError(str(refused), original_error=refused), operation.operation)

    def _check_introspection(self, nobody: AuthenticationError | GatewayError | None) -> None:
        message = introspection_refusal(self._introspection, nobody)
        if message is None:
            return
        error = introspection_error(message, self._introspection, nobody)
        if self._introspection is IntrospectionAccess.NOBODY:
            raise RequestError([error])
        raise NotForNobody(error, OperationType.QUERY)

    def _parsed(self, query: str, *, trusted: bool) -> DocumentNode:
        """Parse and measure, in the order of what they cost. A trusted document may have any form; its cost counts."""
        if trusted:
            return parse(query)
        if len(query) > self.limits.length:
            raise RequestError([limit_exceeded("characters", self.limits.length)])
        try:
            document = parse_within(query, self.limits)
            check_limits(document, self.limits)
        except RecursionError as error:
            raise RequestError([limit_exceeded("levels", self.limits.depth)]) from error
        return document

    def _keep(self, query: str, document: DocumentNode, *, trusted: bool, introspects: bool) -> _Document:
        """Validate, and keep what is valid. Those used last stay: an application has few, and sends them often.

        Only valid ones are kept, so that every error is found and told anew.
        """
        errors = validation_errors(
            self._schema,
            document,
            query,
            hide_suggestions=self._hide_suggestions,
        )
        if errors:
            raise RequestError(errors)
        known = self._documents[query] = _Document(document, trusted, introspects, executor_of(query))
        if len(self._documents) > MAX_CACHED_DOCUMENTS:
            self._documents.popitem(last=False)
        return known

    async def execute(self, operation: Operation, context: Context) -> Response:
        """Run a query or mutation. A response without `data` means that its variables were refused.

        What does not wait for a model's answer has a time limit.
        """
        coroutines = Coroutines()
        with anyio.move_on_after(None if operation.generates else self.query_timeout):
            try:
                with coroutines.closed_when_cancelled():
                    arguments = self._arguments(operation, context, coroutines)
                    timings = self._timings(context)
                    middleware = None if timings is None else [timings]
                    arguments |= {"middleware": middleware, "executor_class": operation.executor}
                    run = partial(_execute, variable_values=operation.request.variables, **arguments)
                    result = await self._introspecting.run(run) if operation.introspects else run()
                    if not isinstance(result, ExecutionResult):
                        result = await result
            except Exception as error:  # what raises beside the fields is the operation's own failure
                return {"errors": self.formatted([raised(error)], context.request_id), "data": None}
            return self._response(result, context) | self._told(operation, context, timings)
        return {"errors": self.formatted([_too_slow(self.query_timeout)], context.request_id), "data": None}

    def _timings(self, context: Context) -> OperationTimings | None:
        """Measure the operation where the gateway is in debug mode and an administrator asks."""
        if not self._debug or context.principal is None or not context.principal.has(Scope.SETTINGS_READ):
            return None
        return OperationTimings()

    def _told(self, operation: Operation, context: Context, timings: OperationTimings | None) -> Response:
        told: Response = {"cost": {"requestedQueryCost": operation.cost, "maximumAvailable": self.limits.cost}}
        if context.limits_told.statuses:
            told["limits"] = limits_extension(context.limits_told)
        if timings is not None:
            told["debug"] = timings.told()
        return {"extensions": told}

    async def subscribe(self, operation: Operation, context: Context) -> AsyncGenerator[Response, None] | Response:
        """Begin a subscription: its responses, or the one response that tells why it did not begin."""
        coroutines = Coroutines()
        try:
            with coroutines.closed_when_cancelled():
                arguments = self._arguments(operation, context, coroutines)
                began = await operation.executor.begin(operation.request.variables, **arguments)
                coroutines.forget()
        except Exception as error:
            return {"errors": self.formatted([raised(error)], context.request_id)}
        if isinstance(began, list):
            return {"errors": self.formatted(began, context.request_id)}
        answers, events = began
        return self._responses(answers, events, context, coroutines)

    def _arguments(self, operation: Operation, context: Context, coroutines: Coroutines) -> dict[str, Any]:
        return {
            "schema": self._schema,
            "document": operation.document,
            "context_value": context,
            "operation_name": operation.request.operation_name,
            "hide_suggestions": self._hide_suggestions,
            "max_coercion_errors": MAX_ERRORS,
            "is_awaitable": coroutines.is_awaitable,
            "operation_extensions": operation.request.extensions,
        }

    def refusal(self, error: RequestError, request_id: str) -> Response:
        """Give the response to a request that was refused."""
        response: Response = {"errors": self.formatted(error.errors, request_id)}
        runs_once = isinstance(error, NotForNobody) and error.type is not OperationType.SUBSCRIPTION
        return {**response, "data": None} if runs_once else response

    def formatted(self, errors: Sequence[GraphQLError], request_id: str) -> list[dict[str, Any]]:
        """Format errors as they are sent: with `code` and `requestId`, and without what is nobody's business."""
        formatted = self._errors.formatted(errors, request_id)
        if formatted:
            note(code=str(formatted[0]["extensions"]["code"]))
        return formatted

    async def _responses(
        self,
        answers: EventResponses,
        events: AsyncGenerator[Any, None],
        context: Context,
        coroutines: Coroutines,
    ) -> AsyncGenerator[Response, None]:
        """Map events to responses (MapSourceToResponseEvent, GraphQL specification, section 6.2.3.2)."""
        async with aclosing(events):
            try:
                with coroutines.closed_when_cancelled():
                    async for event in events:
                        data = answers.compiled(event)
                        if data is None:
                            response = self._response(await answers.executed(event), context)
                            coroutines.forget()
                        else:
                            response: Response = {"data": data}
                        if told := context.take_limits_told():
                            response["extensions"] = {"limits": limits_extension(told)}
                        yield response  # noqa: ASYNC119 - whoever iterates closes it
            except Exception as error:
                # the source stream failed: the specification ends the response stream with the error
                yield {"errors": self.formatted([raised(error)], context.request_id)}  # noqa: ASYNC119

    def _response(self, result: ExecutionResult, context: Context) -> Response:
        if not result.errors:
            return {"data": result.data}
        errors = self.formatted(result.errors, context.request_id)
        if result.data is None and all(error.path is None for error in result.errors):
            return {"errors": errors}
        return {"errors": errors, "data": result.data}


def _chosen(document: DocumentNode, name: str | None) -> OperationDefinitionNode:
    """GetOperation (GraphQL specification, section 6.1). Raises RequestError."""
    operations = [node for node in document.definitions if isinstance(node, OperationDefinitionNode)]
    if name is not None:
        operations = [node for node in operations if node.name is not None and node.name.value == name]
        if not operations:
            raise RequestError([GraphQLError(f"The document has no operation named {cut(name)!r}.")])
    if len(operations) > 1:
        raise RequestError([GraphQLError("The document has several operations: name one in operationName.")])
    if not operations:
        raise RequestError([GraphQLError("The document has no operation.")])
    return operations[0]


def _too_slow(seconds: float) -> GraphQLError:
    return GraphQLError(
        f"The operation took longer than {seconds:g} s and was stopped. Request less at once.",
        extensions={"code": TransportErrorCode.TIMEOUT, "retryable": True},
    )
