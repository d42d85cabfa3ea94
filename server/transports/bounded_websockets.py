"""uvicorn's WebSocket protocol, with bounds on what is on its way in: on one connection, on all, and for how long.

uvicorn ends a connection for one message that is too long, and with it all its operations. So messages are let in up to
somewhat more than is allowed, for the endpoint to refuse the one operation. Until the endpoint knows its client, little
is let in.
"""

import asyncio
from typing import Any
from uuid import UUID

from starlette.types import Scope
from uvicorn.config import Config
from uvicorn.server import ServerState
from websockets.http11 import Request

from gateway.errors import Overloaded
from server.transports.bodies import SLOWEST_BODY, UNCOUNTED, BodyLimits, Held
from server.transports.uvicorn_protocol import QuietWebSocketProtocol

EXTENSION = "ollagraph.known"
"""The extension of the ASGI scope with a function that lets in larger messages."""

TRY_LATER = 1013


class BoundedWebSocketProtocol(QuietWebSocketProtocol):
    """One connection. `limits` are those of the application."""

    limits: BodyLimits

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._held = Held(self.limits.in_flight)
        self._waiting = 0
        self._begun = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._let_in(self.limits.anonymous)

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        scope: Scope | None = getattr(self, "scope", None)
        if scope is not None:  # else the handshake was refused
            scope["extensions"][EXTENSION] = self._let_in_more

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        before, self._waiting = self._waiting, len(self.conn.reader.buffer) + sum(map(len, self.frames))
        if self._waiting < before or self._waiting <= UNCOUNTED:  # a message has come to its end
            self._stop_timer()
        if self._waiting > UNCOUNTED and self._timer is None:
            self._begun = self.loop.time()
            self._expect_the_rest()
        try:
            self._held.keep(self._waiting)
        except Overloaded:  # be it of all, or of this caller
            self._fail("Too much is being read at once (OLLAGRAPH_MAX_BYTES_IN_FLIGHT)")

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        self._held.keep(0)
        super().connection_lost(exc)

    def _expect_the_rest(self) -> None:
        """End the connection when its message does not come on: what it holds, others cannot send."""
        due = self._begun + self.limits.timeout + self._waiting / SLOWEST_BODY
        if self.loop.time() < due:
            self._timer = self.loop.call_at(due, self._expect_the_rest)
        else:
            self._fail("The message did not come in time (OLLAGRAPH_REQUEST_TIMEOUT)")

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fail(self, reason: str) -> None:
        self._stop_timer()
        self.conn.fail(TRY_LATER, reason)
        self.handle_parser_exception()

    def _let_in_more(self, caller: UUID) -> None:
        self._held.belong_to(caller)
        self._let_in(self.limits.known)

    def _let_in(self, allowed: int) -> None:
        """Let in messages up to twice what is allowed, and at least so much that a refusal can be told."""
        self.conn.max_message_size = 2 * allowed + UNCOUNTED


def known(scope: Scope, caller: UUID) -> None:
    """Tell the connection that its client is known, and may send more."""
    let_in = scope.get("extensions", {}).get(EXTENSION)
    if let_in is not None:
        let_in(caller)


def bounded_websocket_protocol(limits: BodyLimits) -> type[QuietWebSocketProtocol]:
    """Give the protocol class with its limits: uvicorn makes the objects, and knows nothing of ours."""
    return type("BoundedWebSocketProtocol", (BoundedWebSocketProtocol,), {"limits": limits})
