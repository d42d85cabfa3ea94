"""The responses of one operation as one HTTP response that stays open."""

import logging
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass
from typing import Any

import anyio
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint, checkpoint_if_cancelled
from starlette.types import Message, Receive, Scope, Send

from server.graphql import Response
from server.transports.stream_framing import Framing
from server.transports.uvicorn_protocol import hang_up, until_left

logger = logging.getLogger(__name__)

LONGEST_HEAD_WAIT = 1.0
"""Seconds for which the head of a stream waits for its operation to begin: no client may take it for dead."""


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """Seconds: for a client to take what is sent, and of silence until a heartbeat is sent."""

    send_timeout: float
    heartbeat_interval: float


Json = dict[str, Any]
EndStream = Callable[[list[Json]], None]
"""Ends a stream before its time, with the errors that say why."""

Allowed = Callable[[EndStream], AbstractAsyncContextManager[None]]


class StreamHead:
    """Headers of a stream that are not known before its operation has begun, as those that tell of limits.

    A generation has begun, or was refused, after one transaction, however slow its model is; the head waits for that,
    and no longer than `LONGEST_HEAD_WAIT`. `read` gives what is known when it is called.
    """

    def __init__(self, read: Callable[[], Mapping[str, str]]) -> None:
        self._read = read
        self._begun = anyio.Event()
        self._headers: Mapping[str, str] = {}

    def begin(self) -> None:
        """Keep the headers as they are now, and let the head be sent."""
        if not self._begun.is_set():
            self._headers = self._read()
            self._begun.set()

    async def headers(self) -> Mapping[str, str]:
        """Wait for the operation, and give the headers."""
        with anyio.move_on_after(LONGEST_HEAD_WAIT):
            await self._begun.wait()
        self.begin()
        return self._headers


@dataclass(frozen=True, slots=True)
class HttpStream:
    """An ASGI application that sends responses until there are no more, or until the client leaves or stops reading.

    Whichever ends first ends the others: the responses and the heartbeat are one task group.
    `responses` come with the sequence numbers of their events; the first one begins the `head`, if nothing has before.
    `allowed` makes the block in which they are sent; it may end them with the function that it is given. Who cancels
    the scopes in `open_streams` cuts the connections, which tells clients to come back.
    """

    responses: AsyncGenerator[tuple[Response, int | None], None]
    head: StreamHead
    framing: Framing
    limits: StreamLimits
    allowed: Allowed
    open_streams: set[anyio.CancelScope]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send everything."""
        complete = False
        with until_left(scope) as work:
            self.open_streams.add(work)
            try:
                async with aclosing(self.responses):
                    await checkpoint_if_cancelled()  # who has left by now starts nothing
                    async with anyio.create_task_group() as tasks:
                        await self._send_responses(_Sender(send, self.limits.send_timeout, work), tasks)
                        complete = True
            finally:
                self.open_streams.discard(work)
        if not complete:
            hang_up(scope)

    async def _send_responses(self, sender: "_Sender", tasks: TaskGroup) -> None:
        tasks.start_soon(self._open, sender)
        reasons: list[list[Json]] = []

        def end(errors: list[Json]) -> None:
            reasons.append(errors)
            sending.cancel()

        with anyio.CancelScope() as sending:
            async with self.allowed(end):
                if not reasons:
                    await self._send_all(sender)
        self.head.begin()
        for errors in reasons[:1]:
            await sender.body(self.framing.failure(errors))
        await sender.body(self.framing.end, last=True)

    async def _open(self, sender: "_Sender") -> None:
        """Send the head when its time has come, and keep the stream alive from then on."""
        await sender.open(_start(self.framing, await self.head.headers()), self.framing.opening)
        await sender.beat(self.framing.heartbeat, self.limits.heartbeat_interval)

    async def _send_all(self, sender: "_Sender") -> None:
        async for response, sequence in self.responses:
            self.head.begin()
            await sender.body(self.framing.next(response, sequence))


class _Sender:
    """Sends one message after the other, each within its time; a client that does not read ends everything."""

    def __init__(self, send: Send, timeout: float, scope: anyio.CancelScope) -> None:
        self._send = send
        self._timeout = timeout
        self._scope = scope
        self._lock = anyio.Lock()
        self._opened = anyio.Event()
        self._silent = False
        self._ended = anyio.Event()

    async def open(self, start: Message, opening: bytes) -> None:
        """Send the head, which every piece of the body waits for, and what the body begins with."""
        await self._message(start)
        await self._message({"type": "http.response.body", "body": opening, "more_body": True})
        self._opened.set()

    async def body(self, body: bytes, *, last: bool = False) -> None:
        """Send a piece of the body, the last one once."""
        if not self._opened.is_set():
            await self._opened.wait()
        await self._message({"type": "http.response.body", "body": body, "more_body": not last})

    async def _message(self, message: Message) -> None:
        """Send, or cancel the scope."""
        self._silent = False
        with anyio.move_on_after(self._timeout) as timeout:
            async with self._lock:
                if not self._ended.is_set():
                    if message.get("more_body") is False:
                        self._ended.set()
                    await self._send(message)
        if timeout.cancelled_caught:
            logger.warning("a client left its stream unread for %g s; the stream was ended", self._timeout)
            self._scope.cancel()
            await checkpoint()

    async def beat(self, heartbeat: bytes, interval: float) -> None:
        """Break every silence that lasts, to the end of the stream."""
        while not self._ended.is_set():
            self._silent = True
            with anyio.move_on_after(interval):
                await self._ended.wait()
            if self._silent:
                await self.body(heartbeat)


def _start(framing: Framing, more: Mapping[str, str]) -> Message:
    headers = {
        "content-type": framing.content_type,
        "x-accel-buffering": "no",  # nginx would hold the tokens back
        **{name.lower(): value for name, value in more.items()},
    }
    return {
        "type": "http.response.start",
        "status": 200,
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }
