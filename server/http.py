"""GraphQL over HTTP: all operations by POST, queries also by GET.

What the client accepts decides the form: one JSON response, or a stream of responses, for a subscription always.
"""

from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import aclosing, contextmanager, nullcontext
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import anyio
import orjson
from graphql import GraphQLError, OperationType
from starlette.datastructures import Headers, QueryParams
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response as HttpResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from auth.credentials import Credentials, read_credentials
from auth.errors import AuthenticationError
from gateway.errors import ErrorCode
from schema.context import Context
from server.callers import Callers
from server.credential_watch import CredentialWatch
from server.execution import Executor, Operation, RequestError, Response
from server.http_stream import Allowed, EndStream, HttpStream, StreamLimits, cancel_when_left
from server.negotiation import GRAPHQL_RESPONSE, JSON, OFFERS, is_json, negotiate
from server.requests import BadRequest, GraphQLRequest, parse_request
from server.seats import Seats, holder
from server.stream_framing import EVENT_STREAM, FRAMINGS, MULTIPART

ONE_RESPONSE = (*OFFERS, EVENT_STREAM)
"""For queries and mutations. First JSON: urql, for one, allows event streams for every operation."""

SUBSCRIPTION = (EVENT_STREAM, MULTIPART)
ANY = (*OFFERS, EVENT_STREAM, MULTIPART)


