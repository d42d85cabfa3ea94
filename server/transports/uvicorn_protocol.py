"""uvicorn's protocols, with what it leaves to others.

HTTP: a bound on how slowly and how long a request's head may come, a way to hang up, and work that ends when its client
leaves. uvicorn has a time-out between requests and none for the head of one: a client that sends a byte now and then
holds its connection for ever ("slow loris", CWE-400). The body's time is the endpoint's business. ASGI has no way to
end a response before its time: an application that just returns counts as broken, and is logged as an error. And it
tells that a client has left only to a task that waits for just that, one more for each request.

WebSockets: an end for every handshake, and no traceback that a client can provoke.
"""

import asyncio
import logging
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from struct import pack
from typing import Any, cast

import anyio
from starlette.types import Scope
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request
from websockets.protocol import State

from gateway.latch import Latch

logger = logging.getLogger(__name__)

MAX_HEAD_SIZE = 65_536
"""Bytes of a request line with its headers."""

MOST_BEHIND = 16
"""Requests that may wait on one connection behind the one that runs, each with a body of up to `HIGH_WATER_LIMIT`."""

_HANG_UP = "ollagraph.hang_up"
_UNTIL_LEFT = "ollagraph.until_left"
_CONTINUE = b"HTTP/1.1 100 "


def hang_up(scope: Scope) -> None:
    """Cut the connection of a request whose response will not be completed; the client is to see that."""
    cut: Callable[[], None] | None = scope.get("extensions", {}).get(_HANG_UP)
    if cut is not None:
        cut()


def until_left(scope: Scope) -> AbstractContextManager[anyio.CancelScope]:
    """Make the block in which a request is worked on: it is cancelled when the client leaves, or has left by now."""
    return scope["extensions"][_UNTIL_LEFT]()


