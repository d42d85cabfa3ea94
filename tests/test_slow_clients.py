"""Clients that send too slowly, too much or compressed."""

import gzip
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import anyio
import pytest
from anyio.abc import SocketStream

from server.transports.uvicorn_protocol import MAX_HEAD_SIZE
from tests.support.fake_model_server import FakeModelServer
from tests.support.gateways import RunningGateway, gateway_settings, running_gateway
from tests.support.polling import pause

HEAD = b"POST /graphql HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 26\r\n\r\n"
BODY = b'{"query": "{ __typename }"}'[:26]


@pytest.fixture
async def impatient(tmp_path: Path, sqlite_url: str, fake: FakeModelServer) -> AsyncIterator[RunningGateway]:
    async with running_gateway(gateway_settings(tmp_path, sqlite_url, fake.url, request_timeout=2), fake) as gateway:
        yield gateway


async def connect(gateway: RunningGateway) -> SocketStream:
    address = urlsplit(gateway.url)
    return await anyio.connect_tcp(address.hostname or "", address.port or 0)


async def read(stream: SocketStream) -> str:
    """Everything until the server closes."""
    answer = b""
    with anyio.fail_after(20):
        try:
            while True:
                answer += await stream.receive()
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            return answer.decode()


@pytest.mark.parametrize("sent", [b"", b"G", HEAD[:-2], HEAD[:40]])
async def test_a_head_that_does_not_come_is_408(impatient: RunningGateway, sent: bytes):
    async with await connect(impatient) as stream:
        if sent:
            await stream.send(sent)
        assert (await read(stream)).startswith("HTTP/1.1 408")


async def test_a_second_head_that_does_not_come_is_408(impatient: RunningGateway):
    async with await connect(impatient) as stream:
        await stream.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await stream.receive()).startswith(b"HTTP/1.1 200")
        await stream.send(b"GET /healthz HTTP/1.1\r\nHost:")
        assert "HTTP/1.1 408" in await read(stream)


async def test_a_body_that_does_not_come_is_408_with_a_reason(impatient: RunningGateway):
    async with await connect(impatient) as stream:
        await stream.send(HEAD + BODY[:10])
        answer = await read(stream)
        assert answer.startswith("HTTP/1.1 408")
        assert "did not come within 2 s" in answer


async def test_a_stream_may_take_longer_than_its_request(impatient: RunningGateway):
    async with impatient.connect() as socket, await connect(impatient) as slow:
        await read(slow)
        await socket.send({"type": "ping"})
        assert (await socket.receive())["type"] == "pong"


async def test_a_head_that_is_too_large_is_431(gateway: RunningGateway):
    async with await connect(gateway) as stream:
        await stream.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X-A: aaaaaaaaaa\r\n" * (MAX_HEAD_SIZE // 16))
        assert (await read(stream)).startswith("HTTP/1.1 431")


async def test_a_large_body_in_one_piece_with_its_head_is_taken(gateway: RunningGateway):
    query = "{ __typename }" + " " * 100_000
    body = {"query": "{ __typename }", "extensions": {"x": query}}
    response = await gateway.client.post("/graphql", json=body, headers=gateway.headers())
    assert response.status_code == 200


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "gzip, identity"])
async def test_a_compressed_body_is_415_and_not_unpacked(shared_gateway: RunningGateway, encoding: str):
    response = await shared_gateway.client.post(
        "/graphql",
        content=gzip.compress(BODY),
        headers={"Content-Type": "application/json", "Content-Encoding": encoding},
    )
    assert (response.status_code, response.headers["Accept-Encoding"]) == (415, "identity")
    assert "must not be compressed" in response.text


async def test_one_connection_more_than_the_limit_is_503_until_one_closes(
    tmp_path: Path, sqlite_url: str, fake: FakeModelServer
):
    settings = gateway_settings(tmp_path, sqlite_url, fake.url, max_connections=2)
    head = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    async with running_gateway(settings, fake) as gateway:  # whose client has one open

        async def answer() -> str:
            async with await connect(gateway) as stream:
                await stream.send(head)
                return await read(stream)

        async with await connect(gateway) as second:
            await second.send(HEAD[:10])
            assert (await answer()).startswith("HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\n")
        with anyio.fail_after(20):  # until the gateway has seen that it is closed
            while not (await answer()).startswith("HTTP/1.1 200"):
                await pause()
