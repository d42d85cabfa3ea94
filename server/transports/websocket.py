"""GraphQL over WebSocket by the protocol graphql-transport-ws: one connection, many operations at once."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import ExitStack, aclosing
from dataclasses import dataclass
from uuid import uuid4

import anyio
from anyio.abc import TaskGroup
from graphql import GraphQLError, OperationType
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from auth.credentials import Credentials, read_connection_params, read_credentials
from auth.errors import AuthenticationError, ExpiredToken
from auth.principal import Principal
from db.clock import now
from db.engine import DatabaseUnavailable
from gateway.errors import DatabaseDown, TransportErrorCode
from schema.context import Context
from server.graphql import Executor, NotRead, Operation, RequestError, Response, TooMuchJson, raised
from server.logs import UNOBSERVED, RequestLine, RequestObserver, request_line, trace_id_of
from server.transports.bodies import BodyLimits, too_large
from server.transports.bounded_websockets import known
from server.transports.callers import Callers, client_of
from server.transports.credential_watch import CredentialWatch, open_credentials
from server.transports.limits import ConnectionLimiter, TooManyConnections
from server.transports.uvicorn_protocol import sender
from server.transports.websocket_messages import (
    SUBPROTOCOL,
    ClientMessage,
    CloseCode,
    Complete,
    ConnectionInit,
    InvalidMessage,
    Ping,
    Pong,
    Subscribe,
    byte_length,
    find_id,
    parse_message,
    pong,
    server_message,
)

logger = logging.getLogger(__name__)

MAX_REASON_BYTES = 123
"""The longest close reason (RFC 6455, section 5.5)."""


class _Closing(Exception):
    """The connection must end with this code."""

    def __init__(self, code: CloseCode, reason: str) -> None:
        self.code = code
        super().__init__(reason)


INIT_SECONDS = 5.0
"""How long a client may take to send `connection_init`."""


@dataclass(frozen=True, slots=True)
class SocketLimits:
    """Seconds for `connection_init` to come, for its credentials to be checked, for a message to be taken, and without
    operations; operations at once.
    """

    check_timeout: float
    send_timeout: float
    idle_timeout: float
    operations: int
    init_timeout: float = INIT_SECONDS


@dataclass(frozen=True, slots=True)
class GraphQLOverWebSocket:
    """The endpoint, as an ASGI application."""

    executor: Executor
    callers: Callers
    body_limits: BodyLimits
    limits: SocketLimits
    watch: CredentialWatch
    limiter: ConnectionLimiter
    observer: RequestObserver = UNOBSERVED

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection until either side ends it."""
        websocket = WebSocket(scope, receive, send)
        if SUBPROTOCOL not in scope.get("subprotocols", ()):
            await websocket.accept()
            await _close(websocket, CloseCode.SUBPROTOCOL_NOT_ACCEPTABLE, f"Speak the subprotocol {SUBPROTOCOL}")
            return
        await websocket.accept(subprotocol=SUBPROTOCOL)
        with ExitStack() as held:
            await _Connection(websocket, self, held).serve()


