"""A model that is faster than anybody reads comes in fewer events, and nothing waits that need not."""

from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from tests.fake_model_server import FakeModelServer
from tests.gateways import RunningGateway, gateway_settings, running_gateway
from tests.generations import GENERATE, WATCH, asking, cancel, ends, next_event, start, text_of, until

WORDS = "".join(f"{number} " for number in range(300))


@pytest.fixture
async def calm(tmp_path: Path, sqlite_url: str, fake: FakeModelServer) -> AsyncIterator[RunningGateway]:
    """A gateway with the longest interval there is."""
    async with running_gateway(gateway_settings(tmp_path, sqlite_url, fake.url, event_interval=1), fake) as gateway:
        yield gateway


async def test_a_fast_model_comes_in_few_events_and_whole(calm: RunningGateway):
    events = await calm.events(GENERATE, asking("fake:count-300"))
    texts = [event for event in events if event["__typename"] == "TextDelta"]
    assert text_of(events) == WORDS
    assert len(texts) < 100
    assert sum(event["tokens"] for event in texts) == 300
    assert len(ends(events)) == 1


async def test_the_first_text_does_not_wait_for_more(calm: RunningGateway):
    async with calm.connect() as socket:
        await socket.subscribe(GENERATE, asking("fake:stall-3"))
        assert (await until(socket, "TextDelta"))[-1]["text"].startswith("0 ")


async def test_a_cursor_within_merged_events_gives_the_rest(calm: RunningGateway):
    id = await start(calm, "fake:count-300")
    seen = await calm.events(WATCH, {"id": id})
    middle = next(event for event in seen if event["__typename"] == "TextDelta")
    rest = await calm.events(WATCH, {"id": id, "after": middle["sequence"]})
    assert middle["text"] + text_of(rest) == WORDS


async def test_a_viewer_who_waits_can_leave_at_once(calm: RunningGateway):
    async with calm.connect() as socket:
        await socket.subscribe(GENERATE, asking("fake:stall-3"))
        id = (await next_event(socket))["generationId"]
        await until(socket, "TextDelta")
        await socket.complete()
        with anyio.fail_after(20):
            await (await calm.fake.request()).ended.wait()
    assert (await cancel(calm, id))["state"] == "CANCELLED"
