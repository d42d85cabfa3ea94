"""GraphQL over WebSocket by the protocol graphql-transport-ws."""

import asyncio
import json
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint
from gql import Client, gql
from gql.transport.websockets import WebsocketsTransport
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as websocket
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from tests.support.fake_model_server import Script
from tests.support.gateways import ADMIN, Json, RunningGateway, Socket
from tests.test_first_slice import GENERATE

ME = "{ me { username } }"
DEEP = "{ me { ...F0 } }" + "".join(f" fragment F{i} on User {{ ...F{i + 1} }}" for i in range(1200))
INIT = {"type": "connection_init"}


@pytest.fixture
def gateway(used_gateway: RunningGateway) -> RunningGateway:
    """One for all tests here, whatever the earlier ones left in its database."""
    return used_gateway


def url(gateway: RunningGateway) -> str:
    return gateway.url.replace("http://", "ws://") + "/graphql"


@asynccontextmanager
async def raw(gateway: RunningGateway) -> AsyncIterator[tuple[Socket, ClientConnection]]:
    """A connection on which nothing has been said yet."""
    async with websocket(url(gateway), subprotocols=[Subprotocol("graphql-transport-ws")]) as connection:
        yield Socket(connection), connection


async def closed(connection: ClientConnection) -> tuple[int, str]:
    """Wait for the end of a connection: its code and reason."""
    with pytest.raises(ConnectionClosed) as caught:  # noqa: PT012 - whatever comes before the end
        while True:
            await connection.recv()
    assert caught.value.rcvd is not None
    return caught.value.rcvd.code, caught.value.rcvd.reason


def subscribe(query: object, id: object = "1", **others: object) -> Json:
    return {"type": "subscribe", "id": id, "payload": {"query": query, **others}}


@pytest.mark.parametrize("offered", [None, "graphql-ws"])
async def test_a_client_of_another_subprotocol_is_closed_with_4406(gateway: RunningGateway, offered: str | None):
    subprotocols = None if offered is None else [Subprotocol(offered)]
    async with websocket(url(gateway), subprotocols=subprotocols) as connection:
        assert (await closed(connection))[0] == 4406


async def test_a_client_that_never_initialises_is_closed_with_4408(own_gateway: RunningGateway):
    own_gateway.limit_sockets(init_timeout=0.01)
    async with raw(own_gateway) as (_, connection):
        assert await closed(connection) == (4408, "Connection initialisation timeout")


async def test_a_client_that_has_initialised_may_stay_silent(own_gateway: RunningGateway):
    own_gateway.limit_sockets(init_timeout=0.01)
    async with own_gateway.connect() as socket, own_gateway.connect() as later:
        await later.subscribe(ME)
        assert [event async for event in later.events()]
        await socket.subscribe(ME)
        assert [event async for event in socket.events()] == [{"username": ADMIN}]


async def test_a_second_initialisation_is_closed_with_4429(gateway: RunningGateway):
    async with raw(gateway) as (socket, connection):
        await socket.send(INIT)
        await socket.send(INIT)
        assert await closed(connection) == (4429, "Too many initialisation requests")


async def test_an_operation_before_the_acknowledgement_is_closed_with_4401(gateway: RunningGateway):
    async with raw(gateway) as (socket, connection):
        await socket.send(subscribe(ME))
        assert await closed(connection) == (4401, "Unauthorized")


async def test_an_id_in_use_is_closed_with_4409(gateway: RunningGateway):
    async with gateway.connect() as socket:
        for _ in range(2):
            await socket.subscribe(GENERATE, {"input": {"model": "fake:stall-3", "prompt": {"text": "x"}}})
        assert await closed(socket.connection) == (4409, "Subscriber for 1 already exists")