class _Refusal(Exception):
    """The request is answered with an HTTP status of 4xx before any GraphQL."""

    def __init__(self, status: HTTPStatus, message: str, headers: Mapping[str, str] | None = None) -> None:
        self.status = status
        self.headers = headers
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class GraphQLOverHttp:
    """The endpoint, as an ASGI application."""

    executor: Executor
    callers: Callers
    max_body_size: int
    body_timeout: float
    stream_limits: StreamLimits
    watch: CredentialWatch
    seats: Seats
    open_streams: set[anyio.CancelScope]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. A client who leaves ends the work on its answer."""
        request = Request(scope, receive)
        accept = request.headers.get("accept")
        try:
            _negotiated(accept, ANY)
            answer = await self._answer(request, accept)
        except _Refusal as refusal:
            body = _error_body(request, ErrorCode.BAD_REQUEST, str(refusal))
            answer = _json(body, negotiate(accept, OFFERS) or JSON, refusal.status, refusal.headers)
        except ClientDisconnect:
            return
        if answer is not None:
            await answer(scope, receive, send)

    async def _answer(self, request: Request, accept: str | None) -> ASGIApp | None:
        """What to answer with; None when the client has left."""
        graphql_request = await self._read(request)
        try:
            operation = self.executor.prepare(graphql_request)
        except RequestError as error:
            errors = self.executor.formatted(error.errors, request.state.request_id)
            return self._request_error({"errors": errors}, _negotiated(accept, ANY))
        if request.method == "GET" and operation.type is not OperationType.QUERY:
            kind = operation.type.value.capitalize()
            raise _Refusal(HTTPStatus.METHOD_NOT_ALLOWED, f"{kind}s must be sent by POST.", {"Allow": "POST"})
        subscribes = operation.type is OperationType.SUBSCRIPTION
        media_type = _negotiated(accept, SUBSCRIPTION if subscribes else ONE_RESPONSE)
        if media_type in FRAMINGS:
            return await self._stream(request, operation, media_type)
        response = await self._execute(request, operation)
        if response is None:
            return None
        return _json(response, media_type) if "data" in response else self._request_error(response, media_type)

    def _request_error(self, response: Response, media_type: str) -> ASGIApp:
        """A response without data, in the form that its client reads errors in."""
        if media_type in FRAMINGS:
            return self._http_stream(_one(response), media_type, lambda _: nullcontext())
        return _json(response, media_type, HTTPStatus.BAD_REQUEST if media_type == GRAPHQL_RESPONSE else HTTPStatus.OK)

    async def _stream(self, request: Request, operation: Operation, media_type: str) -> ASGIApp:
        credentials = _credentials(request.headers)
        context = await self.callers.context(credentials, request.state.request_id, _host(request))

        @contextmanager
        def allowed(end: EndStream) -> Generator[None]:
            def lost(error: AuthenticationError) -> None:
                end(self.executor.formatted([GraphQLError(str(error), original_error=error)], context.request_id))

            held = None if isinstance(credentials, AuthenticationError) else credentials
            with (
                self.seats.seat(holder(context.principal, request.client)) as seated,
                self.watch.watching(held, lost),
            ):
                if not seated:
                    end(self.executor.formatted([_too_many_streams(self.seats.most)], context.request_id))
                yield

        return self._http_stream(self._responses(operation, context), media_type, allowed)

    def _http_stream(self, responses: AsyncGenerator[Response, None], media_type: str, allowed: Allowed) -> HttpStream:
        return HttpStream(responses, FRAMINGS[media_type], self.stream_limits, allowed, self.open_streams)

    async def _read(self, request: Request) -> GraphQLRequest:
        try:
            if request.method == "GET":
                return parse_request(_parameters(request.query_params))
            if request.method != "POST":
                raise _Refusal(HTTPStatus.METHOD_NOT_ALLOWED, "Use POST, or GET for a query.", {"Allow": "GET, POST"})
            if not is_json(request.headers.get("content-type")):
                raise _Refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"The body must be {JSON} in UTF-8.")
            if request.headers.get("content-encoding", "identity").lower() != "identity":
                encoding = {"Accept-Encoding": "identity"}  # RFC 9110, section 15.5.16
                raise _Refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "The body must not be compressed.", encoding)
            with anyio.fail_after(self.body_timeout):
                return parse_request(orjson.loads(await self._body(request)))
        except TimeoutError as error:
            message = f"The body did not come within {self.body_timeout:g} s."
            raise _Refusal(HTTPStatus.REQUEST_TIMEOUT, message, {"Connection": "close"}) from error
        except BadRequest as error:
            raise _Refusal(HTTPStatus.BAD_REQUEST, str(error)) from error
        except orjson.JSONDecodeError as error:
            raise _Refusal(HTTPStatus.BAD_REQUEST, f"The request is not valid JSON: {error}.") from error

    async def _body(self, request: Request) -> bytes:
        too_large = _Refusal(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"The body may have at most {self.max_body_size:,} bytes."
        )
        length = request.headers.get("content-length", "")
        if length.isdecimal() and int(length) > self.max_body_size:
            raise too_large
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > self.max_body_size:
                raise too_large
        return bytes(body)

    async def _execute(self, request: Request, operation: Operation) -> Response | None:
        """Run the operation beside a watch on the client; whichever ends first ends the other. None: it has left."""
        credentials = _credentials(request.headers)
        context = await self.callers.context(credentials, request.state.request_id, _host(request))
        response: Response | None = None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(cancel_when_left, request.receive, tasks.cancel_scope)
            response = await self.executor.execute(operation, context)
            tasks.cancel_scope.cancel()
        return response

    async def _responses(self, operation: Operation, context: Context) -> AsyncGenerator[Response, None]:
        """Run the operation as a stream of responses, be it of one."""
        if operation.type is not OperationType.SUBSCRIPTION:
            yield await self.executor.execute(operation, context)
            return
        result = await self.executor.subscribe(operation, context)
        if not isinstance(result, AsyncGenerator):
            yield result
            return
        async with aclosing(result):
            async for response in result:
                yield response  # noqa: ASYNC119 - the stream that iterates closes it


def _too_many_streams(most: int) -> GraphQLError:
    return GraphQLError(
        f"You have {most} streams over HTTP open, and no more are allowed. Wait for one to end, or use one WebSocket.",
        extensions={"code": ErrorCode.LIMIT_EXCEEDED, "limit": most, "retryable": True},
    )


def _error_body(request: Request, code: ErrorCode, message: str) -> Response:
    return {"errors": [{"message": message, "extensions": {"code": code, "requestId": request.state.request_id}}]}


async def _one(response: Response) -> AsyncGenerator[Response, None]:
    yield response


def _negotiated(accept: str | None, offers: tuple[str, ...]) -> str:
    """The media type to answer in. Raises _Refusal."""
    media_type = negotiate(accept, offers)
    if media_type is None:
        raise _Refusal(
            HTTPStatus.NOT_ACCEPTABLE,
            f"Accept must allow one of {', '.join(offers)}."
            + (" Subscriptions are served over WebSocket, too." if offers == SUBSCRIPTION else ""),
        )
    return media_type


def _host(request: Request) -> str | None:
    return request.client.host if request.client else None


def _credentials(headers: Headers) -> Credentials | AuthenticationError | None:
    try:
        return read_credentials(headers)
    except AuthenticationError as error:
        return error


def _parameters(query: QueryParams) -> dict[str, Any]:
    """The parameters of a GET, where objects are JSON in a string (GraphQL over HTTP, section 5.3)."""
    parameters: dict[str, Any] = dict(query)
    for name in ("variables", "extensions"):
        if parameters.get(name):
            parameters[name] = orjson.loads(parameters[name])
        else:
            parameters.pop(name, None)
    return parameters


def _json(
    body: Response, media_type: str, status: HTTPStatus = HTTPStatus.OK, headers: Mapping[str, str] | None = None
) -> HttpResponse:
    content_type = f"{media_type}; charset=utf-8"
    return HttpResponse(orjson.dumps(body), status, headers, media_type=content_type)
