"""GraphQL over WebSocket by the protocol graphql-transport-ws: one connection, many operations at once."""

import logging
from collections.abc import AsyncGenerator
from contextlib import ExitStack, aclosing
from dataclasses import dataclass
from enum import IntEnum
from uuid import uuid4

import anyio
from anyio.abc import TaskGroup
from graphql import GraphQLError, OperationType
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from auth.credentials import Credentials, read_connection_params, read_credentials
from auth.errors import AuthenticationError
from db.engine import DatabaseUnavailable
from gateway.errors import DatabaseDown, ErrorCode
from server.callers import Callers
from server.credential_watch import CredentialWatch
from server.execution import Executor, Operation, RequestError, Response
from server.seats import Seats, holder
from server.websocket_messages import (
    SUBPROTOCOL,
    Complete,
    ConnectionInit,
    InvalidMessage,
    Ping,
    Pong,
    Subscribe,
    parse_message,
    server_message,
)

logger = logging.getLogger(__name__)

MAX_REASON_BYTES = 123
"""The longest close reason (RFC 6455, section 5.5)."""


class CloseCode(IntEnum):
    """Why a connection ends. Clients decide by the code whether they come back."""

    NORMAL = 1000
    GOING_AWAY = 1001
    RESTART = 1012
    TRY_LATER = 1013
    BAD_REQUEST = 4400
    UNAUTHORIZED = 4401
    FORBIDDEN = 4403
    SUBPROTOCOL_NOT_ACCEPTABLE = 4406
    INIT_TIMEOUT = 4408
    SUBSCRIBER_EXISTS = 4409
    TOO_MANY_INIT = 4429


class _Closing(Exception):
    """The connection must end with this code."""

    def __init__(self, code: CloseCode, reason: str) -> None:
        self.code = code
        super().__init__(reason)


@dataclass(frozen=True, slots=True)
class SocketLimits:
    """Seconds for `connection_init` to come, for its credentials to be checked, for a message to be taken, and without
    operations; operations at once."""

    init_timeout: float = 5
    check_timeout: float = 10
    send_timeout: float = 15
    idle_timeout: float = 300
    operations: int = 20