class WholeResponse:
    """Writes the head of a response together with what follows, where its length says that something does.

    uvicorn writes them one by one, in two packets and two system calls, for which the client wakes up twice. The head
    of a stream, which has no length, goes out at once.
    """

    __slots__ = ("_begun", "_head", "_transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._begun = False
        self._head = b""

    def write(self, data: bytes) -> None:
        if self._begun:
            if self._head:
                data, self._head = self._head + data, b""
            self._transport.write(data)
            return
        self._begun = not data.startswith(_CONTINUE)
        if self._begun and b"\r\ncontent-length: " in data:
            self._head = data
        else:
            self._transport.write(data)

    def close(self) -> None:
        if self._head:  # the application failed before the body
            self._transport.write(self._head)
        self._transport.close()

    def is_closing(self) -> bool:
        return self._transport.is_closing()


class BoundedHttpProtocol(HttpToolsProtocol):
    """One connection, on which one request runs at a time: those that came behind it wait in `pipeline`.

    `head_timeout` is in seconds. Beyond `max_connections` of one process, requests are refused.
    """

    head_timeout: float
    max_connections: int | None
    _is_too_many = False
    _waiting: asyncio.TimerHandle | None = None
    _head_size = 0
    _running: RequestResponseCycle | None = None
    _work: anyio.CancelScope | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride] - as uvicorn's own
        super().connection_made(transport)
        self._is_too_many = self.max_connections is not None and len(self.connections) > self.max_connections
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_came()
        super().connection_lost(exc)
        if self._running is not None:  # uvicorn tells the last request, which may wait behind this one
            self._running.disconnected = True
        if self._work is not None:
            self._work.cancel()
        self._let_go()

    def handle_websocket_upgrade(self) -> None:
        if self._running is not None and not self._running.response_complete:
            self._close_now()  # the answer to the request that runs would come among the frames
            return
        super().handle_websocket_upgrade()
        self._let_go()

    def _let_go(self) -> None:
        """Give up what refers to this connection in a circle, and would stay with it until garbage collection."""
        self.parser = self.scope = self.cycle = self._running = cast("Any", None)

    def data_received(self, data: bytes) -> None:
        if self._is_too_many:  # not before it sends: to close with bytes unread would reset the connection
            self._refuse(b"503 Service Unavailable\r\nretry-after: 1")
            return
        if self._waiting is not None:
            self._head_size += len(data)
        super().data_received(data)
        if self._waiting is not None and self._head_size > MAX_HEAD_SIZE:
            self._refuse(b"431 Request Header Fields Too Large")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self._waiting is None:  # another request on a connection that is kept
            self._expect_head()

    def on_headers_complete(self) -> None:
        self._head_came()
        super().on_headers_complete()
        if self.cycle is not None and self.cycle.scope is self.scope:  # pyright: ignore[reportUnnecessaryComparison] - None at first
            scope = cast("Scope", self.scope)
            scope["extensions"] = {_HANG_UP: self._hang_up, _UNTIL_LEFT: self._until_left}
            if not self.pipeline:
                self._running = self.cycle
            self._read_on()
            if scope["method"] != "HEAD":  # where nothing follows, whatever length there is
                self.cycle.transport = cast("asyncio.Transport", WholeResponse(self.transport))

    def on_body(self, body: bytes) -> None:
        super().on_body(body)
        self._read_on()

    def _read_on(self) -> None:
        """Go on reading behind the request that runs: else nobody would notice that the client leaves.

        uvicorn stops, so that one connection cannot fill the memory. Here one that sends too much is closed. No client
        that is in use sends a request before it has the answer to the last one.
        """
        if self.cycle is self._running:
            return
        if len(self.pipeline) > MOST_BEHIND or len(self.cycle.body) > HIGH_WATER_LIMIT:
            self._close_now()
        else:
            self.flow.resume_reading()

    def _close_now(self) -> None:
        if not self.transport.is_closing():
            logger.warning("a connection was closed: its client sent too much without waiting for answers")
            self.transport.abort()

    def on_response_complete(self) -> None:
        if self.pipeline:
            self._running = self.pipeline[-1][0]
        super().on_response_complete()

    @contextmanager
    def _until_left(self) -> Generator[anyio.CancelScope]:
        with anyio.CancelScope() as self._work:
            if self.transport.is_closing():
                self._work.cancel()
            try:
                yield self._work
            finally:
                self._work = None

    def _hang_up(self) -> None:
        if self._running is not None:
            self._running.disconnected = True
        self.transport.close()

    def _expect_head(self) -> None:
        self._head_size = 0
        self._waiting = self.loop.call_later(self.head_timeout, self._refuse, b"408 Request Timeout")

    def _head_came(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _refuse(self, status: bytes) -> None:
        self._head_came()
        if not self.transport.is_closing():
            self.transport.write(b"HTTP/1.1 " + status + b"\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
            self.transport.close()


def bounded_http_protocol(head_timeout: float, max_connections: int | None) -> type[HttpToolsProtocol]:
    """Give the protocol class with its bounds: uvicorn makes the objects, and knows nothing of ours."""
    bounds = {"head_timeout": head_timeout, "max_connections": max_connections}
    return type("BoundedHttpProtocol", (BoundedHttpProtocol,), bounds)


_SEND_NOW = "ollagraph.send_now"


def sender(scope: Scope) -> Callable[[bytes], bool]:
    """Give what sends a text at once over a WebSocket, and tells whether it could: else it has to be awaited.

    A frame for each token is most of what a gateway sends. On its way through ASGI it costs a lock, a time-out and a
    step of the event loop, twice as much as the sending itself, though next to none has to wait.
    """
    return scope.get("extensions", {}).get(_SEND_NOW, _never)


def _never(text: bytes) -> bool:
    return False


_BAD_REQUEST = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class _Inbox:
    """What uvicorn uses of an `asyncio.Queue`, which has four deques, 3 kB of an idle connection."""

    __slots__ = ("_came", "_messages")

    def __init__(self) -> None:
        self._came = Latch()
        self._messages: list[Any] = []

    def put_nowait(self, message: Any) -> None:
        self._messages.append(message)
        self._came.set()

    def empty(self) -> bool:
        return not self._messages

    async def get(self) -> Any:
        while not self._messages:
            self._came.clear()
            await self._came.wait()
        return self._messages.pop(0)


def _text_frame(text: bytes) -> bytes:
    """Make a frame of a whole text, as a server sends it: without a mask (RFC 6455, section 5.2).

    websockets makes one in 14 calls, a fourteenth of all that a token takes.
    """
    length = len(text)
    if length < 126:
        return b"\x81%c%b" % (length, text)
    if length < 65_536:
        return pack("!BBH", 0x81, 126, length) + text
    return pack("!BBQ", 0x81, 127, length) + text


class QuietWebSocketProtocol(WebSocketsSansIOProtocol):
    """One connection."""

    def __init__(self, *arguments: Any, **others: Any) -> None:
        super().__init__(*arguments, **others)
        self.queue = cast("asyncio.Queue[Any]", _Inbox())
        self.writable = cast("asyncio.Event", Latch())
        self.writable.set()

    def handle_connect(self, event: Request) -> None:
        """Begin the handshake. What comes before its end waits: uvicorn and websockets fail on frames until then."""
        super().handle_connect(event)
        scope: Scope | None = getattr(self, "scope", None)
        if scope is not None:  # else the handshake was refused
            scope["extensions"][_SEND_NOW] = self.send_now
            self.transport.pause_reading()

    def send_now(self, text: bytes) -> bool:
        """Send a text, unless the client does not keep up, or either side has closed the connection."""
        if not self.writable.is_set() or self.disconnected or self.close_sent or self.transport.is_closing():
            return False
        if self.conn.state is not State.OPEN or self.conn.extensions or self.conn.writes:
            return False
        self.transport.write(_text_frame(text))
        return True

    def data_received(self, data: bytes) -> None:
        """Take what came. A handshake that cannot be read is refused: uvicorn would leave its connection open."""
        try:
            super().data_received(data)
        except UnicodeError:  # in the path of the handshake
            self._refuse()
        else:
            if self.conn.handshake_exc is not None and not self.handshake_initiated:
                self._refuse()

    def send_receive_event_to_app(self) -> None:
        """Hand on a message. A text that is none closes the connection with 1007, as in RFC 6455, section 8.1."""
        if self.curr_msg_data_type == "text" and not self.close_sent:
            try:
                b"".join(self.frames).decode()
            except UnicodeDecodeError:
                if self.conn.state is State.OPEN:  # else the client has closed it behind that, which is what counts
                    self.conn.send_close(1007)
                    self.handle_parser_exception()
                return
        super().send_receive_event_to_app()

    async def send(self, message: Any) -> None:
        """Send. An answer of HTTP in place of the handshake completes that, too, which uvicorn takes for an error."""
        await super().send(message)
        if message["type"] == "websocket.accept" and self.handshake_complete:
            # kept as long as the connection lasts, the one by uvicorn and by what websockets parses frames with: 6 kB
            self.request.headers.clear()
            del self.request, self.response
            self.transport.resume_reading()
        if self.initial_response is not None and self.close_sent:
            self.handshake_complete = True

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        scope: Scope | None = getattr(self, "scope", None)
        if scope is not None:
            scope["extensions"] = {}  # they refer to this connection, which refers to them

    def shutdown(self) -> None:
        """Hang up, because the server stops. A handshake that was under way ends there: the client sees 500."""
        super().shutdown()
        if not self.handshake_complete:
            self.handshake_complete = self.disconnected = True

    def _refuse(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(_BAD_REQUEST)
            self.transport.close()
