"""Several gateways over one database and one Valkey act as one."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.fake_model_server import FakeModelServer
from tests.gateways import RunningGateway, gateway_settings, running_gateway
from tests.generations import CANCEL, GENERATE, WATCH, asking, look, next_event, start, until, until_tokens
from tests.valkeys import ValkeyServer

SECRET = "the gateways of one team sign with one secret"

Two = tuple[RunningGateway, RunningGateway]


@asynccontextmanager
async def gateways(
    count: int, folder: Path, database_url: str, fake: FakeModelServer, valkey: ValkeyServer, **settings: Any
) -> AsyncGenerator[list[RunningGateway]]:
    values = {"redis_url": valkey.url, "secret_key": SECRET, "lease_time": 0.5, **settings}
    async with AsyncExitStack() as stack:
        running: list[RunningGateway] = []
        for number in range(count):
            own = gateway_settings(folder / str(number), database_url, fake.url, **values)
            running.append(await stack.enter_async_context(running_gateway(own, fake)))
        yield running


@pytest.fixture
async def two(tmp_path: Path, database_url: str, fake: FakeModelServer, valkey: ValkeyServer) -> AsyncIterator[Two]:
    async with gateways(2, tmp_path, database_url, fake, valkey) as (one, other):
        yield one, other


def text_of(events: list[dict[str, Any]]) -> str:
    """The text of a whole stream; a gap or a repetition shows in the offsets."""
    text = ""
    for event in events:
        if "offset" in event:
            assert event["offset"] == len(text)
            text += event["text"]
    return text


async def test_a_stream_can_be_watched_at_any_gateway(two: Two):
    one, other = two
    id = await start(one, "fake:count-300", onDisconnect="CONTINUE")
    events = await other.events(WATCH, {"id": id})
    assert events[-1]["__typename"] == "GenerationCompleted"
    assert text_of(events) == "".join(f"{number} " for number in range(300))


async def test_a_viewer_of_another_gateway_follows_what_comes(two: Two, fake: FakeModelServer):
    one, other = two
    id = await start(one, "fake:stall-3", onDisconnect="CONTINUE")
    async with other.connect() as socket:
        await socket.subscribe(WATCH, {"id": id})
        seen = await until_tokens(socket, 3)
        fake.release()
        seen += await until(socket, "GenerationCompleted")
    assert text_of(seen) == "0 1 2 "


async def test_a_stream_that_was_cut_goes_on_at_another_gateway(two: Two, fake: FakeModelServer):
    one, other = two
    async with one.connect() as socket:
        await socket.subscribe(GENERATE, asking("fake:stall-3", onDisconnect="CONTINUE"))
        seen = await until_tokens(socket, 2)
    async with other.connect() as socket:
        await socket.subscribe(WATCH, {"id": seen[0]["generationId"], "after": seen[-1]["sequence"]})
        fake.release()
        seen += await until(socket, "GenerationCompleted")
    assert text_of(seen) == "0 1 2 "


async def test_a_generation_can_be_cancelled_at_any_gateway(two: Two, fake: FakeModelServer):
    one, other = two
    async with one.connect() as socket:
        await socket.subscribe(GENERATE, asking("fake:stall-3", onDisconnect="CONTINUE"))
        id = (await next_event(socket))["generationId"]
    request = await fake.request()
    cancelled = (await other.run(CANCEL, {"id": id}))["cancelGeneration"]["generation"]
    assert cancelled["state"] == "CANCELLED"
    await request.ended.wait()
    assert request.left
    assert (await look(one, id))["usage"]["completionTokens"] == request.sent


async def test_the_last_viewer_counts_wherever_it_is(two: Two, fake: FakeModelServer):
    one, other = two
    async with one.connect() as first:
        await first.subscribe(GENERATE, asking("fake:stall-3", onDisconnect="CANCEL"))
        id = (await next_event(first))["generationId"]
        async with other.connect() as second:
            await second.subscribe(WATCH, {"id": id})
            await next_event(second)
            await first.complete()
            assert (await look(other, id))["state"] == "RUNNING"
            await second.complete()
            request = await fake.request()
            await request.ended.wait()
    assert request.left
    with anyio.fail_after(10):
        while (await look(one, id))["state"] != "CANCELLED":
            pass
