"""What is too large, or too much at once, is refused by itself: nothing else on its connection ends."""

import json
import logging
from collections.abc import AsyncGenerator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import anyio
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.asyncio.client import connect as websocket
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from gateway.errors import Overloaded
from server.transports.bodies import BytesInFlight
from server.transports.websocket_messages import byte_length, find_id
from tests.support.fake_model_server import FakeModelServer
from tests.support.gateways import ADMIN, PASSWORD, Json, RunningGateway, gateway_settings, running_gateway
from tests.support.generations import GENERATE, asking
from tests.support.http_streams import EVENT_STREAM, MULTIPART
from tests.support.polling import pause
from tests.support.shared.gateways import as_new, sharing

ME = "{ me { username } }"
LIMIT = 100_000
FLIGHT = 1_000_000
HALF = FLIGHT // 2
"""What one caller alone may hold."""


shared_small = sharing(max_body_size=LIMIT, max_bytes_in_flight=FLIGHT)


@pytest.fixture
async def small(shared_small: RunningGateway) -> RunningGateway:
    """A gateway with small limits on what comes in, as new."""
    return await as_new(shared_small)


def subscribing(id: str, size: int, **order: Any) -> str:
    """A message of this many bytes."""
    message = {"id": id, "type": "subscribe", "payload": {"query": ME, "variables": {"x": ""}}, **order}
    text = json.dumps({key: message[key] for key in [*order, *message]} if order else message)
    return text.replace('"x": ""', '"x": "' + "y" * (size - len(text)) + '"')


async def refused_beside_a_stream(gateway: RunningGateway, message: str) -> Json:
    """The error of an operation `refused`, sent on a socket whose stream goes on to its end all the same."""
    async with gateway.connect() as socket:
        await socket.subscribe(GENERATE, asking("fake:stall-3"), id="running")
        await socket.connection.send(message)
        while (answer := await socket.receive())["id"] != "refused":
            pass
        [error] = answer["payload"]
        assert answer["type"] == "error"
        (await gateway.fake.request()).release()
        events = [event async for event in socket.events("running")]
    assert events[-1]["__typename"] == "GenerationCompleted"
    return error


@pytest.mark.parametrize("size", [LIMIT + 1, LIMIT * 2])
async def test_a_message_that_is_too_large_ends_no_other_operation(small: RunningGateway, size: int):
    error = await refused_beside_a_stream(small, subscribing("refused", size))
    assert error["extensions"]["code"] == "LIMIT_EXCEEDED"
    assert "OLLAGRAPH_MAX_BODY_SIZE" in error["message"]


async def test_a_message_at_the_limit_is_taken(small: RunningGateway):
    async with small.connect() as socket:
        await socket.connection.send(subscribing("1", LIMIT))
        assert [event async for event in socket.events()] == [{"username": ADMIN}]


