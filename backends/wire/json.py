"""Reads JSON from a server that may send anything: what is odd costs the field that it is in, and never the answer."""

import json
import math
import re
import sys
from datetime import datetime
from typing import cast

import orjson

from backends.errors import BackendProtocolError
from backends.protocol import Json
from backends.wire.unicode import decoded, repaired

LARGEST_COUNT = 2**31 - 1
"""The largest Int of GraphQL (specification, section 3.5.1), and of an integer column."""

MOST_LEVELS = 64
"""How deep JSON may be that is handed on, as deep as callers may send it back."""

LARGEST_SIZE = 2**53 - 1
"""The largest integer that a JavaScript number holds exactly."""


def json_value(data: bytes) -> Json:
    """Decode JSON, and what some servers take for it: NaN, infinite numbers, control characters, odd bytes.

    Strings of such a document may hold halves of characters; `as_text` and `backends.wire.unicode` repair them. Raises
    ValueError for what is no JSON at all.
    """
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        try:
            return json.loads(decoded(data).removeprefix("\ufeff"), strict=False)
        except RecursionError:
            raise ValueError("the JSON is nested too deeply") from None


def is_document(data: bytes) -> bool:
    """Tell whether this is a whole JSON object or list, which nothing can follow."""
    try:
        return isinstance(json_value(data), dict | list)
    except ValueError:
        return False


_BARE = re.compile(rb'("(?:[^"\\]|\\.)*")|[-+]?\b(?:nan|inf|infinity|none|undefined)\b(?:\(\w*\))?', re.IGNORECASE)
"""Strings, and what C, Python and JavaScript print for numbers and values that are none."""


def read_json(data: bytes) -> Json:
    """Decode a piece of an answer, as `json_value` does, and with `nan` and the like in it.

    Raises BackendProtocolError for what is no JSON.
    """
    try:
        return json_value(data)
    except ValueError:
        pass
    try:
        return json_value(_BARE.sub(lambda found: found[1] or b"null", data))
    except ValueError:
        raise BackendProtocolError("The model server sent malformed JSON.") from None


def as_object(value: Json) -> dict[str, Json]:
    """Give an object; an empty one for everything else."""
    return value if isinstance(value, dict) else {}  # pyright: ignore[reportUnknownVariableType] - a cast takes time


def as_list(value: Json) -> list[Json]:
    """Give a list; an empty one for everything else."""
    return value if isinstance(value, list) else []  # pyright: ignore[reportUnknownVariableType]


def as_text(value: Json) -> str:
    """Give a string; an empty one for everything else."""
    return repaired(value) if isinstance(value, str) else ""


def storable(value: Json, levels: int = MOST_LEVELS) -> Json:
    """Give the same JSON as every other party takes it: whole characters, finite numbers of at most 64 bits.

    Raises ValueError for what is nested too deeply.
    """
    match value:
        case dict() | list() if not levels:
            raise ValueError("the JSON is nested too deeply")
        case str():
            return repaired(value)
        case dict():
            return {repaired(name): storable(item, levels - 1) for name, item in cast("dict[str, Json]", value).items()}
        case list():
            return [storable(item, levels - 1) for item in cast("list[Json]", value)]
        case float() if not math.isfinite(value):
            return None
        case int() if not -(2**63) <= value < 2**64:
            return float(value) if abs(value) < 10**300 else None
        case _:
            return value


def as_count(value: Json, most: int = LARGEST_COUNT) -> int | None:
    """Give a whole number from 0 to `most`; None, "not told", for everything else.

    A float without a fraction is its integer. A number that makes no sense costs its field, and never the answer.
    """
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if type(value) is int and 0 <= value <= most else None


def as_number(value: Json) -> float | None:
    """Give a finite number as a float; None, "not told", for everything else."""
    if type(value) not in (int, float) or not abs(value) <= sys.float_info.max:
        return None
    return float(value)


def as_milliseconds(value: Json, per_millisecond: int = 1) -> int | None:
    """Give whole milliseconds of a duration, of which `per_millisecond` units make one; None as `as_count` does."""
    if type(value) not in (int, float) or not 0 <= value <= LARGEST_SIZE:
        return None
    return as_count(int(value // per_millisecond))


def as_size(value: Json) -> int | None:
    """Give a number of bytes, parameters or nanoseconds, as `as_count` does."""
    return as_count(value, LARGEST_SIZE)


def as_moment(value: Json) -> datetime | None:
    """Give a moment with an offset (RFC 3339); None, "not told", for everything else."""
    try:
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
    return None if moment.tzinfo is None else moment
