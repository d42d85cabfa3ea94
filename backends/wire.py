"""Reads JSON from a server that may send anything: each value is of the kind expected, absent, or an error."""

from typing import cast

import orjson

from backends.errors import BackendProtocolError
from backends.protocol import Json


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


def as_count(value: Json) -> int | None:
    """Give a whole number that is not negative, or None for null. Raises BackendProtocolError otherwise."""
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 0):
        return value
    raise _unexpected("a count")


def _unexpected(kind: str) -> BackendProtocolError:
    return BackendProtocolError(f"The model server sent something else where {kind} was expected.")
