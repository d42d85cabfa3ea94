"""The scalars of our own."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, NewType

import strawberry
from graphql import (
    FloatValueNode,
    GraphQLError,
    IntValueNode,
    ListValueNode,
    NullValueNode,
    ObjectValueNode,
    Undefined,
    ValueNode,
    VariableNode,
)
from strawberry.scalars import JSON
from strawberry.types.scalar import ScalarDefinition

MAX_SAFE_INTEGER = 2**53 - 1
"""The largest integer that a JavaScript number holds exactly (ECMA-262, Number.MAX_SAFE_INTEGER)."""

LONGEST_INTEGER = 25
"""Digits of an integer in JSON that are looked at. No reader takes so many, and Python refuses thousands of them."""

DEEPEST = 100
"""Levels of JSON in a document that are looked at. What is made of it refuses fewer, naming its field."""

SafeInt = NewType("SafeInt", int)
"""A count that may outgrow GraphQL's 32-bit Int: bytes, and sums of tokens."""


def _datetime(value: Any) -> datetime:
    """Without an offset it would be another moment elsewhere (RFC 3339, section 4.4), so it is refused."""
    if not isinstance(value, str):
        raise GraphQLError("DateTime must be a string, such as 2026-01-31T12:00:00Z.")
    try:
        moment = datetime.fromisoformat(value)
        if moment.tzinfo is not None:
            return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise GraphQLError("DateTime must be a date, time and offset, such as 2026-01-31T12:00:00Z.")


_DECIMAL = re.compile(r"-?[0-9]{1,20}(\.[0-9]{1,20})?")


def read_decimal(value: object) -> Decimal | None:
    """Read a string or a whole number; None for anything else.

    A JSON number with a point would be a float in most readers, and so inexact.
    """
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= MAX_SAFE_INTEGER:
        return Decimal(value)
    return Decimal(value) if isinstance(value, str) and _DECIMAL.fullmatch(value) else None


def _decimal(value: Any) -> Decimal:
    if (found := read_decimal(value)) is not None:
        return found
    raise GraphQLError('Decimal must be a string of digits with at most one point, such as "0.15".')


def decimal_text(value: Decimal) -> str:
    """Write all digits, and no exponent."""
    return format(value, "f")


def _serialize(value: Any) -> int:
    if not isinstance(value, int) or abs(value) > MAX_SAFE_INTEGER:
        raise GraphQLError("SafeInt must be a whole number of up to 53 bits.")
    return value


def _same(value: Any) -> Any:
    return value


def _json_literal(node: ValueNode, variables: Mapping[str, Any] | None = None, depth: int = 0) -> Any:
    """Give the value of a literal of JSON. One that is legal and yet too much stays so, for its field to be named."""
    if depth > DEEPEST:
        return None
    match node:
        case ObjectValueNode():
            return {field.name.value: _json_literal(field.value, variables, depth + 1) for field in node.fields}
        case ListValueNode():
            return [_json_literal(item, variables, depth + 1) for item in node.values]
        case VariableNode():
            return (variables or {}).get(node.name.value, Undefined)
        case NullValueNode():
            return None
        case IntValueNode():
            return int(node.value[:LONGEST_INTEGER])
        case FloatValueNode():
            return float(node.value)
        case _:
            return getattr(node, "value")  # noqa: B009 - a string, a boolean, or the name of an enum's value


SCALARS: dict[object, ScalarDefinition] = {
    JSON: strawberry.scalar(
        name="JSON",
        description="The `JSON` scalar type represents JSON values as specified by [ECMA-404]"
        "(https://ecma-international.org/wp-content/uploads/ECMA-404_2nd_edition_december_2017.pdf).",
        specified_by_url="https://ecma-international.org/wp-content/uploads/ECMA-404_2nd_edition_december_2017.pdf",
        serialize=_same,
        parse_value=_same,
        parse_literal=_json_literal,
    ),
    datetime: strawberry.scalar(
        name="DateTime",
        description="A date and time with an offset from UTC (RFC 3339), such as 2026-01-31T12:00:00Z.",
        serialize=datetime.isoformat,
        parse_value=_datetime,
    ),
    Decimal: strawberry.scalar(
        name="Decimal",
        description='A decimal number of any precision, as a string without an exponent, such as "0.15".',
        serialize=decimal_text,
        parse_value=_decimal,
    ),
    SafeInt: strawberry.scalar(
        name="SafeInt",
        description="An integer of up to 53 bits, as a JSON number.",
        serialize=_serialize,
        parse_value=_serialize,
    ),
}
