"""Files over HTTP: `POST /blobs` takes one, and `/blobs/{id}` gives it back to its owner, or deletes it.

Errors have the form and the codes of those of GraphQL (docs/errors.md). What the client says of a file's type counts
for nothing, and what is given back can do nothing in a browser: it is an attachment, and sandboxed.
"""

import logging
from base64 import b64encode
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from email.utils import format_datetime
from http import HTTPStatus
from typing import Any
from uuid import UUID

import anyio
import orjson
from graphql import GraphQLError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from auth.errors import AuthenticationError
from auth.principal import Principal
from auth.scopes import Scope as Permission
from db.engine import DatabaseUnavailable
from db.tables import Blob
from gateway.blobs import CHUNK_SIZE, Blobs
from gateway.errors import (
    RETRY_AFTER_SECONDS,
    BlobQuotaExceeded,
    BlobTooLarge,
    DatabaseDown,
    Forbidden,
    InvalidInput,
    LimitExceeded,
    NotFound,
    Overloaded,
    TransportErrorCode,
    UnknownMediaType,
)
from gateway.media import TEXT, extension
from gateway.request_limits import TooManyRequests
from schema.node import global_id, parse_uuid
from server.graphql import raised
from server.transports.bodies import SLOWEST_BODY, BytesInFlight
from server.transports.callers import Callers
from server.transports.limits import ConnectionLimiter, TooManyConnections, too_many_headers
from server.transports.middleware import BLOBS_PATH
from server.transports.upload_form import file_in_form, is_form
from server.transports.uvicorn_protocol import hang_up, until_left

logger = logging.getLogger(__name__)

LINGER_SECONDS = 2.0
"""How long what a client sends is still taken after it was refused."""

_METHODS = {False: "POST", True: "DELETE, GET, HEAD"}
"""Of the collection, and of one blob."""

_BUSY = {"Retry-After": str(RETRY_AFTER_SECONDS)}

_STATUSES: Mapping[type[Exception], tuple[HTTPStatus, Mapping[str, str]]] = {
    AuthenticationError: (HTTPStatus.UNAUTHORIZED, {"WWW-Authenticate": "Bearer"}),
    Forbidden: (HTTPStatus.FORBIDDEN, {}),
    NotFound: (HTTPStatus.NOT_FOUND, {}),
    BlobTooLarge: (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, {}),
    TooManyRequests: (HTTPStatus.TOO_MANY_REQUESTS, {}),
    BlobQuotaExceeded: (HTTPStatus.INSUFFICIENT_STORAGE, {}),
    UnknownMediaType: (HTTPStatus.UNSUPPORTED_MEDIA_TYPE, {}),
    InvalidInput: (HTTPStatus.BAD_REQUEST, {}),
    Overloaded: (HTTPStatus.SERVICE_UNAVAILABLE, _BUSY),
    DatabaseDown: (HTTPStatus.SERVICE_UNAVAILABLE, _BUSY),
    DatabaseUnavailable: (HTTPStatus.SERVICE_UNAVAILABLE, _BUSY),
}
"""The first that fits counts."""

Formatted = Callable[[Sequence[GraphQLError], str], list[dict[str, Any]]]


