"""Cuts a stream of bytes into lines, which is the first half of both NDJSON and server-sent events."""

from backends.errors import BackendProtocolError

MAX_LINE_BYTES = 1024 * 1024
"""Longest line taken from a model server. One token is some hundred bytes; a whole tool call is one line."""


class LineDecoder:
    r"""Bytes in, whole lines out, however the network cut them.

    Only LF, CR and CRLF end a line, as in the HTML standard's event streams. `str.splitlines` would also cut
    at U+2028, which JSON may hold; `bytes.splitlines` does not. A line is kept as bytes until it is whole, so
    a character cut between two reads is never decoded by halves.
    """

    def __init__(self, max_line_bytes: int = MAX_LINE_BYTES) -> None:
        self._max = max_line_bytes
        self._parts: list[bytes] = []
        self._held = 0
        self._after_cr = False

    def feed(self, data: bytes) -> list[bytes]:
        """Give the lines that are whole now, without their ends; empty lines too.

        Raises BackendProtocolError when a line is longer than the bound.
        """
        if data.find(b"\n") == len(data) - 1 <= self._max and not (self._parts or self._after_cr or b"\r" in data):
            return [data[:-1]] if data else []  # one whole line, as nearly every read is
        if self._after_cr and data:
            self._after_cr = False
            if data.startswith(b"\n"):
                data = data[1:]
        if not data:
            return []
        lines = data.splitlines()
        self._after_cr = data.endswith(b"\r")
        rest = b"" if self._after_cr or data.endswith(b"\n") else lines.pop()
        if lines and self._parts:
            lines[0] = self._join(lines[0])
        if rest:
            self._hold(rest)
        if len(data) > self._max:  # no line is longer than what came, but the first, which was joined
            for line in lines:
                self._check(len(line))
        elif lines:
            self._check(len(lines[0]))
        return lines

    @property
    def begun(self) -> bytes:
        """The line whose end has not come yet."""
        return b"".join(self._parts)

    def end(self) -> list[bytes]:
        """Give the last line when the stream ended without a line end."""
        return [self._join(b"")] if self._parts else []

    def _hold(self, part: bytes) -> None:
        self._parts.append(part)
        self._held += len(part)
        self._check(self._held)

    def _join(self, last: bytes) -> bytes:
        whole = b"".join([*self._parts, last])
        self._parts.clear()
        self._held = 0
        return whole

    def _check(self, length: int) -> None:
        if length > self._max:
            raise BackendProtocolError(f"The model server sent a line longer than {self._max} bytes.")
