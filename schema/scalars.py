"""The scalars of our own."""

from typing import Any, NewType

import strawberry
from strawberry.types.scalar import ScalarDefinition

MAX_SAFE_INTEGER = 2**53 - 1
"""The largest integer that a JavaScript number holds exactly (ECMA-262, Number.MAX_SAFE_INTEGER)."""

BigInt = NewType("BigInt", int)
"""A count that may outgrow GraphQL's 32-bit Int: bytes, and sums of tokens."""


def _serialize(value: Any) -> int:
    if not isinstance(value, int) or abs(value) > MAX_SAFE_INTEGER:
        raise ValueError(f"BigInt cannot represent {value!r}")
    return value


SCALARS: dict[object, ScalarDefinition] = {
    BigInt: strawberry.scalar(
        name="BigInt",
        description="A whole number of up to 53 bits, as a JSON number.",
        serialize=_serialize,
        parse_value=_serialize,
    ),
}
