"""A response in as few packets as it can have: what uvicorn writes, and what comes to the connection."""

import asyncio
from typing import Any

import pytest

from server.transports.uvicorn_protocol import WholeResponse
from tests.support.gateways import RunningGateway

HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n"
STREAM_HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


class Connection(asyncio.Transport):
    """Notes what is written, one by one."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []

    def write(self, data: Any) -> None:
        self.written.append(bytes(data))

    def close(self) -> None:
        self.written.append(b"(closed)")

    def is_closing(self) -> bool:
        return b"(closed)" in self.written


@pytest.mark.parametrize(
    ("parts", "written"),
    [
        ([HEAD, b"all"], [HEAD + b"all"]),
        ([HEAD, b"a", b"ll"], [HEAD + b"a", b"ll"]),
        ([HEAD, b""], [HEAD]),
        ([HEAD, HEAD, HEAD], [HEAD + HEAD, HEAD]),  # a body may look as it likes
        ([STREAM_HEAD, b"1\r\na\r\n"], [STREAM_HEAD, b"1\r\na\r\n"]),
        ([b"HTTP/1.1 100 Continue\r\n\r\n", HEAD, b"all"], [b"HTTP/1.1 100 Continue\r\n\r\n", HEAD + b"all"]),
        ([b"HTTP/1.1 204 No Content\r\n\r\n"], [b"HTTP/1.1 204 No Content\r\n\r\n"]),
    ],
)
def test_the_head_goes_out_with_what_follows_where_something_does(parts: list[bytes], written: list[bytes]):
    connection = Connection()
    response = WholeResponse(connection)
    for part in parts:
        response.write(part)
    assert connection.written == written
    response.close()
    assert connection.written == [*written, b"(closed)"]


def test_what_was_held_goes_out_before_the_connection_is_closed():
    connection = Connection()
    response = WholeResponse(connection)
    response.write(HEAD)
    response.close()
    assert connection.written == [HEAD, b"(closed)"]


async def test_a_response_without_a_body_ends(gateway: RunningGateway):
    """To HEAD, to several requests on one connection, and to one that waits to be told to go on."""
    host, port = gateway.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = f"HEAD /schema.graphql HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode()
    body = b'{"query": "{ me { id } }"}'
    post = (
        f"POST /graphql HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\nExpect: 100-continue\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode()
    writer.write(head)
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 ")
    writer.write(post)
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(body + head)
    answered = await reader.readuntil(b"\r\n\r\n")
    length = int(answered.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    assert b'"data"' in await reader.readexactly(length)
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 ")
    writer.close()
    await writer.wait_closed()
