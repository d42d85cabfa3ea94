"""A planned stop, with clients of every kind still there: it ends as a success, and the log holds no error."""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import anyio
import orjson
import pytest
from anyio.abc import SocketStream
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from tests.support.fake_model_server import FakeModelServer, Script
from tests.support.gateways import PASSWORD, Socket
from tests.support.processes import START_SECONDS, Served, serving
from tests.support.valkeys import ValkeyServer

SUBSCRIBE = (
    'subscription { generate(input: {model: "%s", prompt: {text: "one"}}) { __typename ... on TextDelta { text } } }'
)
MUTATE = 'mutation { generate(input: {model: "%s", prompt: {text: "one"}}) { __typename } }'
HELD = "fake:hold-3"


@asynccontextmanager
async def before_fake(data_dir: Path, fake: FakeModelServer, **settings: str) -> AsyncGenerator[tuple[Served, str]]:
    """A gateway before the fake model server that lets what runs go on for a moment, and the administrator's token."""
    values = {"DRAIN_TIME": "0.5", "SEND_TIMEOUT": "100"} | settings
    async with serving(data_dir, ADMIN_PASSWORD=PASSWORD, OLLAMA_URL=fake.url, **values) as served:
        token = await served.sign_in(PASSWORD)
        assert token is not None
        yield served, token


@asynccontextmanager
async def connected(served: Served) -> AsyncGenerator[SocketStream]:
    address = urlsplit(served.url)
    async with await anyio.connect_tcp(address.hostname or "", address.port or 0) as stream:
        yield stream


@asynccontextmanager
async def watching(served: Served, token: str) -> AsyncGenerator[Socket]:
    """A WebSocket that has been acknowledged."""
    url = served.url.replace("http", "ws") + "/graphql"
    async with connect(url, subprotocols=[Subprotocol("graphql-transport-ws")]) as connection:
        viewer = Socket(connection)
        await viewer.send({"type": "connection_init", "payload": {"Authorization": f"Bearer {token}"}})
        await viewer.receive()
        yield viewer


async def post(stream: SocketStream, token: str, query: str, accept: str) -> None:
    """Send a request."""
    body = orjson.dumps({"query": query})
    head = (
        f"POST /graphql HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nAccept: {accept}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    await stream.send(head.encode() + body)


async def asked(fake: FakeModelServer, requests: int = 1) -> None:
    """Return when the model server has so many requests."""
    with anyio.fail_after(START_SECONDS):
        while len(fake.requests) < requests:  # noqa: ASYNC110 - the fake server has no event for it
            await anyio.sleep(0.01)


async def assert_quiet_stop(served: Served) -> None:
    assert await served.stop() == 0
    assert [line for line in served.errors.splitlines() if not (" INFO " in line or " WARNING " in line)] == []


@pytest.fixture(params=["alone", "with Valkey"])
async def settings(request: pytest.FixtureRequest, valkey: ValkeyServer) -> dict[str, str]:
    """A gateway alone, and one that sends its clients to others."""
    return {} if request.param == "alone" else {"REDIS_URL": valkey.url}


async def test_a_stop_with_viewers_of_every_kind_logs_no_error(
    tmp_path: Path, fake: FakeModelServer, settings: dict[str, str]
):
    fake.scripts["long"] = Script(["x" * 100_000] * 200)
    fake.models.append("long")
    async with before_fake(tmp_path / "data", fake, **settings) as (served, token), AsyncExitStack() as clients:
        for query, accept in (
            (SUBSCRIBE % HELD, "text/event-stream"),
            (SUBSCRIBE % HELD, "multipart/mixed;subscriptionSpec=1.0"),
            (MUTATE % HELD, "application/json"),
            (SUBSCRIBE % "long", "text/event-stream"),  # and it is not read
        ):
            await post(await clients.enter_async_context(connected(served)), token, query, accept)
        viewer = await clients.enter_async_context(watching(served, token))
        await viewer.subscribe(SUBSCRIBE % HELD)
        await asked(fake, 5)
        await assert_quiet_stop(served)


async def test_a_stop_with_clients_in_the_middle_of_a_request_logs_no_error(tmp_path: Path, fake: FakeModelServer):
    body = b"POST /graphql HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{"
    async with before_fake(tmp_path / "data", fake, REQUEST_TIMEOUT="100") as (served, _):
        async with connected(served) as silent, connected(served) as slow, connected(served) as half:
            await silent.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await silent.receive()
            await slow.send(body)
            await half.send(body[:20])
            await assert_quiet_stop(served)
