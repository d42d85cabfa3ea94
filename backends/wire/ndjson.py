"""Decodes newline-delimited JSON, the stream format of Ollama's own API."""

from backends.wire.json import is_document
from backends.wire.lines import MAX_LINE_BYTES, LineDecoder


class NdjsonDecoder:
    """Bytes in, lines of JSON out: empty lines are skipped, what a line holds is not yet decoded.

    Decoding is left to the reader (`wire.read_json`), so that a malformed line does not take the good lines
    before it down with it.
    """

    def __init__(self, max_line_bytes: int = MAX_LINE_BYTES) -> None:
        self._lines = LineDecoder(max_line_bytes)

    def feed(self, data: bytes) -> list[bytes]:
        """Give the documents that are whole now. Raises BackendProtocolError for a line over the bound.

        A whole document is given before its line end, which may never come.
        """
        lines = self._lines.feed(data)
        if len(lines) == 1 and lines[0].startswith(b"{") and data.endswith(b"\n"):  # nearly every read
            return lines
        if data.endswith(b"}") and is_document(self._lines.begun):
            lines += self._lines.end()
        return [line for line in lines if line.strip()]

    def end(self) -> list[bytes]:
        """Give the last document when the stream ended without a line end."""
        return [line for line in self._lines.end() if line.strip()]