@pytest.mark.parametrize(
    "frame",
    [
        "",
        "{",
        "null",
        "5",
        '"text"',
        "[]",
        "[" * 5000,
        "{}",
        '{"type": null}',
        '{"type": "start", "id": "1"}',
        '{"type": "connection_ack"}',
        '{"type": "ping", "payload": "text"}',
        '{"type": "pong", "payload": []}',
        '{"type": "complete"}',
        '{"type": "complete", "id": 1}',
        '{"type": "subscribe", "payload": {"query": "{ me { id } }"}}',
        '{"type": "subscribe", "id": {}, "payload": {"query": "{ me { id } }"}}',
        '{"type": "subscribe", "id": 1, "payload": {"query": "{ me { id } }"}}',
        '{"type": "subscribe", "id": "", "payload": {"query": "{ me { id } }"}}',
        '{"type": "subscribe", "id": "1"}',
        '{"type": "subscribe", "id": "1", "payload": null}',
        '{"type": "subscribe", "id": "1", "payload": "text"}',
        '{"type": "subscribe", "id": "1", "payload": {}}',
        '{"type": "subscribe", "id": "1", "payload": {"query": null}}',
        '{"type": "subscribe", "id": "1", "payload": {"query": "{ me { id } }", "variables": []}}',
        '{"type": "subscribe", "id": "1", "payload": {"query": "{ me { id } }", "operationName": 1}}',
        '{"type": "subscribe", "id": "1", "payload": {"query": "{ me { id } }", "extensions": "x"}}',
        b'{"type": "ping"}',
    ],
    ids=lambda frame: repr(frame[:90]),
)
async def test_a_message_against_the_protocol_is_closed_with_4400(
    shared_gateway: RunningGateway, caplog: pytest.LogCaptureFixture, frame: str | bytes
):
    async with shared_gateway.connect() as socket:
        await socket.connection.send(frame)
        code, reason = await closed(socket.connection)
    assert code == 4400
    assert reason
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.parametrize("payload", ['"text"', "[]", "5"])
async def test_an_initialisation_with_a_payload_that_is_no_object_is_closed_with_4400(
    shared_gateway: RunningGateway, payload: str
):
    async with raw(shared_gateway) as (_, connection):
        await connection.send(f'{{"type": "connection_init", "payload": {payload}}}')
        assert (await closed(connection))[0] == 4400


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        ({"Authorization": "Bearer nonsense"}, "session token is not valid"),
        ({"apiKey": "olg_nonsense"}, "API key is not valid"),
        ({"authorization": "Basic eDp5"}, "must be Bearer"),
        ({"apiKey": {}}, "must be a string"),
    ],
)
async def test_credentials_that_do_not_hold_are_closed_with_4403(
    shared_gateway: RunningGateway, payload: Json, reason: str
):
    async with raw(shared_gateway) as (socket, connection):
        await socket.send(INIT | {"payload": payload})
        code, told = await closed(connection)
    assert code == 4403
    assert reason in told


@pytest.mark.parametrize("payload", [None, {}, {"Authorization": None}])
async def test_without_credentials_a_connection_may_do_what_needs_none(
    shared_gateway: RunningGateway, payload: Json | None
):
    async with raw(shared_gateway) as (socket, _):
        await socket.send(INIT | {"payload": payload})
        assert await socket.receive() == {"type": "connection_ack"}
        await socket.subscribe(ME)
        assert [event async for event in socket.events()] == [None]
        await socket.subscribe("{ models { name } }")
        answer = await socket.receive()
    assert answer["payload"]["errors"][0]["extensions"]["reason"] == "MISSING_CREDENTIALS"


@pytest.mark.parametrize(
    "extra",
    [{}, {"payload": {}}, {"payload": {"a": [1, None]}}, {"payload": {"a": 10**20}}],
)
async def test_a_ping_is_answered_with_a_pong_of_its_payload(shared_gateway: RunningGateway, extra: Json):
    async with raw(shared_gateway) as (_, connection):
        await connection.send(json.dumps({"type": "ping", **extra}))
        assert json.loads(await connection.recv()) == {"type": "pong", **extra}


@pytest.mark.parametrize(
    "payload", ['{"a": 1e400, "b": 100000000000000000000}', '{"a": ' + "[" * 300 + "]" * 300 + "}"]
)
async def test_a_ping_that_is_hard_to_send_back_is_answered(shared_gateway: RunningGateway, payload: str):
    async with raw(shared_gateway) as (socket, connection):
        await connection.send('{"type": "ping", "payload": ' + payload + "}")
        assert (await socket.receive())["type"] == "pong"


