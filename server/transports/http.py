"""GraphQL over HTTP: all operations by POST, queries also by GET.

What the client accepts decides the form: one JSON response, or a stream of responses, for a subscription always.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import ExitStack, aclosing, asynccontextmanager, nullcontext
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import anyio
import orjson
from anyio.lowlevel import checkpoint_if_cancelled
from graphql import GraphQLError, OperationType
from starlette.datastructures import Headers, QueryParams
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response as HttpResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from auth.credentials import Credentials
from auth.errors import AuthenticationError
from gateway.errors import RETRY_AFTER_SECONDS, Overloaded, TransportErrorCode
from gateway.identity import OpenCredentials
from gateway.request_limits import TooManyRequests
from schema.context import Context
from server.graphql import (
    BadRequest,
    Executor,
    GraphQLRequest,
    NotForNobody,
    Operation,
    RequestError,
    Response,
    parse_request,
    raised,
    read_json,
)
from server.transports.bodies import SLOWEST_BODY, BodyLimits, too_large
from server.transports.callers import Callers, client_of, credentials_of
from server.transports.credential_watch import CredentialWatch, open_credentials
from server.transports.http_stream import Allowed, EndStream, HttpStream, StreamHead, StreamLimits
from server.transports.limit_headers import limit_headers
from server.transports.limits import ConnectionLimiter, TooManyConnections, too_many_headers
from server.transports.negotiation import GRAPHQL_RESPONSE, JSON, OFFERS, is_json, negotiate
from server.transports.session_cookies import SessionCookies
from server.transports.stream_framing import EVENT_STREAM, FRAMINGS, MULTIPART
from server.transports.uvicorn_protocol import until_left

ONE_RESPONSE = (*OFFERS, EVENT_STREAM)
"""For queries and mutations. First JSON: urql, for one, allows event streams for every operation."""

SUBSCRIPTION = (EVENT_STREAM, MULTIPART)
ANY = (*OFFERS, EVENT_STREAM, MULTIPART)

MAX_ID_DIGITS = 15

WATCHED_AFTER = 1.0
"""Seconds after which the credentials of an operation that waits for a model are looked at again, as of streams."""

_Numbered = AsyncGenerator[tuple[Response, int | None], None]


class _Refusal(Exception):
    """The request is answered with an HTTP status of its own before any GraphQL."""

    def __init__(self, status: HTTPStatus, error: GraphQLError | str, headers: Mapping[str, str] | None = None) -> None:
        self.status = status
        self.headers = headers
        self.error = (
            GraphQLError(error, extensions={"code": TransportErrorCode.BAD_REQUEST})
            if isinstance(error, str)
            else error
        )
        super().__init__(self.error.message)


@dataclass(frozen=True, slots=True)
class GraphQLOverHttp:
    """The endpoint, as an ASGI application."""

    executor: Executor
    callers: Callers
    body_limits: BodyLimits
    body_timeout: float
    stream_limits: StreamLimits
    watch: CredentialWatch
    limiter: ConnectionLimiter
    open_streams: set[anyio.CancelScope]
    cookies: SessionCookies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. A client who leaves ends the work on its answer."""
        request = Request(scope, receive)
        accept = request.headers.get("accept")
        try:
            _negotiated(accept, ANY)
            answer = await self._answer(request, accept)
        except _Refusal as refusal:
            answer = self._refused(request, refusal)
        except TooManyRequests as error:
            refusal = _Refusal(HTTPStatus.TOO_MANY_REQUESTS, raised(error), too_many_headers(error))
            answer = self._refused(request, refusal)
        except ClientDisconnect:
            return
        except Exception as error:  # masked for this request; what is sent by others goes on
            answer = self._refused(request, _Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, raised(error)))
        if answer is not None:
            await answer(scope, receive, send)

    def _refused(self, request: Request, refusal: _Refusal) -> HttpResponse:
        body: Response = {"errors": self.executor.formatted([refusal.error], request.state.request_id)}
        media_type = negotiate(request.headers.get("accept"), OFFERS) or JSON
        return _json(body, media_type, refusal.status, refusal.headers)

    async def _answer(self, request: Request, accept: str | None) -> ASGIApp | None:
        """Give what to answer with; None when the client has left.

        Who asks is looked up first: what may be sent, and what is done with it, depends on that.
        """
        _check_head(request)
        credentials = credentials_of(request)
        context = await self.callers.context(credentials, request.state.request_id, client_of(request))
        context.last_event_id = _last_event_id(request.headers)
        graphql_request = await self._read(request, context)
        try:
            operation = self.executor.prepare(graphql_request, context.nobody)
        except RequestError as error:
            offers = ANY
            if isinstance(error, NotForNobody):
                _check_method(request, error.type)
                offers = _offers(error.type)
            return self._only(self.executor.refusal(error, request.state.request_id), _negotiated(accept, offers))
        _check_method(request, operation.type)
        media_type = _negotiated(accept, _offers(operation.type))
        await self.callers.count_sign_ins(operation, context.client)
        if media_type in FRAMINGS:
            return self._stream(request, operation, media_type, credentials, context)
        context.cookie = self.cookies.read(request)
        context.sign_in_cookie = self.cookies.read_sign_in(request)
        response = await self._execute(request, operation, credentials, context)
        if response is None:
            return None
        answer = self._one_json(response, media_type)
        answer.headers.update(limit_headers(context.limits_told))
        self.cookies.write(request, context.cookie, answer.headers)
        self.cookies.write_sign_in(request, context.sign_in_cookie, answer.headers)
        return answer

    def _only(self, response: Response, media_type: str) -> ASGIApp:
        """Give the one response of an operation, with the status of its kind and form."""
        if media_type in FRAMINGS:
            return self._http_stream(_one(response), StreamHead(dict), media_type, lambda _: nullcontext())
        return self._one_json(response, media_type)

    def _one_json(self, response: Response, media_type: str) -> HttpResponse:
        if "data" in response or media_type != GRAPHQL_RESPONSE:
            return _json(response, media_type)
        codes = {error["extensions"]["code"] for error in response["errors"]}
        status = (
            HTTPStatus.INTERNAL_SERVER_ERROR if TransportErrorCode.INTERNAL_ERROR in codes else HTTPStatus.BAD_REQUEST
        )
        return _json(response, media_type, status)

    def _stream(
        self,
        request: Request,
        operation: Operation,
        media_type: str,
        credentials: Credentials | AuthenticationError | None,
        context: Context,
    ) -> ASGIApp:
        @asynccontextmanager
        async def allowed(end: EndStream) -> AsyncGenerator[None]:
            def revoked(error: AuthenticationError) -> None:
                end(self._ended(error, context))

            held = self._held(credentials, context)
            with self.watch.watching(held, context.client, revoked), ExitStack() as slots:
                try:
                    slots.enter_context(await self.limiter.slot(context.principal, request.client))
                except TooManyConnections as error:
                    end(self.executor.formatted([_too_many_streams(error)], context.request_id))
                yield

        head = StreamHead(lambda: limit_headers(context.limits_told))
        return self._http_stream(self._responses(operation, context, head), head, media_type, allowed)

    def _http_stream(self, responses: _Numbered, head: StreamHead, media_type: str, allowed: Allowed) -> HttpStream:
        return HttpStream(responses, head, FRAMINGS[media_type], self.stream_limits, allowed, self.open_streams)

    async def _read(self, request: Request, context: Context) -> GraphQLRequest:
        try:
            if request.method == "GET":
                if len(request.url.query) > self.body_limits.of(context):
                    raise self._too_large("the query string", context)
                return parse_request(_parameters(request.query_params))
            begun = anyio.current_time()
            in_flight, caller = self.body_limits.in_flight, context.principal and context.principal.user_id
            with anyio.fail_after(self.body_timeout) as timeout, in_flight.holding(caller) as held:
                body = bytearray()
                async for chunk in self._chunks(request, context):
                    body += chunk
                    held.keep(len(body))
                    timeout.deadline = begun + self.body_timeout + len(body) / SLOWEST_BODY
                return parse_request(read_json(bytes(body)))
        except TimeoutError as error:
            message = (
                f"The body did not come within {self.body_timeout:g} s, and a second for each {SLOWEST_BODY:,} bytes."
            )
            raise _Refusal(HTTPStatus.REQUEST_TIMEOUT, message, {"Connection": "close"}) from error
        except Overloaded as error:
            raise _Refusal(
                HTTPStatus.SERVICE_UNAVAILABLE, raised(error), {"Retry-After": str(RETRY_AFTER_SECONDS)}
            ) from error
        except BadRequest as error:
            raise _Refusal(HTTPStatus.BAD_REQUEST, str(error)) from error

    async def _chunks(self, request: Request, context: Context) -> AsyncGenerator[bytes, None]:
        most = self.body_limits.of(context)
        length = request.headers.get("content-length", "")
        if length.isdecimal() and int(length) > most:
            raise self._too_large("the body", context)
        size = 0
        async for chunk in request.stream():
            size += len(chunk)
            if size > most:
                raise self._too_large("the body", context)
            yield chunk

    def _too_large(self, what: str, context: Context) -> _Refusal:
        error = too_large(what, context, self.body_limits)
        if isinstance(context.refused, AuthenticationError):
            return _Refusal(HTTPStatus.UNAUTHORIZED, error, {"WWW-Authenticate": "Bearer"})
        if context.refused is not None:
            return _Refusal(HTTPStatus.SERVICE_UNAVAILABLE, error, {"Retry-After": str(RETRY_AFTER_SECONDS)})
        return _Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, error)

    async def _execute(
        self,
        request: Request,
        operation: Operation,
        credentials: Credentials | AuthenticationError | None,
        context: Context,
    ) -> Response | None:
        """Run the operation. None: the client has left.

        One that takes long, as to generate does, ends when its credentials hold no longer.
        """
        response: Response | None = None
        with until_left(request.scope) as work, ExitStack() as stack:

            def revoked(error: AuthenticationError) -> None:
                nonlocal response
                response = {"data": None, "errors": self._ended(error, context)}
                work.cancel()

            held = self._held(credentials, context) if operation.generates else None
            if held is not None:
                # later: most are over by then. What does not wait for a model is short, and may end its own session
                watching = self.watch.watching(held, context.client, revoked)
                watch = asyncio.get_running_loop().call_later(WATCHED_AFTER, stack.enter_context, watching)
                stack.callback(watch.cancel)
            await checkpoint_if_cancelled()  # resolvers would be made, and never awaited
            response = await self.executor.execute(operation, context)
        return response

    def _held(self, credentials: Credentials | AuthenticationError | None, context: Context) -> OpenCredentials | None:
        given = None if isinstance(credentials, AuthenticationError) else credentials
        return open_credentials(given, context.principal)

    def _ended(self, error: AuthenticationError, context: Context) -> list[dict[str, Any]]:
        return self.executor.formatted([GraphQLError(str(error), original_error=error)], context.request_id)

    async def _responses(self, operation: Operation, context: Context, head: StreamHead) -> _Numbered:
        """Run the operation as a stream of responses, be it of one; those of events with their sequence numbers.

        A subscription begins the head before its first event, which takes along what there is to tell of limits.
        """
        if operation.type is not OperationType.SUBSCRIPTION:
            yield await self.executor.execute(operation, context), None
            return
        result = await self.executor.subscribe(operation, context)
        head.begin()
        if not isinstance(result, AsyncGenerator):
            yield result, None
            return
        async with aclosing(result):
            async for response in result:
                yield response, context.sequence  # noqa: ASYNC119 - the stream that iterates closes it


