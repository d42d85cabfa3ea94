"""What httpx sends requests with: connections to one model server, kept for the next request."""

import asyncio
import ipaddress
import socket
import ssl
from collections import deque
from collections.abc import AsyncIterator, Sequence
from functools import partial

import anyio
import httpx

from backends.wire.connection import Connection

MOST_KEPT = 64
"""Connections that are kept open while nothing is asked."""

KEPT_SECONDS = 30.0
"""For how long one is kept."""

_NEXT_ADDRESS_SECONDS = 0.25
"""After so long without a connection the next address of a host is tried, too (RFC 8305, section 5)."""


class HttpTransport(httpx.AsyncBaseTransport):
    """HTTP/1.1 to one server, without proxies. `tls` is for https; None is plain HTTP.

    Of the time-outs of a request that for connecting counts alone, and its body is sent as a whole. A response has one
    extension, `gather`: see `Connection.gather`.
    """

    def __init__(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> None:
        self._host = host
        self._port = port
        self._tls = tls
        self._open: set[Connection] = set()
        self._kept: deque[Connection] = deque()
        self._closed = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request, and again where a connection that had been kept turns out to be closed.

        llama.cpp, for one, promises to keep a connection after a stream and then often closes it. Only a connection
        of this very request may fail it (RFC 9112, section 9.3.1, and what every browser does).
        """
        body = await request.aread()
        return await self.ask(head_of(lines_of(request)), body, request.extensions.get("timeout", {}).get("connect"))

    async def ask(self, head: bytes, body: bytes, connect_timeout: float | None) -> httpx.Response:
        """Send a request that is put into bytes already."""
        while True:
            kept = self._take()
            connection = kept or await self._connect(connect_timeout)
            try:
                await connection.send(head, body) if body else await connection.send(head)
            except httpx.TransportError:
                self._leave(connection)
                if kept is None:
                    raise
                continue
            except BaseException:
                self._leave(connection)
                raise
            pieces = _Body(connection, partial(self._leave, connection))
            return httpx.Response(
                connection.status,
                headers=connection.headers,
                stream=pieces,
                extensions={"http_version": b"HTTP/1.1", "gather": connection.gather, "pieces": pieces},
            )

    async def aclose(self) -> None:
        """Close all connections. What is being read breaks off."""
        self._closed = True
        for connection in list(self._open):
            connection.abort()

    def _take(self) -> Connection | None:
        """Give the connection that was used last, of those that are still open."""
        while self._kept:
            connection = self._kept.pop()
            if connection.is_usable and connection.unused_since > _now() - KEPT_SECONDS:
                return connection
            self._drop(connection)
        return None

    def _leave(self, connection: Connection) -> None:
        """Keep a connection whose response was read to the end, and close any other."""
        if self._closed or not connection.is_usable:
            self._drop(connection)
            return
        connection.unused_since = _now()
        self._kept.append(connection)
        while len(self._kept) > MOST_KEPT or self._kept[0].unused_since < _now() - KEPT_SECONDS:
            self._drop(self._kept.popleft())

    def _drop(self, connection: Connection) -> None:
        self._open.discard(connection)
        connection.abort()

    async def _connect(self, seconds: float | None) -> Connection:
        try:
            with anyio.fail_after(seconds):
                connection = await _first(self._host, self._port, self._tls)
        except TimeoutError as error:
            raise httpx.ConnectTimeout(f"No connection within {seconds} s.") from error
        except (OSError, UnicodeError) as error:
            raise httpx.ConnectError(str(error)) from error
        if self._closed:
            connection.abort()
            raise httpx.ConnectError("The client was closed.")
        self._open.add(connection)
        return connection


class _Body(httpx.AsyncByteStream):
    """The body of a response. Closing it before its end closes the connection."""

    def __init__(self, connection: Connection, leave: partial[None]) -> None:
        self._connection = connection
        self._leave: partial[None] | None = leave

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if data := await self._connection.read():
            return data
        raise StopAsyncIteration

    async def aclose(self) -> None:
        if self._leave is not None:
            leave, self._leave = self._leave, None
            leave()


def lines_of(request: httpx.Request) -> list[bytes]:
    """Give the lines of what stands before the body."""
    first = b"%s %s HTTP/1.1" % (request.method.encode(), request.url.raw_path)
    return [first, *(b"%s: %s" % header for header in request.headers.raw)]


def head_of(lines: Sequence[bytes]) -> bytes:
    """Write what stands before the body. Raises httpx.LocalProtocolError for a header that would be several."""
    if any(b"\r" in line or b"\n" in line or b"\0" in line for line in lines):
        raise httpx.LocalProtocolError("A header of the request holds a line break.")
    return b"\r\n".join([*lines, b"", b""])


async def _first(host: str, port: int, tls: ssl.SSLContext | None) -> Connection:
    """Connect to whichever address of a host answers first. Raises OSError."""
    addresses = await _addresses(host, port)
    found: list[Connection] = []
    errors: list[OSError] = []

    async def attempt(address: str, failed: anyio.Event) -> None:
        try:
            _, connection = await asyncio.get_running_loop().create_connection(
                Connection, address, port, ssl=tls, server_hostname=host if tls else None
            )
        except OSError as error:
            errors.append(error)
            failed.set()
        else:
            found.append(connection)
            attempts.cancel_scope.cancel()

    try:
        async with anyio.create_task_group() as attempts:
            for address in addresses:
                failed = anyio.Event()
                attempts.start_soon(attempt, address, failed)
                with anyio.move_on_after(_NEXT_ADDRESS_SECONDS):
                    await failed.wait()
        if not found:
            raise errors[0]
        return found.pop(0)
    finally:
        for late in found:
            late.abort()


async def _addresses(host: str, port: int) -> Sequence[str]:
    """Give the addresses of a host, one of IPv6 and one of IPv4 first. Raises OSError."""
    try:
        return [str(ipaddress.ip_address(host))]
    except ValueError:
        pass
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys(str(address[0]) for *_, address in found))
    firsts = {next((it for it in addresses if (":" in it) is six), "") for six in (True, False)} - {""}
    return sorted(firsts, key=lambda it: ":" not in it) + [it for it in addresses if it not in firsts]


def _now() -> float:
    return asyncio.get_running_loop().time()
