"""What may go to a model server and into the store: text and JSON that every one of them can read, and pictures.

Everything here is legal in GraphQL or JSON, and yet there are readers that stumble over it: some databases keep no
U+0000, some parsers no integer beyond 64 bits, and deep nesting ends many of them.
"""

import binascii
import re
from math import isfinite
from typing import cast

from gateway.errors import InvalidInput, cut

MAX_JSON_DEPTH = 64
MAX_JSON_VALUES = 10_000
MAX_KEY_LENGTH = 1_000
MAX_INTEGER = 2**63

PICTURES = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF87a": "image/gif",
    b"GIF89a": "image/gif",
    b"BM": "image/bmp",
    b"II*\0": "image/tiff",
    b"MM\0*": "image/tiff",
}
"""How the kinds of pictures begin; of WebP and AVIF the beginning alone does not tell."""

_DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+)?((?:;[\w.+-]+=[^;,]*)*);base64,", re.IGNORECASE)
_LONGEST_DATA_URL_HEAD = 200


def check_text(value: str | None, field: str) -> None:
    """Raises InvalidInput for text that cannot be sent or kept."""
    if value is not None and (reason := _wrong_text(value)):
        raise InvalidInput(field, f"{reason}.")


def check_json(value: object, field: str) -> None:
    """Raises InvalidInput for JSON that cannot be sent or kept, naming the whole value as `field`."""
    level, values = [value], 0
    for _ in range(MAX_JSON_DEPTH + 1):
        values += len(level)
        if values > MAX_JSON_VALUES:
            raise InvalidInput(field, f"may hold at most {MAX_JSON_VALUES:,} values.")
        below: list[object] = []
        for part in level:
            if isinstance(part, dict):
                for key, inner in cast("dict[str, object]", part).items():
                    _check_key(key, field)
                    below.append(inner)
            elif isinstance(part, list):
                below += cast("list[object]", part)
            elif reason := _wrong_leaf(part):
                raise InvalidInput(field, f"{reason}.")
        if not below:
            return
        level = below
    raise InvalidInput(field, f"may be at most {MAX_JSON_DEPTH} levels deep.")


def picture(value: str, field: str) -> str:
    """The base64 of a picture, which may come as a data URL. Raises InvalidInput for everything else."""
    head = _DATA_URL.match(value, 0, _LONGEST_DATA_URL_HEAD)
    if head is None and value[:5].lower() == "data:":
        raise InvalidInput(field, "a data URL of a picture must be in base64: data:image/png;base64,…")
    encoded = value if head is None else value[head.end() :]
    if any(white in encoded for white in " \t\r\n"):  # as `base64` breaks its lines
        encoded = "".join(encoded.split())
    try:
        data = binascii.a2b_base64(encoded, strict_mode=True)
    except (binascii.Error, ValueError):
        raise InvalidInput(field, "must be a picture in base64, or a data URL of one.") from None
    if media_type(data) is None:
        raise InvalidInput(field, "must be a picture: PNG, JPEG, GIF, WebP, BMP, TIFF or AVIF.")
    return encoded


def media_type(data: bytes) -> str | None:
    """The media type of a picture by its first bytes; None for what is no picture."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    if data[4:12] in {b"ftypavif", b"ftypavis"}:
        return "image/avif"
    return next((kind for start, kind in PICTURES.items() if data.startswith(start)), None)


def _check_key(key: str, field: str) -> None:
    if len(key) > MAX_KEY_LENGTH:
        raise InvalidInput(field, f"may have keys of at most {MAX_KEY_LENGTH:,} characters.")
    if reason := _wrong_text(key):
        raise InvalidInput(field, f"{reason}, as the key {cut(key)!r} does.")


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
