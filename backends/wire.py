"""Reads JSON from a server that may send anything: each value is of the kind expected, absent, or an error."""

from typing import cast

import orjson

from backends.errors import BackendProtocolError
from backends.protocol import Json

LARGEST_COUNT = 2**31 - 1
"""The largest Int of GraphQL (specification, section 3.5.1), and of an integer column."""

LARGEST_SIZE = 2**53 - 1
"""The largest integer that a JavaScript number holds exactly."""


def json_object(data: bytes) -> dict[str, Json]:
    """Decode one JSON object. Raises BackendProtocolError for anything else."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        raise BackendProtocolError("The model server sent malformed JSON.") from None
    if not isinstance(value, dict):
        raise BackendProtocolError("The model server sent JSON that is not an object.")
    return cast("dict[str, Json]", value)


def as_object(value: Json) -> dict[str, Json]:
    """Give an object; an empty one for null. Raises BackendProtocolError for anything else."""
    if isinstance(value, dict):
        return cast("dict[str, Json]", value)
    if value is None:
        return {}
    raise _unexpected("an object")


def as_list(value: Json) -> list[Json]:
    """Give a list; an empty one for null. Raises BackendProtocolError for anything else."""
    if isinstance(value, list):
        return cast("list[Json]", value)
    if value is None:
        return []
    raise _unexpected("a list")


def as_text(value: Json) -> str:
    """Give a string; an empty one for null. Raises BackendProtocolError for anything else."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    raise _unexpected("a string")


def as_count(value: Json, most: int = LARGEST_COUNT) -> int | None:
    """Give a whole number from 0 to `most`; None, "not told", for everything else.

    A float without a fraction is its integer. A number that makes no sense costs its field, and never the answer.
    """
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if type(value) is int and 0 <= value <= most else None


def as_size(value: Json) -> int | None:
    """Give a number of bytes, parameters or nanoseconds, as `as_count` does."""
    return as_count(value, LARGEST_SIZE)


def _unexpected(kind: str) -> BackendProtocolError:
    return BackendProtocolError(f"The model server sent something else where {kind} was expected.")