def _too_many_streams(error: TooManyConnections) -> GraphQLError:
    return GraphQLError(
        f"You have too many streams over HTTP open ({error.setting}). Wait for one to end, or use one WebSocket.",
        extensions={"code": TransportErrorCode.LIMIT_EXCEEDED, "limit": error.limit, "retryable": True},
    )


def _last_event_id(headers: Headers) -> int | None:
    """Read what a client that reconnects has seen (HTML standard, section 9.2.4): an id that this endpoint gave."""
    value = headers.get("last-event-id", "")
    if value and not (value.isascii() and value.isdecimal() and len(value) <= MAX_ID_DIGITS):
        raise _Refusal(HTTPStatus.BAD_REQUEST, "The header Last-Event-ID must be the id of an event of this stream.")
    return int(value) if value else None


def _offers(type: OperationType) -> tuple[str, ...]:
    return SUBSCRIPTION if type is OperationType.SUBSCRIPTION else ONE_RESPONSE


def _check_method(request: Request, type: OperationType) -> None:
    """Refuse a GET of what is no query. Raises _Refusal."""
    if request.method == "GET" and type is not OperationType.QUERY:
        kind = type.value.capitalize()
        raise _Refusal(HTTPStatus.METHOD_NOT_ALLOWED, f"{kind}s must be sent by POST.", {"Allow": "POST"})


