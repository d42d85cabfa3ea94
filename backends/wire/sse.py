"""Decodes server-sent events, the stream format of OpenAI-compatible servers.

The rules are those of the HTML standard, section 9.2.6 "Interpreting an event stream".
"""

from dataclasses import dataclass

from backends.errors import BackendProtocolError
from backends.wire.json import is_document
from backends.wire.lines import MAX_LINE_BYTES, LineDecoder

DONE = b"[DONE]"
"""OpenAI's mark of the end, the only data that is no JSON."""

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class ServerSentEvent:
    """One event. `data` stays bytes, since a JSON decoder takes them as they are."""

    data: bytes
    event: str = "message"


class SseDecoder:
    """Bytes in, events out. `id` and `retry` are not kept: a model's answer is never resumed.

    The standard drops an event that the stream's end cuts off. Some servers leave out the empty line behind the last
    one, so `end` gives it; whoever reads it decides whether it is whole.
    """

    def __init__(self, max_event_bytes: int = MAX_LINE_BYTES) -> None:
        self._max = max_event_bytes
        self._lines = LineDecoder(max_event_bytes)
        self._data: list[bytes] = []
        self._held = 0
        self._event = b""
        self._first = True

    def feed(self, data: bytes) -> list[ServerSentEvent]:
        """Give the events that are whole now, also where the empty line that ends one does not come.

        Raises BackendProtocolError when a line, or the data of one event, is longer than the bound.
        """
        events: list[ServerSentEvent] = []
        for line in self._lines.feed(data):
            if self._first:
                self._first = False
                line = line.removeprefix(_BYTE_ORDER_MARK)
            if line:
                self._field(line)
            elif (event := self._dispatch()) is not None:
                events.append(event)
        if self._data or data.endswith((b"}", b"]")):
            events += self._unended()
        return events

    def _unended(self) -> list[ServerSentEvent]:
        """Give the event that is open if its data cannot go on, being a JSON document or the mark of the end."""
        name, _, value = self._lines.begun.partition(b":")
        data = b"\n".join([*self._data, value] if name == b"data" else self._data)
        return self.end() if name in {b"", b"data"} and (data.strip() == DONE or is_document(data)) else []

    def end(self) -> list[ServerSentEvent]:
        """Give the event that the end of the stream has left open, if there is one."""
        for line in self._lines.end():
            self._field(line)
        event = self._dispatch()
        return [] if event is None else [event]

    def _field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
            self._held += len(value) + 1
            if self._held > self._max + 1:
                raise BackendProtocolError(f"The model server sent an event longer than {self._max} bytes.")
        elif name == b"event":
            self._event = value

    def _dispatch(self) -> ServerSentEvent | None:
        data, event = self._data, self._event
        self._data, self._held, self._event = [], 0, b""
        if not data:
            return None
        return ServerSentEvent(b"\n".join(data), event.decode(errors="replace") if event else "message")
