"""How the adapters reach a server over HTTP: addresses, proxies, and connections that are kept."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import pytest

from backends.errors import BackendUnavailable
from tests.support.fake_model_server import running_fake_model_server
from tests.test_backend_contract import KINDS, ask, chunks_of


@pytest.fixture(params=list(KINDS))
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def unused_url() -> str:
    """An address where nothing listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{sock.getsockname()[1]}"


async def test_where_nothing_listens_the_server_is_unavailable(kind: str, unused_url: str):
    async with aclosing(KINDS[kind](unused_url)) as backend:
        for call in (backend.ping, backend.models, lambda: chunks_of(backend, ask("echo"))):
            with pytest.raises(BackendUnavailable, match="cannot be reached"):
                await call()


async def test_a_proxy_for_the_outside_world_is_not_used(kind: str, unused_url: str, monkeypatch: pytest.MonkeyPatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, unused_url)
    async with running_fake_model_server() as fake, aclosing(KINDS[kind](fake.url)) as backend:
        await backend.ping()


@pytest.mark.parametrize("url", ["", "localhost:11434", "ftp://host", "http://", "http://[::1"])
def test_an_address_that_is_none_is_refused_at_once(kind: str, url: str):
    with pytest.raises(ValueError, match="address of a model server"):
        KINDS[kind](url)


@asynccontextmanager
async def closing_server(answers: int) -> AsyncIterator[str]:
    """A server that answers so many requests of a connection and closes it when the next one comes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(answers):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b'HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\n{"data":[]}')
        await reader.read(1)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield "http://{}:{}".format(*server.sockets[0].getsockname())


async def test_a_kept_connection_that_the_server_closed_is_replaced(kind: str):
    async with closing_server(answers=1) as url, aclosing(KINDS[kind](url)) as backend:
        for _ in range(3):
            await backend.ping()


async def test_a_new_connection_that_the_server_closed_is_an_error(kind: str):
    async with closing_server(answers=0) as url, aclosing(KINDS[kind](url)) as backend:
        with pytest.raises(BackendUnavailable, match="connection to the model server broke"):
            await backend.ping()
