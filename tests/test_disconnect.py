"""Viewers who leave: what becomes of the generation, and that it is counted exactly all the same."""

from collections.abc import Awaitable, Callable

import anyio
import pytest

from tests.support.fake_model_server import FakeRequest, Script
from tests.support.gateways import Json, RunningGateway, Socket
from tests.support.generations import (
    COMPLETE,
    GENERATE,
    WATCH,
    asked,
    asking,
    cancel,
    ends,
    look,
    next_event,
    none_runs,
    start,
    text_of,
    total,
    until,
)
from tests.support.http_streams import EVENT_STREAM, posted
from tests.test_slow_clients import connect


@pytest.fixture
def gateway(used_gateway: RunningGateway) -> RunningGateway:
    """One for all tests here, whatever the earlier ones left in its database."""
    return used_gateway


LAST = "{ generations(first: 1) { nodes { id state usage { completionTokens } } } }"


async def tear(socket: Socket) -> None:
    """As when the power fails: no closing handshake."""
    socket.connection.transport.abort()


async def complete(socket: Socket) -> None:
    """As GraphQL clients unsubscribe."""
    await socket.complete()


async def close(socket: Socket) -> None:
    """As a browser leaves a page."""
    await socket.connection.close()


every_way_to_leave = pytest.mark.parametrize("leave", [tear, complete, close])
Leave = Callable[[Socket], Awaitable[None]]


async def read_until_it_stalls(socket: Socket, tokens: int) -> Json:
    """Read the events of that many tokens; give the last one."""
    while True:
        event = await next_event(socket)
        tokens -= event.get("tokens", 0)
        if tokens == 0:
            return event


async def left(request: FakeRequest) -> bool:
    await request.ended.wait()
    return request.left


@every_way_to_leave
async def test_the_last_viewer_who_leaves_takes_the_generation_along(own_gateway: RunningGateway, leave: Leave):
    async with own_gateway.connect() as socket:
        await socket.subscribe(GENERATE, asking("fake:stall-5"))
        id = (await read_until_it_stalls(socket, 5))["generationId"]
        await leave(socket)
        request = await own_gateway.fake.request()
        assert await left(request)
    ended = await cancel(own_gateway, id)  # which only waits now
    assert (ended["state"], ended["finishReason"], ended["cancelReason"]) == ("CANCELLED", None, "VIEWERS_LEFT")
    assert ended["usage"] == {"promptTokens": 4, "completionTokens": request.sent, "source": "ESTIMATED"}
    assert await total(own_gateway) == {"generations": 1, "promptTokens": 4, "completionTokens": 5}


@every_way_to_leave
async def test_one_that_shall_continue_does(gateway: RunningGateway, leave: Leave):
    async with gateway.connect() as socket:
        await socket.subscribe(GENERATE, asking("fake:stall-5", onDisconnect="CONTINUE"))
        id = (await read_until_it_stalls(socket, 5))["generationId"]
        await leave(socket)
    gateway.fake.release()
    events = await gateway.events(WATCH, {"id": id})
    assert (text_of(events), events[-1]["generation"]["state"]) == ("0 1 2 3 4 ", "COMPLETED")
    assert events[-1]["usage"] == {"promptTokens": 3, "completionTokens": 5, "source": "BACKEND"}


async def test_a_viewer_who_comes_back_gets_exactly_the_rest(gateway: RunningGateway):
    async with gateway.connect() as socket:
        await socket.subscribe(GENERATE, asking("fake:paced-64-20", onDisconnect="CONTINUE"))
        events = await until(socket, "TextDelta")
        await tear(socket)
    id, after = events[-1]["generationId"], events[-1]["sequence"]
    rest = await gateway.events(WATCH, {"id": id, "after": after})
    assert text_of(events + rest) == "".join(f"{number} " for number in range(64))
    assert ends(rest) == [rest[-1]]


async def test_while_somebody_watches_others_may_leave(gateway: RunningGateway):
    async with gateway.connect() as staying, gateway.connect() as leaving:
        await staying.subscribe(GENERATE, asking("fake:stall-5"))
        id = (await read_until_it_stalls(staying, 5))["generationId"]
        await leaving.subscribe(WATCH, {"id": id})
        await read_until_it_stalls(leaving, 5)
        await leaving.complete()
        await leaving.send({"type": "ping"})
        while (await leaving.receive())["type"] != "pong":
            pass
        gateway.fake.release()
        assert (await until(staying, "GenerationCompleted"))[-1]["finishReason"] == "STOP"


async def test_the_last_of_two_viewers_takes_the_generation_along(gateway: RunningGateway):
    async with gateway.connect() as first, gateway.connect() as second:
        await first.subscribe(GENERATE, asking("fake:stall-5"))
        id = (await read_until_it_stalls(first, 5))["generationId"]
        await second.subscribe(WATCH, {"id": id})
        await read_until_it_stalls(second, 5)
        await tear(first)
        await tear(second)
        assert await left(await gateway.fake.request())


async def test_one_that_nobody_ever_watched_goes_on(gateway: RunningGateway):
    id = await start(gateway, "fake:hold-5", onDisconnect="CANCEL")
    (await gateway.fake.request()).release()
    await none_runs(gateway)
    assert (await look(gateway, id))["state"] == "COMPLETED"


