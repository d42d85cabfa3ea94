"""The one place that speaks HTTP to a model server, so that another client could be put in httpx's place.

httpx speaks through a transport of our own, `wire.transport`. It costs 0.3 of httpcore's, at 16 fast streams as at 32
paced ones, and about what httpx-aiohttp would, which brings eight packages more and takes a server that closes a kept
connection for a connection that never came about.

Two rules stand here. Nothing is taken from the environment: no proxy and no .netrc applies to the way between
the gateway and its model servers (`HTTP_PROXY` on a host is meant for the outside world, and would silently
carry prompts there). And no read ever times out here: time-outs are the business of `backends.timeouts`, all
but the one for connecting, which only the client can tell apart from the others.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Self, cast

import anyio
import httpx
import orjson

from backends.errors import BackendError, BackendProtocolError, BackendTimeout, BackendUnavailable, TimeoutPhase
from backends.protocol import Json
from backends.wire.client import Client
from backends.wire.error_bodies import error_for_status, failure, html_error, is_html, told_error
from backends.wire.json import as_object, as_text, json_value

MAX_BODY_BYTES = 16 * 1024 * 1024
"""Longest answer read as a whole: a list of models, or the description of one."""

sent_headers: ContextVar[Mapping[str, str]] = ContextVar("sent_headers", default=MappingProxyType({}))
"""Headers of requests that are sent within the context, for who traces them."""

_SHORT = 4_096
_MAX_ERROR_BYTES = 64 * 1024
_DRAIN_SECONDS = 0.25


def make_client(
    base_url: str,
    *,
    headers: Mapping[str, str] | None = None,
    connect_timeout: float = 5.0,
) -> Client:
    """Make the client for one model server; its maker closes it.

    `base_url` may have a path, which stands before every path asked for. `connect_timeout` is in seconds. How many
    connections there are at once is the business of whoever asks. HTTPS is verified against the machine's own store of
    certificates (or the file named by SSL_CERT_FILE, as OpenSSL reads it), so that a company's own authority
    counts. Raises ValueError when the address is not an http or https URL.
    """
    try:
        url = httpx.URL(base_url)
    except httpx.InvalidURL:
        raise ValueError("The address of a model server must be a URL, such as http://127.0.0.1:11434.") from None
    if url.scheme not in {"http", "https"} or not url.host:
        raise ValueError("The address of a model server must begin with http:// or https:// and name a host.")
    return Client(url, {"accept-encoding": "identity", **(headers or {})}, connect_timeout)


async def fetch_json(client: Client, method: str, path: str, body: Json = None) -> dict[str, Json]:
    """Ask for one JSON object and read it whole. Raises BackendError."""
    value = await _fetch(client, method, path, body)
    if not isinstance(value, dict):
        raise BackendProtocolError("The model server did not answer with a JSON object. Is this its address?")
    return cast("dict[str, Json]", value)


async def fetch_list(client: Client, path: str, *names: str) -> list[Json]:
    """Ask for a list, which stands under one of `names` in an object or is the whole answer. Raises BackendError."""
    value = await _fetch(client, "GET", path)
    if name := next((name for name in names if name in as_object(value)), None):
        value = as_object(value)[name] or list[Json]()
    if not isinstance(value, list):
        raise BackendProtocolError("The model server did not answer with a list of models. Is this its address?")
    return cast("list[Json]", value)


async def _fetch(client: Client, method: str, path: str, body: Json = None) -> Json:
    async with _open(client, method, path, body) as response:
        data = await _read(client, response, MAX_BODY_BYTES + 1)
    if len(data) > MAX_BODY_BYTES:
        raise BackendProtocolError(f"The model server sent more than {MAX_BODY_BYTES} bytes.")
    if is_html(data):
        raise html_error()
    try:
        value = json_value(data)
    except ValueError:
        value = None
    if told_error(value) is not None:
        raise failure(value)
    return value


class Reads:
    """The bytes of one response, piece by piece: each is all that has come. Raises BackendError."""

    def __init__(self, client: Client, response: httpx.Response) -> None:
        self._client = client
        self._response = response
        # As they come from the transport: httpx's own layers take a tenth of a token. They are for a server that
        # compresses although it was asked not to.
        is_packed = "content-encoding" in response.headers
        self._pieces: AsyncIterator[bytes] = response.aiter_bytes() if is_packed else response.extensions["pieces"]

    def gather(self, seconds: float) -> None:
        """Give no more than one piece in so many seconds from now on. The end comes at once all the same."""
        self._response.extensions["gather"](seconds)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        try:
            return await anext(self._pieces)
        except httpx.HTTPError as error:
            raise _translate(self._client, error) from error


@asynccontextmanager
async def stream_reads(client: Client, path: str, body: Json) -> AsyncGenerator[Reads]:
    """Send a POST and give what comes back, piece by piece. Raises BackendError.

    Leaving before the end closes the connection, and that is what stops the server's work.
    """
    async with _open(client, "POST", path, body) as response:
        if is_html(b"", response.headers.get("content-type", "")):
            raise html_error()
        yield Reads(client, response)


async def drain(reads: Reads) -> None:
    """Read what little follows the end of an answer (the end mark of the chunked encoding).

    Only a connection whose response was read to the end can be used again. A server that goes on sending, or
    keeps silent, costs a quarter of a second and the connection.
    """
    with anyio.move_on_after(_DRAIN_SECONDS):
        try:
            async for _ in reads:
                pass
        except BackendError:
            return


@asynccontextmanager
async def _open(client: Client, method: str, path: str, body: Json) -> AsyncGenerator[httpx.Response]:
    response = await _send(client, method, path, body)
    try:
        if response.status_code != 200:
            said = await _read(client, response, _MAX_ERROR_BYTES)
            raise error_for_status(response.status_code, said, response.headers, as_text(as_object(body).get("model")))
        yield response
    finally:
        await response.aclose()


async def _send(client: Client, method: str, path: str, body: Json) -> httpx.Response:
    if client.is_closed:
        raise BackendUnavailable("The connection to the model server is closed.")
    try:
        return await client.ask(method, path, None if body is None else _dumped(body), sent_headers.get())
    except httpx.HTTPError as error:
        raise _translate(client, error) from error


def _dumped(body: Json) -> bytes:
    """Write JSON. orjson leaves 4 kB behind what is short, which waits as long as the model server does."""
    content = orjson.dumps(body)
    return bytes(memoryview(content)) if len(content) < _SHORT else content


async def _read(client: Client, response: httpx.Response, limit: int) -> bytes:
    data = bytearray()
    async for piece in Reads(client, response):
        data += piece
        if len(data) >= limit:
            break
    return bytes(data[:limit])


def _translate(client: Client, error: httpx.HTTPError) -> BackendError:
    match error:
        case httpx.ConnectTimeout():
            return BackendTimeout(TimeoutPhase.CONNECT, client.timeout.connect or 0.0)
        case httpx.ConnectError():
            return BackendUnavailable("The model server cannot be reached.")
        case httpx.DecodingError():
            return BackendProtocolError("The model server's answer cannot be decompressed.")
        case _:
            return BackendUnavailable("The connection to the model server broke.")