async def test_characters_of_several_bytes_count_by_their_bytes(small: RunningGateway):
    async with small.connect() as socket:
        await socket.subscribe(ME + "#" + "\u20ac" * (LIMIT // 3))
        refusal = await socket.receive()
    assert refusal["payload"][0]["extensions"]["code"] in {"LIMIT_EXCEEDED"}


async def test_a_message_in_many_frames_is_refused_by_its_size(small: RunningGateway):
    text = subscribing("large", LIMIT + 10)
    async with small.connect() as socket:
        await socket.connection.send(text[at : at + 1000] for at in range(0, len(text), 1000))
        assert (await socket.receive())["payload"][0]["extensions"]["code"] == "LIMIT_EXCEEDED"
        await socket.subscribe(ME)
        assert [event async for event in socket.events()] == [{"username": ADMIN}]


async def test_a_large_message_without_credentials_is_an_error_that_names_the_setting(small: RunningGateway):
    async with small.connect(init={}) as socket:
        await socket.connection.send(subscribing("large", small.settings.max_anonymous_body_size + 1))
        [error] = (await socket.receive())["payload"]
        assert error["extensions"]["code"] == "LIMIT_EXCEEDED"
        assert "OLLAGRAPH_MAX_ANONYMOUS_BODY_SIZE" in error["message"]
        await socket.subscribe(ME)
        assert [event async for event in socket.events()] == [None]


@pytest.mark.parametrize("initialised", [False, True])
async def test_nobody_may_make_the_gateway_hold_a_large_message(small: RunningGateway, initialised: bool):
    url = small.url.replace("http://", "ws://") + "/graphql"
    async with websocket(url, subprotocols=[Subprotocol("graphql-transport-ws")]) as connection:
        if initialised:
            await connection.send('{"type": "connection_init"}')
            await connection.recv()
        await connection.send("x" * 1_000_000)
        with pytest.raises(ConnectionClosed) as closed:
            await connection.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1009


async def test_a_large_initialisation_is_closed_and_told_why(small: RunningGateway):
    url = small.url.replace("http://", "ws://") + "/graphql"
    async with websocket(url, subprotocols=[Subprotocol("graphql-transport-ws")]) as connection:
        await connection.send('{"type": "connection_init", "payload": {"x": "' + "y" * 17_000 + '"}}')
        with pytest.raises(ConnectionClosed) as closed:
            await connection.recv()
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1009, "A message may have at most 16,384 bytes")


@pytest.mark.parametrize(
    ("text", "id"),
    [
        ('{"id":"a","type":"subscribe","payload":{"id":"b"}}', "a"),
        ('{ "type" : "subscribe" , "id" : "a" , "payload": {"query": "', "a"),
        ('{"type":"subscribe","payload":{"query":"x"},"id":"a"}', "a"),
        ('{"payload":{"id":"b"},"id":"a","type":"subscribe"}\n', "a"),
        ('{"payload":{"query":"x","variables":{"id":"b"}},"type":"subscribe"}', None),
        ('{"payload":{"id":"b"}}', None),
        ('"id":"a"', None),
        ("", None),
    ],
)
def test_the_id_of_a_message_is_found_where_clients_write_it(text: str, id: str | None):
    assert find_id(text) == id


@pytest.mark.parametrize(("text", "size"), [("", 0), ("abc", 3), ("\u20ac\u20ac", 6), ("\U0001f600" * 3, 12)])
def test_the_bytes_of_a_text_are_counted(text: str, size: int):
    assert byte_length(text, 12) <= 12
    assert (byte_length(text, 5) > 5) == (size > 5)


@asynccontextmanager
async def held(gateway: RunningGateway, size: int) -> AsyncGenerator[None]:
    """As many bytes of bodies that have come in and do not end."""
    ending = anyio.Event()
    piece = LIMIT - 1

    async def body() -> AsyncGenerator[bytes]:
        yield b"x" * piece
        await ending.wait()

    async def post() -> None:
        headers = {**gateway.headers(), "Content-Type": "application/json"}
        await gateway.client.post("/graphql", content=body(), headers=headers)

    in_flight = gateway.app.body_limits.in_flight
    async with anyio.create_task_group() as tasks:
        for _ in range(size // piece):
            tasks.start_soon(post)
        with anyio.fail_after(20):
            while in_flight.held < size - piece:
                await pause()
        yield
        ending.set()


async def large(gateway: RunningGateway, **headers: str) -> httpx.Response:
    headers = {**gateway.headers(), "Content-Type": "application/json", **headers}
    return await gateway.client.post("/graphql", content=b'{"query": "{me{id}}"}'.ljust(LIMIT), headers=headers)


async def test_more_bytes_at_once_than_are_allowed_are_refused_until_there_is_room(small: RunningGateway):
    async with held(small, HALF):
        response = await large(small)
        assert (response.status_code, response.headers["Retry-After"]) == (503, "1")
        [error] = response.json()["errors"]
        assert (error["extensions"]["code"], error["extensions"]["retryable"]) == ("OVERLOADED", True)
        assert "OLLAGRAPH_MAX_BYTES_IN_FLIGHT" in error["message"]
    assert (await large(small)).status_code == 200
    assert small.app.body_limits.in_flight.held == 0


async def test_one_caller_leaves_room_for_another(small: RunningGateway):
    await small.make_user("ada")
    token = await small.sign_in("ada", PASSWORD)
    await small.be_administrator()
    async with held(small, HALF):
        assert (await large(small)).status_code == 503
        assert (await large(small, Authorization=f"Bearer {token}")).status_code == 200


async def test_a_small_request_has_room_whatever_others_send(small: RunningGateway):
    async with held(small, HALF):
        assert (await small.post(ME)).json()["data"] == {"me": {"username": ADMIN}}


async def test_a_message_that_does_not_come_to_its_end_closes_its_socket(
    sqlite_url: str, tmp_path: Path, fake: FakeModelServer
):
    settings = gateway_settings(tmp_path, sqlite_url, fake.url, request_timeout=2)

    async def never_ending() -> AsyncGenerator[str]:
        yield subscribing("1", LIMIT)[:-10]
        await anyio.sleep_forever()

    async with running_gateway(settings, fake) as gateway, gateway.connect() as socket:
        await socket.connection.send(subscribing("whole", LIMIT))
        assert [event async for event in socket.events("whole")] == [{"username": ADMIN}]
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(socket.connection.send, never_ending())
            with pytest.raises(ConnectionClosed) as closed:
                await socket.receive()
            tasks.cancel_scope.cancel()
        assert gateway.app.body_limits.in_flight.held == 0
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (
        1013,
        "The message did not come in time (OLLAGRAPH_REQUEST_TIMEOUT)",
    )


async def test_a_large_message_on_a_socket_has_no_room_either(small: RunningGateway):
    async with small.connect() as socket, held(small, HALF):
        half = subscribing("1", LIMIT)[: LIMIT - 10]

        async def never_ending() -> AsyncGenerator[str]:
            yield half
            await anyio.sleep_forever()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(socket.connection.send, never_ending())
            with pytest.raises(ConnectionClosed) as closed:
                await socket.receive()
            tasks.cancel_scope.cancel()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1013


def test_bytes_that_are_held_no_longer_make_room():
    in_flight = BytesInFlight(1_000_000, 600_000)
    with in_flight.holding(None) as one:
        one.keep(600_000)
        with in_flight.holding(uuid4()) as other, pytest.raises(Overloaded):
            other.keep(500_000)
        assert in_flight.held == 600_000
        one.keep(400_000)
        assert in_flight.held == 400_000
    assert in_flight.held == 0


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 30)), max_size=60))
def test_however_much_some_send_somebody_new_finds_room(steps: list[tuple[int, int]]):
    """Each step is a body of a caller's, in units of 65,537 bytes, that is held to the end where it is let in."""
    unit, most, share = 65_537, 100, 10
    in_flight = BytesInFlight(most * unit, share * unit)
    callers = [None, *(uuid4() for _ in range(5))]
    own = [0] * len(callers)
    with ExitStack() as stack:
        for number, size in steps:
            held = stack.enter_context(in_flight.holding(callers[number]))
            left = most - sum(own) - size
            fits = left >= 0 and own[number] + size <= max(left, share)
            try:
                held.keep(size * unit)
            except Overloaded:
                assert not fits
            else:
                assert fits or not size
                own[number] += size
        assert in_flight.held == sum(own) * unit
        if sum(map(bool, own)) == 1:
            assert max(own) <= most // 2
    assert in_flight.held == 0