@pytest.mark.parametrize(
    "frame",
    [
        b"\x81\x83\0\0\0\0\xa9\xff\xff",
        b"\x81\x83\0\0\0\0\xa9\xff\xff\x88\x80\0\0\0\0",
        b"\x01\x05hello",
        b"\xff\x80\0\0\0\0",
        b"\x88\x81\0\0\0\0x",
        b"\x81\xff" + b"\x7f" * 8,
    ],
)
@pytest.mark.parametrize("turns", range(12))
async def test_a_client_that_breaks_the_protocol_before_it_is_accepted_is_closed_quietly(
    gateway: RunningGateway, caplog: pytest.LogCaptureFixture, frame: bytes, turns: int
):
    """`turns` of the event loop after its handshake; what comes together with that is not read at all."""
    gateway.limit_sockets(init_timeout=0.2)
    host = gateway.url.removeprefix("http://")
    name, port = host.split(":")
    head = (
        f"GET /graphql HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Protocol: graphql-transport-ws\r\n\r\n"
    )
    reader, writer = await asyncio.open_connection(name, int(port))
    with anyio.fail_after(20):
        writer.write(head.encode())
        for _ in range(turns):
            await checkpoint()
        writer.write(frame)
        assert await reader.readline() == b"HTTP/1.1 101 Switching Protocols\r\n"
        await reader.readuntil(b"\r\n\r\n")
        with suppress(ConnectionError):  # it hangs up on what it does not read any more
            writer.write(b"\x88\x80\0\0\0\0")  # for one that was closed with a reason
            await reader.read()
        writer.close()
    assert (await gateway.post(ME)).json()["data"]["me"]["username"] == ADMIN
    assert [record.getMessage() for record in caplog.records if record.levelname in {"WARNING", "ERROR"}] == []


async def test_an_unasked_pong_is_taken(gateway: RunningGateway):
    async with gateway.connect() as socket:
        await socket.send({"type": "pong", "payload": {"any": "thing"}})
        await socket.send({"type": "ping"})
        assert await socket.receive() == {"type": "pong"}


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        ({"query": "{"}, "GRAPHQL_PARSE_FAILED"),
        ({"query": "{ nothing }"}, "GRAPHQL_VALIDATION_FAILED"),
        ({"query": "query A { me { id } }", "operationName": "B"}, "GRAPHQL_VALIDATION_FAILED"),
        ({"query": "query A { me { id } } query B { me { id } }"}, "GRAPHQL_VALIDATION_FAILED"),
        ({"query": "query($name: String!) { model(name: $name) { id } }"}, "GRAPHQL_VALIDATION_FAILED"),
        ({"query": GENERATE, "variables": {"input": {"model": 5}}}, "GRAPHQL_VALIDATION_FAILED"),
        ({"query": "{me" * 30_000}, "LIMIT_EXCEEDED"),
        ({"query": "{me" * 150 + "}" * 150}, "LIMIT_EXCEEDED"),
        ({"query": DEEP}, "LIMIT_EXCEEDED"),
    ],
    ids=lambda value: str(value)[:60],
)
async def test_an_operation_that_cannot_run_is_an_error_of_its_own(gateway: RunningGateway, payload: Json, code: str):
    async with gateway.connect() as socket:
        await socket.subscribe(GENERATE, {"input": {"model": "fake:stall-3", "prompt": {"text": "x"}}}, id="running")
        await socket.send({"type": "subscribe", "id": "wrong", "payload": payload})
        while (message := await socket.receive())["id"] != "wrong":
            pass
        assert (message["type"], message["payload"][0]["extensions"]["code"]) == ("error", code)
        (await gateway.fake.request()).release()
        assert [event async for event in socket.events("running")][-1]["__typename"] == "GenerationCompleted"


async def test_the_id_of_an_operation_that_failed_can_be_used_again(gateway: RunningGateway):
    async with gateway.connect() as socket:
        await socket.subscribe("{")
        assert (await socket.receive())["type"] == "error"
        await socket.subscribe(ME)
        assert [event async for event in socket.events()] == [{"username": ADMIN}]


async def test_a_query_gives_one_result_and_completes(gateway: RunningGateway):
    async with gateway.connect() as socket:
        await socket.subscribe(ME)
        result, end = await socket.receive(), await socket.receive()
        assert (result["type"], result["id"], result["payload"]["data"]) == ("next", "1", {"me": {"username": ADMIN}})
        assert end == {"type": "complete", "id": "1"}


async def test_a_mutation_runs_over_a_websocket(gateway: RunningGateway):
    async with gateway.connect() as socket:
        await socket.subscribe('mutation { createApiKey(input: {name: "x"}) { __typename } }')
        assert [event async for event in socket.events()] == [{"__typename": "CreateApiKeySuccess"}]


async def test_an_error_of_a_field_stands_beside_the_data(gateway: RunningGateway):
    async with gateway.connect() as socket:
        await socket.subscribe('{ me { username } node(id: "nonsense") { id } }')
        message = await socket.receive()
    assert message["type"] == "next"
    assert message["payload"]["data"] == {"me": {"username": ADMIN}, "node": None}
    assert message["payload"]["errors"][0]["extensions"]["code"] == "INVALID_INPUT"