class _Connection:
    """One connection. All its operations live in one task group and end with it."""

    def __init__(self, websocket: WebSocket, endpoint: GraphQLOverWebSocket, held: ExitStack) -> None:
        self._websocket = websocket
        self._client = client_of(websocket)
        self._executor = endpoint.executor
        self._callers = endpoint.callers
        self._limits = endpoint.limits
        self._most = endpoint.body_limits.anonymous
        self._endpoint = endpoint
        self._held = held
        self._traceparent: object = websocket.headers.get("traceparent")
        self._sending: anyio.Lock | None = None
        self._send_now = sender(websocket.scope)
        self._operations: dict[str, anyio.CancelScope] = {}
        self._credentials: Credentials | None = None
        self._principal: Principal | None = None
        self._acknowledged = False
        self._init_came = False
        self._token_expired = False
        self._idle_since = anyio.current_time()
        self._closing: _Closing | None = None
        self._scope = anyio.CancelScope()
        # timers, and no tasks: those were a tenth of what an idle connection takes
        self._patience: asyncio.TimerHandle | None = None
        self._expiry: asyncio.TimerHandle | None = None

    async def serve(self) -> None:
        """Run the connection to its end and close it with the code that tells why."""
        self._look_after(self._limits.init_timeout, self._expect_init)
        try:
            with self._scope:
                async with anyio.create_task_group() as tasks:
                    await self._receive(tasks)
                    tasks.cancel_scope.cancel()
        except* _Closing as group:
            self._closing = _first(group)
        except* WebSocketDisconnect:
            pass
        finally:
            for timer in (self._patience, self._expiry):
                if timer is not None:
                    timer.cancel()
        if self._closing is not None:
            await _close(self._websocket, self._closing.code, str(self._closing))

    def _look_after(self, seconds: float, look: Callable[[], None]) -> None:
        """Look whether the client has done what is next to do, instead of what was to do before."""
        if self._patience is not None:
            self._patience.cancel()
        self._patience = asyncio.get_running_loop().call_later(seconds, look)

    def _end(self, closing: _Closing) -> None:
        """End the connection from outside of its tasks."""
        self._closing = closing
        self._scope.cancel()

    async def _receive(self, tasks: TaskGroup) -> None:
        while True:
            frame = await self._websocket.receive()
            if frame["type"] == "websocket.disconnect":
                return
            text: str | None = frame.get("text")
            if text is not None and byte_length(text, self._most) > self._most:
                await self._refuse(text)
                continue
            try:
                message = parse_message(text)
            except NotRead as error:
                await self._refuse(text or "", error)
                continue
            except InvalidMessage as error:
                raise _Closing(CloseCode.BAD_REQUEST, str(error)) from error
            await self._take(message, tasks)

    async def _take(self, message: ClientMessage, tasks: TaskGroup) -> None:
        match message:
            case ConnectionInit(payload):
                await self._init(payload, tasks)
            case Ping(payload):
                await self._send(pong(payload))
            case Pong():
                pass
            case Subscribe():
                await self._subscribe(message, tasks)
            case Complete(id):
                if id in self._operations:
                    scope = self._operations[id]
                    self._done(id, scope)
                    scope.cancel()

    async def _refuse(self, text: str, reason: NotRead | None = None) -> None:
        """Refuse a message that is too large, or for a reason, and with it the one operation that it would begin."""
        id = find_id(text)
        if not self._acknowledged or id is None:
            if reason is not None:
                raise _Closing(CloseCode.BAD_REQUEST, str(reason))
            raise _Closing(CloseCode.TOO_LARGE, f"A message may have at most {self._most:,} bytes")
        if id in self._operations:
            raise _Closing(CloseCode.SUBSCRIBER_EXISTS, f"Subscriber for {id[:64]} already exists")
        context = await self._callers.context(self._credentials, uuid4().hex, self._client)
        if reason is None:
            error = too_large("a message", context, self._endpoint.body_limits)
        else:
            too_much = isinstance(reason, TooMuchJson)
            code = TransportErrorCode.LIMIT_EXCEEDED if too_much else TransportErrorCode.BAD_REQUEST
            error = GraphQLError(str(reason), extensions={"code": code})
        await self._send(server_message("error", id, self._executor.formatted([error], context.request_id)))

    async def _init(self, payload: dict[str, object] | None, tasks: TaskGroup) -> None:
        if self._init_came:
            raise _Closing(CloseCode.TOO_MANY_INIT, "Too many initialisation requests")
        self._init_came = True
        try:
            credentials = read_connection_params(payload) or read_credentials(self._websocket.headers)
            with anyio.fail_after(self._limits.check_timeout):
                principal = credentials and await self._callers.gateway.identity.authentication.authenticate(
                    credentials, self._client
                )
        except AuthenticationError as error:
            raise _Closing(CloseCode.FORBIDDEN, str(error)) from error
        except DatabaseUnavailable as error:
            raise _Closing(CloseCode.TRY_LATER, str(DatabaseDown())) from error
        except TimeoutError as error:
            raise _Closing(CloseCode.TRY_LATER, "The gateway could not check the credentials in time") from error
        try:
            self._held.enter_context(await self._endpoint.limiter.slot(principal, self._websocket.client))
        except TooManyConnections as error:
            raise _Closing(CloseCode.TRY_LATER, f"Too many connections are open ({error.setting})") from error
        held = open_credentials(credentials, principal)
        self._held.enter_context(self._endpoint.watch.watching(held, self._client, self._revoked))
        self._credentials, self._principal = credentials, principal
        self._traceparent = (payload or {}).get("traceparent", self._traceparent)
        if principal is not None:
            self._most = self._endpoint.body_limits.known
            known(self._websocket.scope, principal.user_id)
        self._acknowledged = True
        self._idle_since = anyio.current_time()
        self._expect_work()
        if principal is not None and principal.session_id is not None and principal.expires_at is not None:
            seconds = max(0, (principal.expires_at - now()).total_seconds())
            self._expiry = asyncio.get_running_loop().call_later(seconds, self._expire)
        await self._send(server_message("connection_ack"))

    def _expect_init(self) -> None:
        # The second look is for what had come and was not read: the clock runs on while the process stands still.
        if not self._init_came:
            self._look_after(0.1, self._insist_on_init)

    def _insist_on_init(self) -> None:
        if not self._init_came:
            self._end(_Closing(CloseCode.INIT_TIMEOUT, "Connection initialisation timeout"))

    def _expect_work(self) -> None:
        """End a connection that nobody uses, counted from its acknowledgement."""
        idle = 0 if self._operations else anyio.current_time() - self._idle_since
        if idle >= self._limits.idle_timeout:
            self._end(_Closing(CloseCode.NORMAL, "No operation for a long time"))
        else:
            self._look_after(self._limits.idle_timeout - idle, self._expect_work)

    def _revoked(self, error: AuthenticationError) -> None:
        """End the connection when its session ends, or its API key expires or is revoked."""
        self._end(_Closing(CloseCode.FORBIDDEN, str(error)))

    def _expire(self) -> None:
        self._token_expired = True
        self._end_when_expired()

    def _end_when_expired(self) -> None:
        """End the connection when its access token has expired and nothing runs on it: its client comes with a new one.

        What runs was allowed when it started, and an answer may take longer than a token lasts.
        """
        if self._token_expired and not self._operations:
            self._end(_Closing(CloseCode.FORBIDDEN, str(ExpiredToken())))

    async def _subscribe(self, message: Subscribe, tasks: TaskGroup) -> None:
        if not self._acknowledged:
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
        trace = message.request.extensions.get("traceparent", self._traceparent)
        trace = trace if isinstance(trace, str) else None
        line = RequestLine("operation", request_id, trace_id_of(trace), trace)
        with request_line(line, self._endpoint.observer), scope:
            try:
                context = await self._callers.context(self._credentials, request_id, self._client)
                if isinstance(context.refused, AuthenticationError) and not self._runs_others(context.refused):
                    raise _Closing(CloseCode.FORBIDDEN, str(context.refused))
                operation = self._executor.prepare(message.request, context.nobody)
                await self._callers.count_sign_ins(operation, self._client)
                await self._run(message.id, operation, context, scope)
            except (_Closing, WebSocketDisconnect):
                raise
            except RequestError as error:
                await self._answer(message.id, self._executor.refusal(error, request_id), scope)
            except Exception as error:  # masked for this operation; the others go on
                response = {"errors": self._executor.formatted([raised(error)], request_id)}
                await self._answer(message.id, response, scope)
        self._done(message.id, scope)

    def _runs_others(self, refused: AuthenticationError) -> bool:
        """Tell whether an expired token only keeps this operation from beginning: others go on."""
        return isinstance(refused, ExpiredToken) and len(self._operations) > 1

    async def _run(self, id: str, operation: Operation, context: Context, scope: anyio.CancelScope) -> None:
        if operation.type is OperationType.SUBSCRIPTION:
            result = await self._executor.subscribe(operation, context)
        else:
            result = await self._executor.execute(operation, context)
        if isinstance(result, AsyncGenerator):
            await self._stream(id, result)
            # the id is free again before the client can know it
            self._done(id, scope)
            await self._send(server_message("complete", id))
        else:
            await self._answer(id, result, scope)

    async def _answer(self, id: str, response: Response, scope: anyio.CancelScope) -> None:
        """Send the one response of an operation, and end it."""
        if "data" in response:
            await self._send(server_message("next", id, response))
            self._done(id, scope)
            await self._send(server_message("complete", id))
        else:
            self._done(id, scope)
            await self._send(server_message("error", id, response["errors"]))

    async def _stream(self, id: str, responses: AsyncGenerator[Response, None]) -> None:
        async with aclosing(responses):
            async for response in responses:
                await self._send(server_message("next", id, response))

    def _done(self, id: str, scope: anyio.CancelScope) -> None:
        if self._operations.get(id) is scope:
            del self._operations[id]
            self._idle_since = anyio.current_time()
            if self._token_expired:  # in the next turn: this one tells that the operation is complete
                asyncio.get_running_loop().call_soon(self._end_when_expired)

    async def _send(self, text: bytes) -> None:
        """Send one frame. A client that does not take it in time loses the connection, not the gateway its memory."""
        if (self._sending is None or not self._sending.locked()) and self._send_now(text):
            return
        self._sending = self._sending or anyio.Lock()
        with anyio.move_on_after(self._limits.send_timeout) as timeout:
            async with self._sending:
                await self._send_frame(text)
        if timeout.cancelled_caught:
            raise _Closing(CloseCode.TRY_LATER, "The client does not read")

    async def _send_frame(self, text: bytes) -> None:
        try:
            await self._websocket.send({"type": "websocket.send", "text": text.decode()})
        except RuntimeError:  # the connection was closed meanwhile, by either side
            raise WebSocketDisconnect(1006) from None


async def _close(websocket: WebSocket, code: CloseCode, reason: str) -> None:
    """Say why the connection ends, if the client is still there."""
    with anyio.move_on_after(1, shield=True):
        try:
            await websocket.close(code, reason.encode()[:MAX_REASON_BYTES].decode(errors="ignore"))
        except (WebSocketDisconnect, RuntimeError):
            logger.debug("the client had left before the connection was closed with %d", code)


def _too_many(most: int) -> GraphQLError:
    return GraphQLError(
        f"There are {most} operations under way on this connection, and no more are allowed. Wait for one to end.",
        extensions={"code": TransportErrorCode.LIMIT_EXCEEDED, "limit": most, "retryable": True},
    )


def _first(group: BaseExceptionGroup[_Closing]) -> _Closing:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, _Closing)  # noqa: S101 - `except*` lets nothing else in
    return error
