"""The contract of a stream log: every implementation stands in `IMPLEMENTATIONS` and passes all of it."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing
from uuid import UUID

import anyio
import pytest
from anyio.lowlevel import checkpoint

from db.clock import new_id
from gateway.errors import ErrorCode, StreamExpired
from gateway.streams.buffer import StreamBuffer
from gateway.streams.events import Completed, Event, Failed, FinishReason, Started, TextDelta, TokenUsage
from gateway.streams.log import StreamLog, StreamOwner
from gateway.streams.memory import MemoryStreamLog
from gateway.streams.packing import BLOCK_BYTES, EVENT_BYTES
from tests.support.shared.logs import NEVER, PLENTY, Pair, running_log
from tests.support.valkeys import ValkeyServer

MakeLog = Callable[[float, int], Awaitable[StreamLog]]


async def memory(stack: AsyncExitStack, valkey: ValkeyServer | None, retention: float, max_bytes: int) -> StreamLog:
    return MemoryStreamLog(StreamBuffer(retention, max_bytes))


async def shared(stack: AsyncExitStack, valkey: ValkeyServer | None, retention: float, max_bytes: int) -> StreamLog:
    """One gateway's log, written and read by itself."""
    assert valkey is not None
    return await stack.enter_async_context(running_log(valkey, retention, max_bytes))


async def pair(stack: AsyncExitStack, valkey: ValkeyServer | None, retention: float, max_bytes: int) -> StreamLog:
    """Written at one gateway, read at another."""
    assert valkey is not None
    writer = await stack.enter_async_context(running_log(valkey, retention, max_bytes))
    return Pair(writer, await stack.enter_async_context(running_log(valkey, retention, max_bytes)))


IMPLEMENTATIONS = {"memory": memory, "shared": shared, "pair": pair}


@pytest.fixture(params=IMPLEMENTATIONS)
async def make_log(request: pytest.FixtureRequest, valkey: ValkeyServer) -> AsyncIterator[MakeLog]:
    """Makes a log with a retention in seconds and a memory in bytes."""
    async with AsyncExitStack() as stack:
        yield lambda retention, max_bytes: IMPLEMENTATIONS[request.param](stack, valkey, retention, max_bytes)


@pytest.fixture
async def log(make_log: MakeLog) -> StreamLog:
    return await make_log(NEVER, PLENTY)


def said(sequence: int, text: str = "word ", offset: int = 0) -> TextDelta:
    return TextDelta(sequence, text, offset, tokens=1)


def completed(sequence: int) -> Completed:
    return Completed(sequence, FinishReason.STOP, TokenUsage())


ANSWER: list[Event] = [Started(1, 0), said(2, "a"), said(3, "b", 1), completed(4)]


async def opened(log: StreamLog, *events: Event) -> UUID:
    stream_id = new_id()
    await log.open(stream_id, StreamOwner(fence=1))
    if events:
        await log.append(stream_id, events)
        await log.flush(stream_id)
    return stream_id


async def read(log: StreamLog, stream_id: UUID, after: int = 0, *, finished: bool = False) -> list[Event]:
    return [event async for batch in log.follow(stream_id, after, finished=finished) for event in batch]


async def test_what_has_ended_is_replayed(log: StreamLog):
    assert await read(log, await opened(log, *ANSWER)) == ANSWER


async def test_a_viewer_gets_events_as_they_come(log: StreamLog):
    stream_id = await opened(log)
    async with aclosing(log.follow(stream_id)) as batches:
        for event in ANSWER:
            await log.append(stream_id, [event])
            assert list(await anext(batches)) == [event]


async def test_a_viewer_who_waits_is_woken(log: StreamLog):
    stream_id = await opened(log)
    seen: list[Event] = []

    async def watch() -> None:
        seen.extend(await read(log, stream_id))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch)
        for event in ANSWER:
            await checkpoint()
            await log.append(stream_id, [event])
    assert seen == ANSWER


async def test_following_ends_after_the_terminal_event(log: StreamLog):
    stream_id = await opened(log, *ANSWER)
    async with aclosing(log.follow(stream_id)) as batches:
        await anext(batches)
        with pytest.raises(StopAsyncIteration):
            await anext(batches)


async def test_a_failure_is_a_terminal_event_too(log: StreamLog):
    failed = Failed(1, ErrorCode.BACKEND_FAILED, "It failed.", False, TokenUsage())
    assert await read(log, await opened(log, failed)) == [failed]


async def test_a_late_viewer_gets_what_it_missed_and_then_what_comes(log: StreamLog):
    stream_id = await opened(log, *ANSWER[:2])
    async with aclosing(log.follow(stream_id)) as batches:
        assert list(await anext(batches)) == ANSWER[:2]
        await log.append(stream_id, ANSWER[2:])
        assert list(await anext(batches)) == ANSWER[2:]


