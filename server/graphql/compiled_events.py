"""A subscription's selection set, compiled once, instead of executed anew for each event.

graphql-core treats every event of a subscription as an operation of its own: it collects the fields, resolves and
completes them, and keeps nothing from one event to the next. That takes most of the time of a token. Here the
selection is turned once per operation and event type into pairs of response key and getter. Whatever is not provably a
plain field (a resolver, an argument, an abstract type, a value that does not fit its type) goes the ordinary
way, which also reports the errors, so that both ways give the same response (a property test compares them).
"""

import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from functools import partial
from operator import attrgetter
from typing import Any, ClassVar, cast

import graphql
from graphql import (
    GRAPHQL_MAX_INT,
    GRAPHQL_MIN_INT,
    ExecutionResult,
    GraphQLEnumType,
    GraphQLError,
    GraphQLField,
    GraphQLList,
    GraphQLNamedType,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLScalarType,
    get_named_type,
)
from graphql.execution import Executor
from graphql.execution.collect_fields import FieldDetails, collect_fields
from graphql.type.definition import GraphQLResolveInfoHelpers
from strawberry.schema.schema import StrawberryGraphQLCoreExecutionContext
from strawberry.schema.schema_converter import GraphQLCoreConverter
from strawberry.types.field import StrawberryField

# graphql-core's own annotations leave type variables open, which strict checking does not let through
_Stream = ExecutionResult | AsyncGenerator[Any, None]
_create_source_event_stream = cast("Callable[[Any], Awaitable[_Stream] | _Stream]", graphql.create_source_event_stream)  # pyright: ignore[reportUnknownMemberType]
_Result = Awaitable[ExecutionResult] | ExecutionResult
_execute_event = cast("Callable[[Any], _Result]", graphql.execute_subscription_event)  # pyright: ignore[reportUnknownMemberType]
_gather = cast("Callable[..., Awaitable[list[Any]]]", Executor.gather_async_work)  # pyright: ignore[reportUnknownMemberType]
_track = cast("Callable[..., None]", Executor.track_async_work)  # pyright: ignore[reportUnknownMemberType]

Getter = Callable[[Any], Any]
"""From an object to the completed value of one of its fields. Raises _NotPlain."""

_SAME_IN_JSON: dict[str, type] = {"String": str, "ID": str, "Boolean": bool, "Int": int}
"""Scalars whose values stand in the response as they are when they have this very type; an Int must also be one."""


class _NotPlain(Exception):
    """This value must go the ordinary way."""