async def test_a_generation_that_is_refused_gets_one_event_and_disturbs_no_other(gateway: RunningGateway):
    refusals: list[Json] = []
    async with gateway.connect() as socket:
        await socket.subscribe(GENERATE, {"input": {"model": "fake:stall-3", "prompt": {"text": "x"}}}, id="running")
        for input in ({"model": "no", "prompt": {"text": "x"}}, {"model": "fake:echo", "prompt": {"text": ""}}):
            await socket.subscribe(GENERATE, {"input": input}, id="refused")
            refusals += [event async for event in socket.events("refused")]
        gateway.fake.release()
        assert [event async for event in socket.events("running")][-1]["__typename"] == "GenerationCompleted"
    assert [refusal["__typename"] for refusal in refusals] == ["GenerationRefused"] * 2
    assert [refusal["error"]["code"] for refusal in refusals] == ["MODEL_NOT_FOUND", "INVALID_INPUT"]
    assert refusals[1]["error"]["issues"] == [{"path": ["prompt", "text"]}]


async def test_an_id_is_free_once_its_operation_is_complete(gateway: RunningGateway):
    async with gateway.connect() as socket:
        for _ in range(3):
            await socket.subscribe(ME)
            assert [event async for event in socket.events()] == [{"username": ADMIN}]


async def test_an_id_is_free_once_the_client_has_completed_it(gateway: RunningGateway):
    async with gateway.connect() as socket:
        await socket.subscribe(GENERATE, {"input": {"model": "fake:stall-3", "prompt": {"text": "x"}}})
        await socket.receive()
        await socket.complete()
        await socket.subscribe(ME)
        seen: list[Any] = []
        while not seen or seen[-1]["type"] != "complete":
            seen.append(await socket.receive())
    assert seen[-2]["payload"]["data"] == {"me": {"username": ADMIN}}


async def test_completing_what_is_not_running_does_no_harm(gateway: RunningGateway):
    async with gateway.connect() as socket:
        await socket.complete("never seen")
        await socket.subscribe(ME)
        assert [event async for event in socket.events()] == [{"username": ADMIN}]


async def test_many_operations_run_at_once_on_one_socket(gateway: RunningGateway):
    generate = {"input": {"model": "fake:count-5", "prompt": {"text": "x"}}}
    async with gateway.connect() as socket:
        for number in range(20):
            await socket.subscribe(GENERATE, generate, id=str(number))
        texts = dict.fromkeys(map(str, range(20)), "")
        running = set(texts)
        while running:
            message = await socket.receive()
            if message["type"] == "complete":
                running.remove(message["id"])
            else:
                texts[message["id"]] += message["payload"]["data"]["generate"].get("text", "")
    assert set(texts.values()) == {"0 1 2 3 4 "}


async def test_a_client_that_never_reads_loses_the_connection_and_its_generation(own_gateway: RunningGateway):
    own_gateway.limit_sockets(send_timeout=0.2)
    own_gateway.fake.scripts["fake:echo"] = Script(["x" * 10_000] * 10_000, delay_ms=0.1, stall=True)
    narrow = socket.socket()
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    narrow.connect((own_gateway.client.base_url.host, own_gateway.client.base_url.port))
    async with websocket(
        url(own_gateway), sock=narrow, subprotocols=[Subprotocol("graphql-transport-ws")], compression=None
    ) as connection:
        reader = Socket(connection)
        await reader.send(INIT | {"payload": own_gateway.headers()})
        await reader.receive()
        connection.transport.pause_reading()
        await reader.subscribe(GENERATE, {"input": {"model": "fake:echo", "prompt": {"text": "x"}}})
        request = await own_gateway.fake.request()
        with anyio.fail_after(20):
            await request.ended.wait()
        assert request.left
        connection.transport.abort()


async def test_a_python_client_signs_in_and_streams_an_answer(gateway: RunningGateway):
    transport = WebsocketsTransport(url=url(gateway), init_payload={"Authorization": f"Bearer {gateway.token}"})
    async with Client(transport=transport, fetch_schema_from_transport=True) as session:
        query = gql(GENERATE)
        query.variable_values = {"input": {"model": "fake:count-5", "prompt": {"text": "one two three"}}}
        events = [result["generate"] async for result in session.subscribe(query)]
    assert "".join(event.get("text", "") for event in events) == "0 1 2 3 4 "
    assert events[-1]["finishReason"] == "STOP"