class _Refusal(Exception):
    """The request is answered with this status."""

    def __init__(
        self,
        status: HTTPStatus,
        message: str,
        headers: Mapping[str, str] | None = None,
        code: TransportErrorCode = TransportErrorCode.BAD_REQUEST,
        **extensions: object,
    ) -> None:
        self.status = status
        self.headers = headers or {}
        self.error = GraphQLError(message, extensions={"code": code, **extensions})
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class BlobsOverHttp:
    """The endpoint, as an ASGI application. Time-outs are in seconds."""

    callers: Callers
    formatted: Formatted
    in_flight: BytesInFlight
    limiter: ConnectionLimiter
    body_timeout: float
    send_timeout: float

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. Of what a client who leaves had sent, nothing stays."""
        body = _Incoming(receive)
        request = Request(scope, body)
        try:
            answer = await self._answer(request)
        except ClientDisconnect:
            return
        except Exception as error:  # masked for this request where nobody foresaw it
            refusal = self._refused(request, error)
            if request.method == "POST" and not body.ended:
                return await _refuse_early(refusal, body, send)
            answer = refusal
        await answer(scope, body, send)

    async def _answer(self, request: Request) -> ASGIApp:
        """Give what to answer with. To send and delete takes the scope of generating, to read that of reading."""
        given: str | None = request.path_params.get("id")
        allowed = _METHODS[given is not None]
        if request.method not in allowed.split(", "):
            message = f"Use {allowed}."
            raise _Refusal(HTTPStatus.METHOD_NOT_ALLOWED, message, {"Allow": allowed})
        context = await self.callers.context_of(request)
        reads = request.method in {"GET", "HEAD"}
        caller = context.require(Permission.GENERATIONS_READ if reads else Permission.GENERATIONS_WRITE)
        blobs = context.gateway.blobs
        if given is None:
            return await self._take(request, blobs, caller)
        blob_id = _key(given)
        if request.method == "DELETE":
            await blobs.remove(caller, blob_id)
            return Response(status_code=HTTPStatus.NO_CONTENT)
        blob = await blobs.get(caller, blob_id)
        if request.method == "HEAD":
            return Response(headers=_headers(blob))
        return _Download(blobs, blob, self.send_timeout)

    async def _take(self, request: Request, blobs: Blobs, caller: Principal) -> Response:
        """Store the body, or the file in a form. Nothing of it is read before its size and its sender may send it."""
        if request.headers.get("content-encoding", "identity").lower() != "identity":
            encoding = {"Accept-Encoding": "identity"}  # RFC 9110, section 15.5.16
            raise _Refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "The body must not be compressed.", encoding)
        length = request.headers.get("content-length", "")
        size = int(length) if length.isdecimal() else None
        content_type = request.headers.get("content-type", "")
        with await self.limiter.slot(caller, request.client), self.in_flight.holding(caller.user_id) as held:
            held.keep(CHUNK_SIZE)
            async with aclosing(self._pieces(request)) as pieces:
                if is_form(content_type):
                    async with aclosing(file_in_form(pieces, content_type)) as file:
                        blob, is_new = await blobs.store(caller, file)
                else:
                    blob, is_new = await blobs.store(caller, pieces, size)
        described = _described(blob)
        headers = {"Location": f"{BLOBS_PATH}/{described['id']}", "Cache-Control": "no-store"}
        return _json(described, HTTPStatus.CREATED if is_new else HTTPStatus.OK, headers)

    async def _pieces(self, request: Request) -> AsyncGenerator[bytes, None]:
        """Give the body as it comes. Only the waiting for the client counts against its time."""
        size, waited = 0, 0.0
        body: AsyncIterator[bytes] = request.stream()
        while True:
            began = anyio.current_time()
            try:
                with anyio.fail_after(self.body_timeout + size / SLOWEST_BODY - waited):
                    piece = await anext(body, None)
            except TimeoutError as error:
                raise _Refusal(
                    HTTPStatus.REQUEST_TIMEOUT,
                    f"The body did not come within {self.body_timeout:g} s, and a second for each {SLOWEST_BODY:,} "
                    "bytes (OLLAGRAPH_REQUEST_TIMEOUT).",
                ) from error
            if piece is None:
                return
            waited += anyio.current_time() - began
            size += len(piece)
            if piece:
                yield piece

    def _refused(self, request: Request, error: Exception) -> Response:
        if isinstance(error, TooManyConnections):
            error = _Refusal(
                HTTPStatus.TOO_MANY_REQUESTS,
                f"You are sending {error.limit} blobs at once, as many as one may ({error.setting}). Wait for one.",
                _BUSY,
                TransportErrorCode.LIMIT_EXCEEDED,
                limit=error.limit,
                retryable=True,
            )
        if isinstance(error, _Refusal):
            status, headers, told = error.status, error.headers, error.error
        else:
            answers = (answer for kind, answer in _STATUSES.items() if isinstance(error, kind))
            status, headers = next(answers, (HTTPStatus.INTERNAL_SERVER_ERROR, dict[str, str]()))
            told = raised(error)
            if isinstance(error, TooManyRequests):
                headers = too_many_headers(error)
            if isinstance(error, LimitExceeded):
                told.extensions = {"limit": error.limit}
        errors = self.formatted([told], request.state.request_id)
        return _json({"errors": errors}, status, {**headers, "Cache-Control": "no-store"})


class _Incoming:
    """What the client sends, with a note of its end."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self.ended = False

    async def __call__(self) -> Message:
        message = await self._receive()
        self.ended = self.ended or not message.get("more_body", False)
        return message


