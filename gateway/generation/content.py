"""What may go to a model server and into the store: text and JSON that every one of them can read, and media.

Everything here is legal in GraphQL or JSON, and yet there are readers that stumble over it: some databases keep no
U+0000, some parsers no integer beyond 64 bits, and deep nesting ends many of them.
"""

import binascii
import re
from math import isfinite
from typing import cast

from backends.protocol import MediaKind
from gateway.errors import cut
from gateway.media import TAKEN, is_of, media_type

MAX_JSON_DEPTH = 64
MAX_JSON_VALUES = 10_000
MAX_KEY_LENGTH = 1_000
MAX_INTEGER = 2**63

_DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+)?((?:;[\w.+-]+=[^;,]*)*);base64,", re.IGNORECASE)
_LONGEST_DATA_URL_HEAD = 200


def text_problem(value: str) -> str | None:
    """Tell why a text cannot be sent or kept; None if it can."""
    reason = _wrong_text(value)
    return reason and f"{reason}."


def json_problem(value: object) -> str | None:
    """Tell why JSON cannot be sent or kept; None if it can."""
    level, values = [value], 0
    for _ in range(MAX_JSON_DEPTH + 1):
        values += len(level)
        if values > MAX_JSON_VALUES:
            return f"may hold at most {MAX_JSON_VALUES:,} values."
        below: list[object] = []
        for part in level:
            if isinstance(part, dict):
                for key, inner in cast("dict[str, object]", part).items():
                    if reason := _wrong_key(key):
                        return f"{reason}."
                    below.append(inner)
            elif isinstance(part, list):
                below += cast("list[object]", part)
            elif reason := _wrong_leaf(part):
                return f"{reason}."
        if not below:
            return None
        level = below
    return f"may be at most {MAX_JSON_DEPTH} levels deep."


def object_problem(value: object) -> str | None:
    """Tell why a value is no JSON object that can be sent or kept; None if it is one."""
    return json_problem(cast("object", value)) if isinstance(value, dict) else "must be a JSON object."


def media_problem(value: str, kind: MediaKind) -> str | None:
    """Tell why a value is no media of this kind in base64 or in a data URL; None if it is."""
    if value[:5].lower() == "data:" and _DATA_URL.match(value, 0, _LONGEST_DATA_URL_HEAD) is None:
        return "a data URL must be in base64: data:image/png;base64,…"
    try:
        data = binascii.a2b_base64(bare_base64(value), strict_mode=True)
    except (binascii.Error, ValueError):
        return f"must be {TAKEN[kind]} in base64, or a data URL of it."
    found = media_type(data) if data else None
    return None if found is not None and is_of(kind, found) else f"must be {TAKEN[kind]}."


def bare_base64(value: str) -> str:
    """Give base64 without the head of a data URL and without white space."""
    head = _DATA_URL.match(value, 0, _LONGEST_DATA_URL_HEAD)
    encoded = value if head is None else value[head.end() :]
    if any(white in encoded for white in " \t\r\n"):  # as `base64` breaks its lines
        encoded = "".join(encoded.split())
    return encoded


def _wrong_key(key: str) -> str | None:
    if len(key) > MAX_KEY_LENGTH:
        return f"may have keys of at most {MAX_KEY_LENGTH:,} characters"
    reason = _wrong_text(key)
    return reason and f"{reason}, as the key {cut(key)!r} does"


def _wrong_leaf(value: object) -> str | None:
    if isinstance(value, str):
        return _wrong_text(value)
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int):
        return None if -MAX_INTEGER <= value < MAX_INTEGER else "may hold integers of at most 64 bits"
    if isinstance(value, float):
        return None if isfinite(value) else "may hold finite numbers only"
    return "must be JSON"


def _wrong_text(value: str) -> str | None:
    if "\0" in value:
        return "may not hold the character U+0000"
    if value.isascii():
        return None
    try:
        value.encode()
    except UnicodeEncodeError:
        return "may not hold half a surrogate pair"
    return None
