"""One connection to a model server: HTTP/1.1, parsed in C.

httpcore, which httpx brings, parses with h11, in Python, and hands on each chunk by itself. That was the largest single
part of the gateway's work. httptools is llhttp, the parser of Node.js, with which uvicorn reads requests.
"""

import asyncio
from typing import cast

import httptools
import httpx

MOST_HELD = 256 * 1024
"""Bytes of one answer that wait for their reader; beyond that, the server has to wait."""

_LEFT_OPEN = {204, 304}
"""Statuses whose answers have no body, and no length that says so."""


class Connection(asyncio.Protocol):
    """One request after the other, each with its response as it comes.

    `send` gives the head of a response, `read` its body. What comes while nobody reads waits, and comes as one piece.
    Errors are httpx's own.
    """

    _transport: asyncio.Transport
    """There from the time when the connection stands: nobody has it before."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.unused_since = 0.0
        self._loop = asyncio.get_running_loop()
        self._parser: httptools.HttpResponseParser | None = None
        self._has_head = False
        self._ends_with_connection = False
        self._whole = False
        self._reusable = True
        self._error: httpx.TransportError | None = None
        self._pieces: list[bytes] = []
        self._held = 0
        self._paused = False
        self._interval = 0.0
        self._due = 0.0
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_usable(self) -> bool:
        """Whether another request may be sent: the last response has been read, and both sides keep the connection."""
        unread = self._parser is not None and not self._whole
        return self._reusable and not unread and not self._transport.is_closing()

    async def send(self, *data: bytes) -> None:
        """Send a request, and return when the head of its response has come."""
        if self._transport.is_closing():
            raise self._error or httpx.RemoteProtocolError("The server closed the connection.")
        # A parser for each response: one keeps the trailers of a response for headers of the next (httptools 0.9).
        self._parser = httptools.HttpResponseParser(self)
        self._parser.set_dangerous_leniencies(  # what h11 takes, too, from servers written by hand
            lenient_chunked_length=True, lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True
        )
        self.headers, self._pieces, self._held = [], [], 0
        self._has_head = self._ends_with_connection = self._whole = False
        self._interval = self._due = 0.0
        self._transport.writelines(data)
        while not self._has_head:
            if self._error is not None:
                raise self._error
            await self._wait()

    def gather(self, seconds: float) -> None:
        """Read no more often from now on: what comes in between comes as one piece. The end never waits."""
        self._interval = seconds
        self._due = self._loop.time() + seconds

    async def read(self) -> bytes:
        """Give what has come; nothing at the end of the response."""
        while not (self._whole or self._error or (self._pieces and self._loop.time() >= self._due)):
            await self._wait()
        if not self._pieces:
            if self._error is not None:
                raise self._error
            return b""
        pieces, self._pieces, self._held = self._pieces, [], 0
        if self._paused:
            self._pause(False)
        if self._interval:
            self._due = self._loop.time() + self._interval
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def abort(self) -> None:
        """Close it now, whatever is under way: that is what stops the server's work."""
        self._transport.abort()

    async def _wait(self) -> None:
        self._waiter = self._loop.create_future()
        if self._pieces:
            self._wake()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        """Wake whoever waits: at once, or when the time of gathering is over."""
        if self._waiter is None or self._waiter.done():
            return
        if self._whole or self._error or self._loop.time() >= self._due:
            self._waiter.set_result(None)
        elif self._timer is None:
            self._timer = self._loop.call_at(self._due, self._ring)

    def _ring(self) -> None:
        self._timer = None
        self._wake()

    def _pause(self, paused: bool) -> None:
        if self._paused is not paused and not self._transport.is_closing():
            self._paused = paused
            (self._transport.pause_reading if paused else self._transport.resume_reading)()

    def _fail(self, error: httpx.TransportError) -> None:
        if not self._whole:
            self._error = self._error or error
        self._reusable = False
        self.abort()

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Take what has come in one read."""
        if self._parser is None or self._whole:
            self._fail(httpx.RemoteProtocolError("The server sent more than was asked for."))
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._fail(httpx.RemoteProtocolError(str(error)))
        if self._held > MOST_HELD:
            self._pause(True)
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """End the response, well where it has no other end than this."""
        self._reusable = False
        if exc is None and self._ends_with_connection and self._error is None:
            self._whole = True
        if not self._whole:
            lost = httpx.RemoteProtocolError if exc is None else httpx.ReadError
            self._error = self._error or lost(str(exc or "The server closed the connection."))
        self._parser = None  # it refers to this connection: a circle, which would stay until garbage collection
        self._wake()

    # What the parser calls.

    def on_message_begin(self) -> None:
        """Notice what nobody asked for."""
        if self._whole:
            self._reusable = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; what comes behind the body, a trailer, is left out."""
        if not self._has_head:
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Take the head of the response, or of one that announces it."""
        if self._parser is None or self._whole:
            return
        self.status = self._parser.get_status_code()
        if self.status < 200:
            return
        names = {name.lower() for name, _ in self.headers}
        self._has_head = True
        self._ends_with_connection = (
            not names & {b"content-length", b"transfer-encoding"} and self.status not in _LEFT_OPEN
        )

    def on_body(self, body: bytes) -> None:
        """Take a piece."""
        if not self._whole:
            self._pieces.append(body)
            self._held += len(body)

    def on_message_complete(self) -> None:
        """Take the end."""
        if self.status < 200:
            self.headers.clear()
        elif self._parser is not None and not self._whole:
            self._whole = True
            self._reusable = self._parser.should_keep_alive()
