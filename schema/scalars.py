"""The scalars of our own."""

from datetime import UTC, datetime
from typing import Any, NewType

import strawberry
from strawberry.types.scalar import ScalarDefinition

MAX_SAFE_INTEGER = 2**53 - 1
"""The largest integer that a JavaScript number holds exactly (ECMA-262, Number.MAX_SAFE_INTEGER)."""

BigInt = NewType("BigInt", int)
"""A count that may outgrow GraphQL's 32-bit Int: bytes, and sums of tokens."""


def _datetime(value: Any) -> datetime:
    """Without an offset it would be another moment elsewhere (RFC 3339, section 4.4), so it is refused."""
    if not isinstance(value, str):
        raise ValueError("DateTime must be a string, such as 2026-01-31T12:00:00Z.")
    try:
        moment = datetime.fromisoformat(value)
        if moment.tzinfo is not None:
            return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise ValueError(f"DateTime cannot represent {value!r}. Give date, time and offset, such as 2026-01-31T12:00:00Z.")


def _serialize(value: Any) -> int:
    if not isinstance(value, int) or abs(value) > MAX_SAFE_INTEGER:
        raise ValueError(f"BigInt cannot represent {value!r}")
    return value


SCALARS: dict[object, ScalarDefinition] = {
    datetime: strawberry.scalar(
        name="DateTime",
        description="A moment with its offset from UTC (RFC 3339), such as 2026-01-31T12:00:00Z.",
        serialize=datetime.isoformat,
        parse_value=_datetime,
    ),
    BigInt: strawberry.scalar(
        name="BigInt",
        description="A whole number of up to 53 bits, as a JSON number.",
        serialize=_serialize,
        parse_value=_serialize,
    ),
}