@dataclass(frozen=True, slots=True)
class GraphQLOverWebSocket:
    """The endpoint, as an ASGI application."""

    executor: Executor
    callers: Callers
    limits: SocketLimits
    watch: CredentialWatch
    seats: Seats

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection until either side ends it."""
        websocket = WebSocket(scope, receive, send)
        if SUBPROTOCOL not in scope.get("subprotocols", ()):
            await websocket.accept()
            await websocket.close(CloseCode.SUBPROTOCOL_NOT_ACCEPTABLE, f"Speak the subprotocol {SUBPROTOCOL}")
            return
        await websocket.accept(subprotocol=SUBPROTOCOL)
        with ExitStack() as held:
            await _Connection(websocket, self, held).serve()


class _Connection:
    """One connection. All its operations live in one task group and end with it."""

    def __init__(self, websocket: WebSocket, endpoint: GraphQLOverWebSocket, held: ExitStack) -> None:
        self._websocket = websocket
        self._executor = endpoint.executor
        self._callers = endpoint.callers
        self._limits = endpoint.limits
        self._endpoint = endpoint
        self._held = held
        self._sending = anyio.Lock()
        self._operations: dict[str, anyio.CancelScope] = {}
        self._credentials: Credentials | None = None
        self._acknowledged = anyio.Event()
        self._initialised = anyio.Event()
        self._idle_since = anyio.current_time()
        self._lost: AuthenticationError | None = None
        self._credentials_lost = anyio.Event()

    async def serve(self) -> None:
        """Run the connection to its end and close it with the code that tells why."""
        closing: _Closing | None = None
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._expect_init)
                tasks.start_soon(self._expect_work)
                tasks.start_soon(self._expect_loss)
                await self._receive(tasks)
                tasks.cancel_scope.cancel()
        except* _Closing as group:
            closing = _first(group)
        except* WebSocketDisconnect:
            pass
        if closing is not None:
            await self._close(closing)

    async def _receive(self, tasks: TaskGroup) -> None:
        while True:
            frame = await self._websocket.receive()
            if frame["type"] == "websocket.disconnect":
                return
            try:
                message = parse_message(frame.get("text"))
            except InvalidMessage as error:
                raise _Closing(CloseCode.BAD_REQUEST, str(error)) from error
            match message:
                case ConnectionInit(payload):
                    await self._init(payload)
                case Ping(payload):
                    await self._send(server_message("pong", payload=payload))
                case Pong():
                    pass
                case Subscribe():
                    await self._subscribe(message, tasks)
                case Complete(id):
                    if id in self._operations:
                        scope = self._operations[id]
                        self._done(id, scope)
                        scope.cancel()

    async def _init(self, payload: dict[str, object] | None) -> None:
        if self._initialised.is_set():
            raise _Closing(CloseCode.TOO_MANY_INIT, "Too many initialisation requests")
        self._initialised.set()
        try:
            credentials = read_connection_params(payload) or read_credentials(self._websocket.headers)
            principal = credentials and await self._callers.gateway.identity.authenticate(credentials)
        except AuthenticationError as error:
            raise _Closing(CloseCode.FORBIDDEN, str(error)) from error
        except DatabaseUnavailable as error:
            raise _Closing(CloseCode.TRY_LATER, str(DatabaseDown())) from error
        if not self._held.enter_context(self._endpoint.seats.seat(holder(principal, self._websocket.client))):
            raise _Closing(CloseCode.TRY_LATER, f"Too many connections: {self._endpoint.seats.most} are open")
        self._held.enter_context(self._endpoint.watch.watching(credentials, self._lose))
        self._credentials = credentials
        self._acknowledged.set()
        await self._send(server_message("connection_ack"))

    async def _expect_init(self) -> None:
        with anyio.move_on_after(self._limits.init_timeout) as timeout:
            await self._initialised.wait()
        if timeout.cancelled_caught:
            raise _Closing(CloseCode.INIT_TIMEOUT, "Connection initialisation timeout")
        with anyio.move_on_after(self._limits.check_timeout) as timeout:
            await self._acknowledged.wait()
        if timeout.cancelled_caught:  # the client was prompt
            raise _Closing(CloseCode.TRY_LATER, "The gateway could not check the credentials in time")

    async def _expect_work(self) -> None:
        """End a connection that nobody uses."""
        while True:
            idle = 0 if self._operations else anyio.current_time() - self._idle_since
            if idle >= self._limits.idle_timeout:
                raise _Closing(CloseCode.NORMAL, "No operation for a long time")
            await anyio.sleep(self._limits.idle_timeout - idle)

    def _lose(self, error: AuthenticationError) -> None:
        self._lost = error
        self._credentials_lost.set()

    async def _expect_loss(self) -> None:
        """End the connection when its credentials expire or are revoked."""
        await self._credentials_lost.wait()
        raise _Closing(CloseCode.FORBIDDEN, str(self._lost))

    async def _subscribe(self, message: Subscribe, tasks: TaskGroup) -> None:
        if not self._acknowledged.is_set():
            raise _Closing(CloseCode.UNAUTHORIZED, "Unauthorized")
        if message.id in self._operations:
            raise _Closing(CloseCode.SUBSCRIBER_EXISTS, f"Subscriber for {message.id[:64]} already exists")
        if len(self._operations) >= self._limits.operations:
            errors = self._executor.formatted([_too_many(self._limits.operations)], uuid4().hex)
            await self._send(server_message("error", message.id, errors))
            return
        scope = self._operations[message.id] = anyio.CancelScope()
        tasks.start_soon(self._operate, message, scope)

    async def _operate(self, message: Subscribe, scope: anyio.CancelScope) -> None:
        """Run one operation to its end. Its failure is its own: the others on the socket go on."""
        request_id = uuid4().hex
        with scope:
            try:
                operation = self._executor.prepare(message.request)
            except RequestError as error:
                self._done(message.id, scope)
                errors = self._executor.formatted(error.errors, request_id)
                await self._send(server_message("error", message.id, errors))
                return
            await self._run(message.id, operation, request_id, scope)
        self._done(message.id, scope)

    async def _run(self, id: str, operation: Operation, request_id: str, scope: anyio.CancelScope) -> None:
        client = self._websocket.client
        context = await self._callers.context(self._credentials, request_id, client.host if client else None)
        if isinstance(context.refused, AuthenticationError):
            raise _Closing(CloseCode.FORBIDDEN, str(context.refused))
        if operation.type is OperationType.SUBSCRIPTION:
            result = await self._executor.subscribe(operation, context)
        else:
            result = await self._executor.execute(operation, context)
        if isinstance(result, AsyncGenerator):
            await self._stream(id, result)
        elif "data" not in result:
            self._done(id, scope)
            await self._send(server_message("error", id, result["errors"]))
            return
        else:
            await self._send(server_message("next", id, result))
        # the id is free again before the client can know it
        self._done(id, scope)
        await self._send(server_message("complete", id))

    async def _stream(self, id: str, responses: AsyncGenerator[Response, None]) -> None:
        async with aclosing(responses):
            async for response in responses:
                await self._send(server_message("next", id, response))

    def _done(self, id: str, scope: anyio.CancelScope) -> None:
        if self._operations.get(id) is scope:
            del self._operations[id]
            self._idle_since = anyio.current_time()

    async def _send(self, text: str) -> None:
        """Send one frame. A client that does not take it in time loses the connection, not the gateway its memory."""
        with anyio.move_on_after(self._limits.send_timeout) as timeout:
            async with self._sending:
                await self._websocket.send({"type": "websocket.send", "text": text})
        if timeout.cancelled_caught:
            raise _Closing(CloseCode.TRY_LATER, "The client does not read")

    async def _close(self, closing: _Closing) -> None:
        reason = str(closing).encode()[:MAX_REASON_BYTES].decode(errors="ignore")
        with anyio.move_on_after(1, shield=True):
            try:
                await self._websocket.close(closing.code, reason)
            except (WebSocketDisconnect, RuntimeError):
                logger.debug("the client had left before the connection was closed with %d", closing.code)


def _too_many(most: int) -> GraphQLError:
    return GraphQLError(
        f"There are {most} operations under way on this connection, and no more are allowed. Wait for one to end.",
        extensions={"code": ErrorCode.LIMIT_EXCEEDED, "limit": most, "retryable": True},
    )


def _first(group: BaseExceptionGroup[_Closing]) -> _Closing:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, _Closing)  # noqa: S101 - `except*` lets nothing else in
    return error