async def test_a_client_who_hangs_up_on_the_mutation_cancels_it(gateway: RunningGateway):
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(gateway.post, COMPLETE, asking("fake:stall-5"))
        request = await gateway.fake.request()
        tasks.cancel_scope.cancel()
    assert await left(request)
    await none_runs(gateway)
    (node,) = (await gateway.run(LAST))["generations"]["nodes"]
    assert node["state"] == "CANCELLED"
    assert node["usage"]["completionTokens"] <= request.sent


GET = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
HALF_A_BODY = b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n12345"


async def was_cancelled(gateway: RunningGateway, request: FakeRequest) -> None:
    assert await left(request)
    await none_runs(gateway)
    (node,) = (await gateway.run(LAST))["generations"]["nodes"]
    assert node["state"] == "CANCELLED"


@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize("behind", [GET, GET * 3, GET * 16, GET[:-2], HALF_A_BODY])
@pytest.mark.parametrize(("accept", "query"), [("application/json", COMPLETE), (EVENT_STREAM, GENERATE)])
async def test_a_client_who_leaves_with_requests_behind_the_one_that_runs_is_noticed(
    gateway: RunningGateway, caplog: pytest.LogCaptureFixture, accept: str, query: str, behind: bytes, later: bool
):
    async with await connect(gateway) as stream:
        await stream.send(posted(gateway, accept, query, asking("fake:stall-5")) + (b"" if later else behind))
        request = await gateway.fake.request()
        if later:
            await stream.send(behind)
            await gateway.run(LAST)  # meanwhile it has been read
    await was_cancelled(gateway, request)
    assert [record.getMessage() for record in caplog.records if record.levelname in {"WARNING", "ERROR"}] == []


@pytest.mark.parametrize(
    "behind",
    [
        GET * 40,
        b"POST / HTTP/1.1\r\nContent-Length: 999999\r\n\r\n" + b"x" * 100_000,
        b"GET /graphql HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    ],
)
async def test_a_client_who_sends_too_much_behind_the_request_that_runs_is_cut_off(
    gateway: RunningGateway, caplog: pytest.LogCaptureFixture, behind: bytes
):
    async with await connect(gateway) as stream:
        await stream.send(posted(gateway, "application/json", COMPLETE, asking("fake:stall-5")))
        request = await gateway.fake.request()
        await stream.send(behind)
        with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
            await stream.receive()
    await was_cancelled(gateway, request)
    told = [record.getMessage() for record in caplog.records if record.levelname in {"WARNING", "ERROR"}]
    assert told == ["a connection was closed: its client sent too much without waiting for answers"]


async def test_requests_behind_one_another_are_answered_in_their_order(gateway: RunningGateway):
    async with await connect(gateway) as stream:
        sent = [posted(gateway, "application/json", f"{{ a{number}: __typename }}", {}) for number in range(16)]
        await stream.send(b"".join(sent))
        came = b""
        with anyio.fail_after(20):
            while came.count(b'"Query"') < len(sent):
                came += await stream.receive()
    places = [came.index(f'"a{number}":'.encode()) for number in range(16)]
    assert places == sorted(places)


async def test_a_client_who_hangs_up_on_a_continuing_mutation_lets_it_go_on(gateway: RunningGateway):
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(gateway.post, COMPLETE, asking("fake:hold-5", onDisconnect="CONTINUE"))
        request = await asked(gateway)
        tasks.cancel_scope.cancel()
    request.release()
    await none_runs(gateway)
    (node,) = (await gateway.run(LAST))["generations"]["nodes"]
    assert (node["state"], node["usage"]["completionTokens"]) == ("COMPLETED", 5)


async def test_viewers_who_leave_before_the_first_event_leave_nothing_running(gateway: RunningGateway):
    for _ in range(20):
        async with gateway.connect() as socket:
            await socket.subscribe(GENERATE, asking("fake:hold-3"))
            await tear(socket)
    await none_runs(gateway)
    assert all([await left(request) for request in gateway.fake.requests])


async def test_viewers_who_leave_near_the_end_never_make_two_ends_of_it(own_gateway: RunningGateway):
    ids: list[str] = []
    for _ in range(20):
        async with own_gateway.connect() as socket:
            await socket.subscribe(GENERATE, asking("fake:together-5"))
            ids.append((await next_event(socket))["generationId"])
            await tear(socket)
    await none_runs(own_gateway)
    assert [len(ends(await own_gateway.events(WATCH, {"id": id}))) for id in ids] == [1] * 20
    assert (await total(own_gateway))["generations"] == 20


async def test_a_slow_reader_holds_nobody_back_and_loses_nothing(gateway: RunningGateway):
    pieces = [f"{number} " * 4000 for number in range(400)]
    gateway.fake.models.append("much")
    gateway.fake.scripts["much"] = Script(text=pieces, hold=True)
    id = await start(gateway, "much")
    async with gateway.connect() as slow:
        await slow.subscribe(WATCH, {"id": id})
        assert (await next_event(slow))["__typename"] == "GenerationStarted"
        (await gateway.fake.request()).release()  # and from here on it reads nothing
        assert text_of(await gateway.events(WATCH, {"id": id})) == "".join(pieces)
        events = await until(slow, "GenerationCompleted")
    deltas = [event for event in events if event["__typename"] == "TextDelta"]
    assert text_of(events) == "".join(pieces)
    assert len(deltas) < sum(delta["tokens"] for delta in deltas) == 400