MANY = '{"query": "{ me { id } }", "variables": {"x": [%s1]}}' % ("1," * 300_000)


async def test_json_with_very_many_parts_is_refused_unread(shared_gateway: RunningGateway):
    headers = {**shared_gateway.headers(), "Content-Type": "application/json"}
    response = await shared_gateway.client.post("/graphql", content=MANY, headers=headers)
    assert response.status_code == 400
    assert "commas and brackets" in response.text


@pytest.mark.parametrize(
    "json", ["[" + "1," * 300_000 + "1]", "[" * 1_100 + "]" * 1_100, "[1e400" + ",1" * 40_000 + "]"]
)
async def test_json_that_is_too_much_to_read_ends_no_other_operation(gateway: RunningGateway, json: str):
    async with gateway.connect() as socket:
        await socket.subscribe(GENERATE, asking("fake:stall-3"), id="running")
        request = await gateway.fake.request()
        message = f'{{"id": "much", "type": "subscribe", "payload": {{"query": "{ME}", "variables": {{"x": {json}}}}}}}'
        await socket.connection.send(message)
        while (message := await socket.receive())["id"] != "much":
            pass
        assert message["payload"][0]["extensions"]["code"] == "LIMIT_EXCEEDED"
        request.release()
        events = [event async for event in socket.events("running")]
    assert events[-1]["__typename"] == "GenerationCompleted"


class Broken:
    """Limits that are none: whoever reads one finds a fault of the program's own."""


def broken(gateway: RunningGateway) -> None:
    gateway.executor.limits = Broken()  # pyright: ignore[reportAttributeAccessIssue]


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.parametrize("accept", ["application/json", "application/graphql-response+json", EVENT_STREAM, MULTIPART])
async def test_what_nobody_foresaw_is_masked_over_http(
    gateway: RunningGateway, caplog: pytest.LogCaptureFixture, accept: str
):
    broken(gateway)
    response = await gateway.post(ME, Accept=accept, **{"X-Request-ID": "trace-42"})
    assert response.status_code == (500 if accept == "application/graphql-response+json" else 200)
    assert "INTERNAL_ERROR" in response.text
    assert "trace-42" in response.text
    assert "Broken" not in response.text
    [message] = logged(caplog)
    assert "trace-42" in message


async def test_what_nobody_foresaw_ends_one_operation_of_a_socket(
    gateway: RunningGateway, caplog: pytest.LogCaptureFixture
):
    async with gateway.connect() as socket:
        await socket.subscribe(GENERATE, asking("fake:stall-3"), id="running")
        request = await gateway.fake.request()
        limits = gateway.executor.limits
        broken(gateway)
        await socket.subscribe(ME, id="broken")
        while (message := await socket.receive())["id"] != "broken":
            pass
        assert message["payload"][0]["extensions"]["code"] == "INTERNAL_ERROR"
        gateway.executor.limits = limits
        request.release()
        events: list[Json] = [event async for event in socket.events("running")]
    assert events[-1]["__typename"] == "GenerationCompleted"
    assert len(logged(caplog)) == 1


@pytest.mark.parametrize("half", [r"\ud83d", r"\ude00", r"\ud83d\ud83d", r"a\ud83d!"])
async def test_half_of_a_character_in_a_message_ends_no_other_operation(small: RunningGateway, half: str):
    error = await refused_beside_a_stream(small, subscribing("refused", 200).replace("yy", half, 1))
    assert error["extensions"]["code"] == "BAD_REQUEST"
    assert "half of a character" in error["message"]