async def _refuse_early(refusal: Response, body: _Incoming, send: Send) -> None:
    """Answer somebody who is still sending, and take for a moment what comes: then the connection ends.

    If it ended at once, the answer would be lost with it, for clients that read only when they have sent all; if it
    did not end, they could go on sending for ever.
    """
    raw = [*refusal.raw_headers, (b"connection", b"close")]
    await send({"type": "http.response.start", "status": refusal.status_code, "headers": raw})
    await send({"type": "http.response.body", "body": refusal.body, "more_body": True})
    with anyio.move_on_after(LINGER_SECONDS):
        while not body.ended:
            await body()
    await send({"type": "http.response.body", "body": b""})


@dataclass(frozen=True, slots=True)
class _Download:
    """A blob's bytes, chunk by chunk. Who does not read them, or whose blob goes meanwhile, is cut off."""

    blobs: Blobs
    blob: Blob
    send_timeout: float

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        raw = [(name.lower().encode(), value.encode()) for name, value in _headers(self.blob).items()]
        await send({"type": "http.response.start", "status": HTTPStatus.OK, "headers": raw})
        with until_left(scope):
            try:
                await self._send_all(send)
            except (TimeoutError, NotFound, DatabaseUnavailable) as error:
                logger.warning("blob %s was not sent to its end: %s", self.blob.id, error or "the client does not read")
                hang_up(scope)

    async def _send_all(self, send: Send) -> None:
        async with aclosing(self.blobs.read(self.blob)) as chunks:
            async for data in chunks:
                with anyio.fail_after(self.send_timeout):
                    await send({"type": "http.response.body", "body": data, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


def _key(given: str) -> UUID:
    """Read the id in an address. Raises NotFound for what is none."""
    try:
        return parse_uuid(given, "Blob")
    except InvalidInput as error:
        raise NotFound("You have no blob with this id, or it has expired.", "Blob", given) from error


def _described(blob: Blob) -> dict[str, Any]:
    return {
        "id": global_id("Blob", blob.id),
        "sha256": blob.sha256,
        "contentType": blob.content_type,
        "size": blob.size,
        "expiresAt": _instant(blob.expires_at),
    }


def _instant(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def _headers(blob: Blob) -> dict[str, str]:
    """Tell what is known of a blob, and keep browsers from doing anything with it (OWASP, File Upload)."""
    digest = b64encode(bytes.fromhex(blob.sha256 or "")).decode()
    content_type = f"{TEXT}; charset=utf-8" if blob.content_type == TEXT else blob.content_type
    return {
        "Content-Type": content_type,
        "Content-Length": str(blob.size),
        "Content-Disposition": f'attachment; filename="{blob.id}.{extension(blob.content_type)}"',
        "Content-Security-Policy": "sandbox; default-src 'none'",
        "Cross-Origin-Resource-Policy": "same-origin",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "private, no-store",
        "Repr-Digest": f"sha-256=:{digest}:",  # RFC 9530
        "Sunset": format_datetime(blob.expires_at, usegmt=True),  # RFC 8594
    }


def _json(body: object, status: HTTPStatus, headers: Mapping[str, str]) -> Response:
    return Response(orjson.dumps(body), status, dict(headers), media_type="application/json; charset=utf-8")