class CompiledEventExecutor(StrawberryGraphQLCoreExecutionContext):
    """graphql-core's executor with compiled subscription events.

    What is compiled for one operation is kept for the next of the same name in `kept`, where there is one.
    """

    kept: ClassVar[dict[str, dict[type, Getter | None]] | None] = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # graphql-core's own hold the executor: a circle that would keep all of the operation until garbage collection
        itself = weakref.proxy(self)
        self.async_helpers = GraphQLResolveInfoHelpers(gather=partial(_gather, itself), track=partial(_track, itself))
        name = self.operation.name.value if self.operation.name else ""
        self.getters: dict[type, Getter | None] = {} if self.kept is None else self.kept.setdefault(name, {})

    @classmethod
    async def begin(
        cls, variables: Mapping[str, Any] | None, **arguments: Any
    ) -> tuple["EventResponses", AsyncGenerator[Any, None]] | list[GraphQLError]:
        """Give an operation's events and what answers for them, or the errors for which there are none.

        This is CreateSourceEventStream of the GraphQL specification, section 6.2.3.1.
        """
        build = partial(cast("Any", cls).build, raw_variable_values=variables, **arguments)
        executor = build()
        if isinstance(executor, list):
            return cast("list[GraphQLError]", executor)
        stream = _create_source_event_stream(executor)
        if isinstance(stream, Awaitable):
            stream = await stream
        if isinstance(stream, ExecutionResult):
            return stream.errors or []
        return EventResponses(build, executor.getters), stream

    def compile(self, kind: type) -> Getter | None:
        """Give the whole response of an event of this Python type; None when it is not plain."""
        root_type = self.schema.subscription_type
        definition = getattr(kind, "__strawberry_definition__", None)
        event_type = None if definition is None else self.schema.get_type(definition.name)
        if root_type is None or not isinstance(event_type, GraphQLObjectType) or self.middleware_manager is not None:
            return None
        fields = collect_fields(
            self.schema, self.fragments, self.variable_values, root_type, self.operation, self.hide_suggestions
        ).grouped_field_set
        if len(fields) != 1:
            return None
        key, details = next(iter(fields.items()))
        if details[0].node.name.value.startswith("__"):
            return None
        selection = self._selection(event_type, details)
        return None if selection is None else lambda payload: {key: selection(payload)}

    def _selection(self, object_type: GraphQLObjectType, details: Sequence[FieldDetails]) -> Getter | None:
        """Give an object's selected fields, in the order of the selection."""
        fields = self.collect_subfields(object_type, list(details)).grouped_field_set
        getters = {key: self._field(object_type, nodes) for key, nodes in fields.items()}
        if None in getters.values():
            return None
        pairs = tuple(cast("Mapping[str, Getter]", getters).items())
        return lambda source: {key: getter(source) for key, getter in pairs}

    def _field(self, object_type: GraphQLObjectType, details: Sequence[FieldDetails]) -> Getter | None:
        name = details[0].node.name.value
        if name == "__typename":
            type_name = object_type.name
            return lambda source: type_name
        field = object_type.fields.get(name)
        attribute = None if field is None else _plain_attribute(field)
        if field is None or attribute is None:
            return None
        complete = self._completion(field.type, details)
        if complete is None:
            return None
        read = attrgetter(attribute)
        same = _SAME_IN_JSON.get(cast("GraphQLNamedType", get_named_type(field.type)).name)

        def plain(source: Any) -> Any:
            value = read(source)
            kind: type[Any] = value.__class__
            if kind is same and (kind is not int or GRAPHQL_MIN_INT <= value <= GRAPHQL_MAX_INT):
                return value  # nearly all fields of nearly all events: 5 of 7 calls are spared
            return complete(value)

        return plain

    def _completion(self, output_type: Any, details: Sequence[FieldDetails]) -> Getter | None:
        """From a field's value to what stands in the response (CompleteValue, GraphQL specification, section 6.4.3)."""
        nullable = not isinstance(output_type, GraphQLNonNull)
        named: object = output_type if nullable else cast("Any", output_type).of_type
        if isinstance(named, GraphQLScalarType | GraphQLEnumType):
            complete = self._leaf(named)
        elif isinstance(named, GraphQLObjectType) and named.is_type_of is None:
            complete = self._selection(named, details)
        elif isinstance(named, GraphQLList):
            complete = self._list(cast("Any", named).of_type, details)
        else:
            return None
        if complete is None:
            return None

        def completed(value: Any) -> Any:
            if value is not None:
                return complete(value)
            if nullable:
                return None
            raise _NotPlain

        return completed

    def _list(self, item_type: Any, details: Sequence[FieldDetails]) -> Getter | None:
        complete = self._completion(item_type, details)
        if complete is None:
            return None

        def completed(values: Any) -> Any:
            if type(values) is not list:
                raise _NotPlain
            return [complete(value) for value in cast("list[Any]", values)]

        return completed

    def _leaf(self, leaf_type: GraphQLScalarType | GraphQLEnumType) -> Getter:
        coerce = self.complete_leaf_value

        def leaf(value: Any) -> Any:
            try:
                return coerce(leaf_type, value)
            except Exception as error:
                raise _NotPlain from error

        return leaf


class EventResponses:
    """Answers for the events of one subscription.

    Without the executor, which is 3 kB for as long as a subscription lasts: it is built again where it is needed.
    """

    __slots__ = ("_build", "_executor", "_getters")

    def __init__(self, build: Callable[[], CompiledEventExecutor], getters: dict[type, Getter | None]) -> None:
        self._build = build
        self._getters = getters
        self._executor: Any = None

    def compiled(self, payload: Any) -> dict[str, Any] | None:
        """Give the `data` of the response to this event; None where it must go the ordinary way."""
        kind: type = payload.__class__
        if kind not in self._getters:
            self._getters[kind] = self._build().compile(kind)
        getter = self._getters[kind]
        if getter is None:
            return None
        try:
            return getter(payload)
        except _NotPlain:
            return None

    async def executed(self, payload: Any) -> ExecutionResult:
        """Go the ordinary way (ExecuteSubscriptionEvent, GraphQL specification, section 6.2.3.2)."""
        if self._executor is None:
            self._executor = self._build()
        result = _execute_event(self._executor.build_per_event_executor(payload))
        return result if isinstance(result, ExecutionResult) else await result


def _plain_attribute(field: GraphQLField) -> str | None:
    """Give the attribute that a field without a resolver reads; None for every other field."""
    definition = field.extensions.get(GraphQLCoreConverter.DEFINITION_BACKREF)
    plain = isinstance(definition, StrawberryField) and definition.is_basic_field and not field.args
    if not plain or not getattr(field.resolve, "_is_default", False):
        return None
    return cast("StrawberryField", definition).python_name


def executor_of(document: str) -> type[CompiledEventExecutor]:
    """Give the executor for all operations of a document. Where it has directives, their variables decide each time."""
    if "@" in document or "subscription" not in document:
        return CompiledEventExecutor
    return type("DocumentExecutor", (CompiledEventExecutor,), {"kept": {}})
