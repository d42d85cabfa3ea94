"""Tool calls as models and their servers write them: in pieces, under odd indexes, as objects, or as text of text."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from uuid import uuid4

import orjson

from backends.errors import BackendProtocolError
from backends.protocol import Json, ToolCall
from backends.wire import MAX_LINE_BYTES, as_count, as_object, as_text, json_value, repaired, storable


def tool_call(call: dict[str, Json]) -> ToolCall:
    """Read a call that came whole: `{"id": …, "function": {"name": …, "arguments": …}}`, or all of it in one object."""
    function = as_object(call.get("function")) or call
    return _made(as_text(call.get("id")), as_text(function.get("name")), function.get("arguments"))


@dataclass(slots=True)
class _Partial:
    """A call whose arguments are still coming, as pieces of JSON text, or as one JSON value."""

    id: str
    name: str = ""
    pieces: list[str] = field(default_factory=list[str])
    length: int = 0
    value: Json = None

    def add(self, arguments: Json) -> None:
        if not isinstance(arguments, str):
            self.value = arguments if self.value is None else self.value
            return
        if self.pieces == ["{}"] and arguments.strip():  # a beginning that only says what kind of value is to come
            self.pieces.clear()
        self.pieces.append(arguments)
        self.length += len(arguments)
        if self.length > MAX_LINE_BYTES:
            raise BackendProtocolError(f"The arguments of a tool call are longer than {MAX_LINE_BYTES} characters.")

    @property
    def is_whole(self) -> bool:
        """Whether its arguments are there, so that another name begins another call."""
        return self.value is not None or _parsed("".join(self.pieces)) is not None

    def made(self) -> ToolCall:
        return _made(self.id, self.name, self.value if self.value is not None else "".join(self.pieces))


class ToolCallPieces:
    """Puts calls together from the pieces of a stream."""

    def __init__(self) -> None:
        self._calls: list[_Partial] = []
        self._by_index: dict[int, _Partial] = {}

    def __bool__(self) -> bool:
        return bool(self._calls)

    def add(self, piece: dict[str, Json]) -> None:
        """Take one piece. Raises BackendProtocolError for arguments that are too long."""
        function = as_object(piece.get("function")) or piece
        id, name, index = as_text(piece.get("id")), as_text(function.get("name")), _index(piece.get("index"))
        call = self._continued(index, id, name)
        if call is None:
            call = _Partial(id)
            self._calls.append(call)
        if index is not None:
            self._by_index[index] = call
        call.id = call.id or id
        call.name = call.name or name
        call.add(function.get("arguments"))

    def calls(self) -> Iterator[ToolCall]:
        """Give the calls in the order in which they began."""
        return (call.made() for call in self._calls)

    def _continued(self, index: int | None, id: str, name: str) -> _Partial | None:
        """Find the call that a piece belongs to; None where it begins one.

        Another id is another call, also under the same index. Without one, a name begins a call where the arguments of
        the one before are whole: some servers repeat the name in each piece.
        """
        if index is None:
            call = next(
                (call for call in self._calls if id and call.id == id), self._calls[-1] if self._calls else None
            )
        else:
            call = self._by_index.get(index)
        if call is None or (id and call.id and call.id != id):
            return None
        if name and call.name and not id and call.is_whole:
            return None
        return call


def _index(value: Json) -> int | None:
    """Give the place of a call, which some servers write as text."""
    return int(value) if isinstance(value, str) and value.isdecimal() and len(value) < 9 else as_count(value)


def _made(id: str, name: str, arguments: Json) -> ToolCall:
    id = id or f"call_{uuid4().hex}"  # an id is needed to answer the call
    if not isinstance(arguments, str):
        try:
            arguments = orjson.dumps(storable(arguments)).decode() if arguments is not None else ""
        except ValueError:
            return ToolCall(id, name, None, "")
    text = repaired(arguments.strip())
    return ToolCall(id, name, _parsed(text), text)


def _parsed(text: str) -> dict[str, Json] | None:
    """Decode arguments; None where they are no object. Nothing, and null, are no arguments."""
    try:
        value: Json = text
        while isinstance(value, str):  # JSON in a string of JSON
            value = json_value(value.encode(errors="surrogateescape")) if value.strip() else None
        value = storable(value)
    except ValueError:
        return None
    if value is None:
        return {}
    return as_object(value) if isinstance(value, dict) else None
