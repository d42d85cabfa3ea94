"""Clients that vanish at any moment and send what no client sends: the log holds no fault of ours."""

import random
import socket
import struct
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import anyio
import orjson
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from tests.support.fake_model_server import running_fake_model_server
from tests.support.gateways import Socket
from tests.support.processes import START_SECONDS, Served, serving

PASSWORD = "a password of mine"
RESET = struct.pack("ii", 1, 0)
"""The option SO_LINGER with which closing a socket cuts the connection at once."""

FAILING = [
    "{ me { username } }",
    "{ nothing }",
    "{",
    'subscription { generation(id: "nonsense") { __typename } }',
    'mutation { revokeApiKey(input: {id: "x"}) { __typename } }',
    'subscription { generate(input: {model: "none", prompt: {text: "one"}}) { __typename } }',
]
STREAM = 'subscription { generate(input: {model: "fake:count-300", prompt: {text: "one"}}) { __typename } }'
UPGRADE = (
    b"GET /graphql HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
HANDSHAKE = UPGRADE + b"Sec-WebSocket-Protocol: graphql-transport-ws\r\n\r\n"
MASKED = b"\0\0\0\0"

NOBODY_SENDS = {
    "nothing": b"",
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00",
    "no method": b"\r\n\r\n\r\nNONE\r\n\r\n",
    "a path of bytes": b"GET /\xff\xfe HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a NUL in the path": b"GET /%00 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a NUL among the assets": b"GET /assets/%00.js HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a path that is too long for a file": b"GET /" + b"x" * 5000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a path that is no text": b"GET /%ff%fe HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "half a surrogate in the path": b"GET /%ed%a0%80 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "the whole address": b"GET http://localhost/graphql HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "only a star": b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a tunnel": b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a host of bytes": b"GET /graphql HTTP/1.1\r\nHost: \xff\xfe\r\n\r\n",
    "an origin of bytes": b"GET /graphql HTTP/1.1\r\nHost: localhost\r\nOrigin: http://\xff\r\n\r\n",
    "an origin that is open": b"GET /graphql HTTP/1.1\r\nHost: localhost\r\nOrigin: http://[::1\r\n\r\n",
    "a length that is none": b"POST /graphql HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n",
    "two lengths": b"POST /graphql HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "a chunk that is none": b"POST /graphql HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    "a token of bytes": b"GET /graphql?query={__typename} HTTP/1.1\r\nHost: localhost\r\n"
    b"Authorization: Bearer \xff\xfe\r\nX-Request-ID: \xff\r\n\r\n",
    "variables that are none": b"GET /graphql?query={__typename}&variables=%ff HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "another upgrade": b"GET /graphql HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
    "an upgrade without a key": b"GET /graphql HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n"
    b"Upgrade: websocket\r\n\r\n",
    "an upgrade with a path of bytes": HANDSHAKE.replace(b"/graphql", b"/\xff"),
    "an upgrade with a path that is no text": HANDSHAKE.replace(b"/graphql", b"/%ff%00"),
    "an upgrade with a line that is too long": UPGRADE + b"Cookie: " + b"x" * 20_000 + b"\r\n\r\n",
    "an upgrade with many lines": UPGRADE + b"A: b\r\n" * 500 + b"\r\n",
    "an upgrade with a header of bytes": UPGRADE + b"X-A: \xff\xfe\r\nSec-WebSocket-Protocol: \xff\r\n\r\n",
    "an upgrade by POST": HANDSHAKE.replace(b"GET", b"POST"),
    "an upgrade to nowhere": HANDSHAKE.replace(b"/graphql", b"/nowhere"),
    "an upgrade to the page": HANDSHAKE.replace(b"/graphql", b"/"),
    "another subprotocol": UPGRADE + b"Sec-WebSocket-Protocol: graphql-ws\r\n\r\n",
    "half a handshake": HANDSHAKE[:-2],
    "a handshake and no more": HANDSHAKE,
    "a frame that is no text": HANDSHAKE + b"\x81\x82" + MASKED + b"\xff\xfe",
    "a frame in pieces that is no text": HANDSHAKE + b"\x01\x81" + MASKED + b"\xff" + b"\x80\x81" + MASKED + b"\xfe",
    "a frame without a mask": HANDSHAKE + b"\x81\x02{}",
    "a frame that is unknown": HANDSHAKE + b"\x83\x80" + MASKED,
    "a frame of bytes": HANDSHAKE + b"\x82\x82" + MASKED + b"{}",
    "half a frame": HANDSHAKE + b"\x81\xfe\xff",
    "a frame that is too large": HANDSHAKE + b"\x81\xff" + b"\x00\x00\x00\xff\xff\xff\xff\xff" + MASKED,
    "a close with a code that is none": HANDSHAKE + b"\x88\x82" + MASKED + b"\x00\x01",
    "a close with a reason that is no text": HANDSHAKE + b"\x88\x83" + MASKED + b"\x03\xe8\xff",
    "a close and more": HANDSHAKE + b"\x88\x80" + MASKED + b"\x81\x82" + MASKED + b"{}",
}


@pytest.fixture(scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    """A gateway in a process of its own, before a fake model server, with small messages."""
    data_dir = tmp_path_factory.mktemp("strangers") / "data"
    async with running_fake_model_server() as fake:
        fake.models.append("fake:count-300")
        async with serving(
            data_dir, ADMIN_PASSWORD=PASSWORD, OLLAMA_URL=fake.url, MAX_SOCKETS_PER_USER="1000", REQUEST_TIMEOUT="1"
        ) as served:
            yield served


def faults(served: Served) -> list[str]:
    """What was written to the log, since it was asked last, beside information and warnings."""
    lines = served.errors.splitlines()
    served.log.write_text("")  # the process appends
    return [line for line in lines if not (" INFO " in line or " WARNING " in line)]


async def settled(served: Served) -> None:
    """Return when the gateway has done what the clients who left set going, as far as one can see from outside."""
    for _ in range(3):
        await served.run("{ __typename }")


async def cut_after(connection: ClientConnection, messages: int) -> None:
    """Read some messages, and cut the connection without a word."""
    try:
        for _ in range(messages):
            await connection.recv()
    except ConnectionClosed:
        return
    raw: socket.socket = connection.transport.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    connection.transport.abort()


async def test_sockets_that_are_cut_with_many_operations_under_way_leave_no_fault_in_the_log(served: Served):
    token = await served.sign_in(PASSWORD)
    url = served.url.replace("http", "ws") + "/graphql"
    chance = random.Random(1)

    async def one(messages: int) -> None:
        async with connect(url, subprotocols=[Subprotocol("graphql-transport-ws")], close_timeout=0) as connection:
            stranger = Socket(connection)
            await stranger.send({"type": "connection_init", "payload": {"Authorization": f"Bearer {token}"}})
            await stranger.receive()
            for number in range(18):
                query = STREAM if number % 3 == 0 else chance.choice(FAILING)
                await stranger.subscribe(query, id=str(number))
            await cut_after(connection, messages)

    for _ in range(4):
        async with anyio.create_task_group() as tasks:
            for _ in range(10):
                tasks.start_soon(one, chance.choice([0, 0, 1, 2, 5, 20]))
    await settled(served)
    assert faults(served) == []


async def raw_exchange(served: Served, sent: bytes, *, read: int, reset: bool) -> bytes:
    """Send bytes, read up to so many, and leave; gives what was read."""
    address = urlsplit(served.url)
    stream = await anyio.connect_tcp(address.hostname or "", address.port or 0)
    answer = b""
    async with stream:
        try:
            if sent:
                await stream.send(sent)
            with anyio.move_on_after(START_SECONDS):
                while len(answer) < read:
                    answer += await stream.receive()
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            pass
        if reset:
            raw = stream.extra(anyio.abc.SocketAttribute.raw_socket)
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    return answer


async def test_streams_over_http_that_are_cut_leave_no_fault_in_the_log(served: Served):
    token = await served.sign_in(PASSWORD)
    chance = random.Random(2)
    async with anyio.create_task_group() as tasks:
        for number in range(40):
            body = orjson.dumps({"query": STREAM if number % 2 else chance.choice(FAILING)})
            accept = chance.choice(["text/event-stream", "multipart/mixed", "application/json"])
            sent = (
                f"POST /graphql HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nAccept: {accept}\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            ).encode() + body
            whole = chance.choice([sent, sent, sent[:-5]])
            read = 0 if whole is not sent else chance.choice([0, 0, 1, 300])

            async def one(sent: bytes = whole, read: int = read, reset: bool = number % 5 > 0) -> None:
                await raw_exchange(served, sent, read=read, reset=reset)

            tasks.start_soon(one)
    await settled(served)
    assert faults(served) == []


@pytest.mark.parametrize("reset", [True, False])
async def test_handshakes_that_are_cut_leave_no_fault_in_the_log(served: Served, reset: bool):
    async with anyio.create_task_group() as tasks:
        for length in [*range(0, len(HANDSHAKE), 7), *[len(HANDSHAKE)] * 30]:

            async def one(length: int = length) -> None:
                await raw_exchange(served, HANDSHAKE[:length], read=0, reset=reset)

            tasks.start_soon(one)
    await settled(served)
    assert faults(served) == []


@pytest.mark.parametrize("kind", NOBODY_SENDS)
async def test_what_no_client_sends_leaves_no_fault_in_the_log(served: Served, kind: str):
    for reset in (True, False):
        await raw_exchange(served, NOBODY_SENDS[kind], read=0, reset=reset)
    await raw_exchange(served, NOBODY_SENDS[kind], read=1 if NOBODY_SENDS[kind] else 0, reset=False)
    await settled(served)
    assert faults(served) == []


async def test_a_handshake_that_cannot_be_read_is_refused_and_ends(served: Served):
    answer = await raw_exchange(
        served, NOBODY_SENDS["an upgrade with a line that is too long"], read=1_000_000, reset=False
    )
    assert answer.startswith(b"HTTP/1.1 400")
