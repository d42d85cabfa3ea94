"""Limits on variables, checked before anything is made of them: coercing a long list costs more than sending it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from graphql import GraphQLError

from gateway.errors import TransportErrorCode


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


def check_uses(variables: Mapping[str, Any], uses: Mapping[str, int], limits: VariableLimits) -> None:
    """Check variables that several root fields use: each of the fields makes objects of its own of their values.

    `uses` tells how often each variable is used. Raises as `check_variables` does.
    """
    values = sum(count * _count(variables[name]) for name, count in uses.items() if count > 1 and name in variables)
    if values > limits.values:
        most = f"{limits.values:,} values in all (OLLAGRAPH_MAX_VARIABLE_VALUES), counted for each root field that uses"
        raise _exceeded(f"{most} them", limits.values)


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
