"""A model that is faster than anybody reads comes in fewer events, and nothing waits that need not."""

import anyio
import pytest

from db.clock import new_id
from gateway.streams.buffer import StreamBuffer
from gateway.streams.events import Event, Started, TextDelta
from gateway.streams.viewer import Viewer
from tests.support.gateways import RunningGateway
from tests.support.generations import GENERATE, WATCH, asking, cancel, ends, next_event, start, text_of, until
from tests.support.polling import settled
from tests.support.shared.gateways import as_new, sharing

WORDS = "".join(f"{number} " for number in range(300))


calmest = sharing(event_interval=1)
keeping_it = sharing(event_interval=0.02)


@pytest.fixture(params=["calmest", "keeping_it"])
def either(request: pytest.FixtureRequest) -> RunningGateway:
    """A gateway with the longest interval there is, and one with an interval that its backends keep."""
    return request.getfixturevalue(request.param)


@pytest.fixture
async def calm(either: RunningGateway) -> RunningGateway:
    """The same, as new."""
    return await as_new(either)


async def test_a_fast_model_comes_in_one_event_an_interval_and_whole(calm: RunningGateway):
    begun = anyio.current_time()
    events = await calm.events(GENERATE, asking("fake:count-300"))
    intervals = (anyio.current_time() - begun) / calm.settings.event_interval
    texts = [event for event in events if event["__typename"] == "TextDelta"]
    assert text_of(events) == WORDS
    assert len(texts) <= intervals + 2  # the first one, and the last one with the end
    assert sum(event["tokens"] for event in texts) == 300
    assert len(ends(events)) == 1


async def test_nothing_comes_before_the_interval_is_over():
    log, id = StreamBuffer(3600, 1_000_000), new_id()
    log.begin(id)
    log.add(id, [Started(1, 0), TextDelta(2, "a", 0, 1)])
    viewer, seen = Viewer(id, log.follow(id), interval=3600), list[Event]()

    async def watch() -> None:
        async for event in viewer:
            seen.append(event)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch)
        for number in range(3, 100):
            await settled()
            log.add(id, [TextDelta(number, "b", number - 2, 1)])
        await settled()
        tasks.cancel_scope.cancel()
    assert [event.sequence for event in seen] == [1, 2]


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