def _check_head(request: Request) -> None:
    """Refuse what tells by its head alone that it is no GraphQL request. Raises _Refusal."""
    if request.method == "GET":
        return
    if request.method != "POST":
        raise _Refusal(HTTPStatus.METHOD_NOT_ALLOWED, "Use POST, or GET for a query.", {"Allow": "GET, POST"})
    if not is_json(request.headers.get("content-type")):
        raise _Refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"The body must be {JSON} in UTF-8.")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        encoding = {"Accept-Encoding": "identity"}  # RFC 9110, section 15.5.16
        raise _Refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "The body must not be compressed.", encoding)


async def _one(response: Response) -> _Numbered:
    yield response, None


def _negotiated(accept: str | None, offers: tuple[str, ...]) -> str:
    """Give the media type to answer in. Raises _Refusal."""
    media_type = negotiate(accept, offers)
    if media_type is None:
        raise _Refusal(
            HTTPStatus.NOT_ACCEPTABLE,
            f"Accept must allow one of {', '.join(offers)}."
            + (" Subscriptions are served over WebSocket, too." if offers == SUBSCRIPTION else ""),
        )
    return media_type


def _parameters(query: QueryParams) -> dict[str, Any]:
    """Give the parameters of a GET, where objects are JSON in a string (GraphQL over HTTP, section 5.3)."""
    parameters: dict[str, Any] = dict(query)
    for name in ("variables", "extensions"):
        if parameters.get(name):
            parameters[name] = read_json(parameters[name])
        else:
            parameters.pop(name, None)
    return parameters


def _json(
    body: Response, media_type: str, status: HTTPStatus = HTTPStatus.OK, headers: Mapping[str, str] | None = None
) -> HttpResponse:
    content_type = f"{media_type}; charset=utf-8"
    return HttpResponse(orjson.dumps(body), status, headers, media_type=content_type)
