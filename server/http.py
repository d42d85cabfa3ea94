"""GraphQL over HTTP: queries and mutations by POST, queries by GET."""

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import anyio
import orjson
from graphql import OperationType
from starlette.datastructures import Headers, QueryParams
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response as HttpResponse
from starlette.types import Receive, Scope, Send

from auth.credentials import Credentials, read_credentials
from auth.errors import AuthenticationError
from gateway.errors import ErrorCode
from server.callers import Callers
from server.execution import Executor, Operation, RequestError, Response
from server.negotiation import GRAPHQL_RESPONSE, JSON, OFFERS, is_json, negotiate
from server.requests import BadRequest, GraphQLRequest, parse_request


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

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. A client who leaves ends the work on its answer."""
        request = Request(scope, receive)
        media_type = negotiate(request.headers.get("accept"))
        try:
            if media_type is None:
                raise _Refusal(HTTPStatus.NOT_ACCEPTABLE, f"Accept must allow one of {', '.join(OFFERS)}.")
            response = await self._answer(request, media_type)
        except _Refusal as refusal:
            body = self._error_body(request, ErrorCode.BAD_REQUEST, str(refusal))
            response = _json(body, media_type or JSON, refusal.status, refusal.headers)
        except ClientDisconnect:
            return
        if response is not None:
            await response(scope, receive, send)

    async def _answer(self, request: Request, media_type: str) -> HttpResponse | None:
        graphql_request = await self._read(request)
        request_error = HTTPStatus.BAD_REQUEST if media_type == GRAPHQL_RESPONSE else HTTPStatus.OK
        try:
            operation = self.executor.prepare(graphql_request)
        except RequestError as error:
            errors = self.executor.formatted(error.errors, request.state.request_id)
            return _json({"errors": errors}, media_type, request_error)
        _check_method(request.method, operation)
        response = await self._execute(request, operation)
        if response is None:
            return None
        return _json(response, media_type, HTTPStatus.OK if "data" in response else request_error)

    async def _read(self, request: Request) -> GraphQLRequest:
        try:
            if request.method == "GET":
                return parse_request(_parameters(request.query_params))
            if request.method != "POST":
                raise _Refusal(HTTPStatus.METHOD_NOT_ALLOWED, "Use POST, or GET for a query.", {"Allow": "GET, POST"})
            if not is_json(request.headers.get("content-type")):
                raise _Refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"The body must be {JSON} in UTF-8.")
            return parse_request(orjson.loads(await self._body(request)))
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
        context = await self.callers.context(_credentials(request.headers), request.state.request_id)
        response: Response | None = None
        async with anyio.create_task_group() as tasks:

            async def watch() -> None:
                while (await request.receive())["type"] != "http.disconnect":
                    pass
                tasks.cancel_scope.cancel()

            tasks.start_soon(watch)
            response = await self.executor.execute(operation, context)
            tasks.cancel_scope.cancel()
        return response

    def _error_body(self, request: Request, code: ErrorCode, message: str) -> Response:
        return {"errors": [{"message": message, "extensions": {"code": code, "requestId": request.state.request_id}}]}


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


def _check_method(method: str, operation: Operation) -> None:
    if operation.type is OperationType.SUBSCRIPTION:
        raise _Refusal(HTTPStatus.BAD_REQUEST, "Subscriptions are served over WebSocket (graphql-transport-ws).")
    if method == "GET" and operation.type is not OperationType.QUERY:
        raise _Refusal(HTTPStatus.METHOD_NOT_ALLOWED, "Mutations must be sent by POST.", {"Allow": "POST"})


def _json(
    body: Response, media_type: str, status: HTTPStatus, headers: Mapping[str, str] | None = None
) -> HttpResponse:
    content_type = f"{media_type}; charset=utf-8"
    return HttpResponse(orjson.dumps(body), status, headers, media_type=content_type)