async def test_several_viewers_see_the_same(log: StreamLog):
    stream_id = await opened(log)
    seen: list[list[Event]] = []

    async def watch() -> None:
        seen.append(await read(log, stream_id))

    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(watch)
        for event in ANSWER:
            await checkpoint()
            await log.append(stream_id, [event])
    assert seen == [ANSWER] * 5


@pytest.mark.parametrize("after", range(7))
async def test_a_cursor_gives_exactly_the_rest_and_in_any_case_the_end(log: StreamLog, after: int):
    assert await read(log, await opened(log, *ANSWER), after) == (ANSWER[after:] or ANSWER[-1:])


async def test_a_slow_viewer_gets_one_larger_batch(log: StreamLog):
    stream_id = await opened(log, ANSWER[0])
    async with aclosing(log.follow(stream_id)) as batches:
        await anext(batches)
        for event in ANSWER[1:]:
            await log.append(stream_id, [event])
        assert list(await anext(batches)) == ANSWER[1:]


async def test_a_viewer_who_leaves_does_not_disturb_the_others(log: StreamLog):
    stream_id = await opened(log, ANSWER[0])
    async with aclosing(log.follow(stream_id)) as batches:
        await anext(batches)
    await log.append(stream_id, ANSWER[1:])
    assert await read(log, stream_id) == ANSWER


async def test_reading_gives_all_events_so_far(log: StreamLog):
    assert list(await log.read(await opened(log, *ANSWER[:3]))) == ANSWER[:3]


async def test_an_unknown_stream_cannot_be_followed(log: StreamLog):
    with pytest.raises(StreamExpired):
        await read(log, new_id(), finished=True)


async def test_an_unknown_stream_cannot_be_read(log: StreamLog):
    with pytest.raises(StreamExpired):
        await log.read(new_id())


async def test_nothing_may_come_after_the_end(log: StreamLog):
    stream_id = await opened(log, *ANSWER)
    with pytest.raises(ValueError, match="event 5 does not continue"):
        await log.append(stream_id, [said(5)])


async def test_adding_nothing_to_what_has_ended_changes_nothing():
    log = MemoryStreamLog(StreamBuffer(NEVER, PLENTY))
    stream_id = await opened(log, *ANSWER)
    await log.append(stream_id, [])
    assert list(await log.read(stream_id)) == ANSWER


@pytest.mark.parametrize("sequence", [1, 3])
async def test_a_repetition_or_a_gap_is_refused(log: StreamLog, sequence: int):
    stream_id = await opened(log, Started(1, 0))
    with pytest.raises(ValueError, match="does not continue"):
        await log.append(stream_id, [said(sequence)])


async def test_what_has_ended_is_forgotten_after_its_retention():
    log = MemoryStreamLog(StreamBuffer(-1.0, PLENTY))  # over as soon as it began, whatever the clock's resolution
    stream_id = await opened(log, *ANSWER)
    with pytest.raises(StreamExpired):
        await read(log, stream_id)


async def test_what_runs_is_never_forgotten():
    log = MemoryStreamLog(StreamBuffer(-1.0, 0))
    stream_id = await opened(log, *ANSWER[:3])
    await opened(log, *ANSWER)
    assert list(await log.read(stream_id)) == ANSWER[:3]


async def test_a_viewer_who_is_there_sees_the_end_of_what_is_forgotten_at_once():
    log = MemoryStreamLog(StreamBuffer(-1.0, 0))
    stream_id = await opened(log, ANSWER[0])
    async with aclosing(log.follow(stream_id)) as batches:
        await anext(batches)
        await log.append(stream_id, ANSWER[1:])
        assert list(await anext(batches)) == ANSWER[1:]


async def test_when_memory_is_short_what_ended_first_goes_first():
    size = BLOCK_BYTES + 1000 + 8 + EVENT_BYTES
    log = MemoryStreamLog(StreamBuffer(NEVER, 2 * size))
    streams = [await opened(log, said(1, "x" * 1000)) for _ in range(3)]
    order = [streams[1], streams[0], streams[2]]
    for stream_id in order:
        await log.append(stream_id, [completed(2)])
    with pytest.raises(StreamExpired):
        await log.read(order[0])
    assert [len(await log.read(stream_id)) for stream_id in order[1:]] == [2, 2]


async def test_events_without_text_take_memory_too():
    log = MemoryStreamLog(StreamBuffer(NEVER, BLOCK_BYTES + 9 * 8 + EVENT_BYTES))
    first = await opened(log, *[said(number, "") for number in range(1, 10)], completed(10))
    await opened(log, completed(1))
    with pytest.raises(StreamExpired):
        await log.read(first)
