"""Limits on variables, checked before anything is made of them: coercing a long list costs more than sending it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import graphql
from graphql import (
    GraphQLError,
    GraphQLInputObjectType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLSchema,
    OperationDefinitionNode,
    TypeNode,
)

from gateway.errors import TransportErrorCode

# graphql-core's own annotations leave type variables open, which strict checking does not let through
_type_of_node = cast("Callable[[GraphQLSchema, TypeNode], Any]", cast("Any", graphql).type_from_ast)

OBJECT_WEIGHT = 3
"""An object of an input type counts as so many values, beside those in it.

graphql-core looks at every field of its type, and a class of ours is made of it: with each counted as one, 5,000
objects with one value each took 40 ms of the event loop, and an answer in JSON of the same size 1 ms.
"""


@dataclass(frozen=True, slots=True)
class VariableLimits:
    """The most values in one list, and in all; those within JSON count, too. Levels are bounded by JSON's reader."""

    list_length: int
    values: int


def check_variables(variables: Mapping[str, Any], limits: VariableLimits) -> None:
    """Check variables. Raises GraphQLError with the code LIMIT_EXCEEDED, naming the setting.

    Level by level, and without looking further once there is too much.
    """
    level: list[object] = list(variables.values())
    values = 0
    while level:
        values += len(level)
        if values > limits.values:
            raise _exceeded(f"{limits.values:,} values in all (OLLAGRAPH_MAX_VARIABLE_VALUES)", limits.values)
        below: list[object] = []
        for value in level:
            if isinstance(value, list):
                items = cast("list[object]", value)
                if len(items) > limits.list_length:
                    raise _exceeded(
                        f"{limits.list_length:,} values in one list (OLLAGRAPH_MAX_LIST_LENGTH)", limits.list_length
                    )
                below += items
            elif isinstance(value, dict):
                below += cast("dict[str, object]", value).values()
        level = below


def check_work(
    schema: GraphQLSchema,
    operation: OperationDefinitionNode,
    variables: Mapping[str, Any],
    uses: Mapping[str, int],
    limits: VariableLimits,
) -> None:
    """Check what is made of the variables of a valid operation, by their types.

    `uses` tells how often root fields use each variable: every one of them makes objects of its own. Raises as
    `check_variables` does.
    """
    values = 0
    for definition in operation.variable_definitions or ():
        name = definition.variable.name.value
        kind = _type_of_node(schema, definition.type)
        if kind is not None and name in variables:
            values += max(1, uses.get(name, 0)) * _weight(variables[name], kind)
    if values > limits.values:
        most = (
            f"{limits.values:,} values in all (OLLAGRAPH_MAX_VARIABLE_VALUES), where an object of an input type counts"
        )
        raise _exceeded(f"{most} as {OBJECT_WEIGHT}, and everything for each root field that uses it", limits.values)


def _weight(value: object, kind: Any) -> int:
    """Count a value of this input type and those within it, objects of input types by their weight."""
    weight = 0
    waiting: list[tuple[object, Any]] = [(value, kind)]
    while waiting:
        value, kind = waiting.pop()
        if isinstance(kind, GraphQLNonNull):
            kind = cast("Any", kind).of_type
        if isinstance(kind, GraphQLList):
            of_type = cast("Any", kind).of_type
            weight += 1
            items = cast("list[object]", value) if isinstance(value, list) else [value]  # one stands for a list of one
            waiting += [(item, of_type) for item in items]
        elif isinstance(kind, GraphQLInputObjectType) and isinstance(value, dict):
            fields = kind.fields
            weight += OBJECT_WEIGHT
            for name, item in cast("dict[str, object]", value).items():
                if name in fields:  # of others the refusal tells
                    waiting.append((item, fields[name].type))
        else:
            weight += _count(value)
    return weight


def _count(value: object) -> int:
    """Count a value and those within it."""
    values, waiting = 0, [value]
    while waiting:
        values += len(waiting)
        below: list[object] = []
        for one in waiting:
            if isinstance(one, list):
                below += cast("list[object]", one)
            elif isinstance(one, dict):
                below += cast("dict[str, object]", one).values()
        waiting = below
    return values


def _exceeded(most: str, limit: int) -> GraphQLError:
    return GraphQLError(
        f"The variables may have at most {most}.",
        extensions={"code": TransportErrorCode.LIMIT_EXCEEDED, "limit": limit},
    )
