"""Keys that are evicted, cut, replaced or forged: viewers get every character once, or a typed error, and soon."""

from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any
from uuid import UUID

import anyio
import pytest
from anyio.lowlevel import checkpoint

from db.clock import new_id
from gateway.errors import StreamExpired, StreamLogUnavailable
from gateway.streams.codec import encode
from gateway.streams.events import Event, Started, TextDelta
from gateway.streams.log import StreamOwner, StreamWithoutEnd
from gateway.streams.shared import SharedStreamLog
from gateway.streams.valkey.client import Batch, Valkey
from tests.support.damage import FIELDS, GARBAGE, begun, end, keys, read, said
from tests.support.polling import pause
from tests.support.shared.logs import Heard, running_log
from tests.support.valkeys import ValkeyServer

ANSWER = [Started(1, 0), *said(2, 5)]

# --- one kind of damage at a time ---------------------------------------------------------------------------------


async def drop_events(client: Any, stream_id: UUID) -> None:
    await client.delete(keys(stream_id)[0])


async def drop_meta(client: Any, stream_id: UUID) -> None:
    await client.delete(keys(stream_id)[1])


async def drop_both(client: Any, stream_id: UUID) -> None:
    await client.delete(*keys(stream_id))


async def other_types(client: Any, stream_id: UUID) -> None:
    for key in keys(stream_id):
        await client.set(key, "something else")


async def swapped_types(client: Any, stream_id: UUID) -> None:
    await client.delete(*keys(stream_id))
    await client.hset(keys(stream_id)[0], "a", "b")
    await client.xadd(keys(stream_id)[1], {"a": "b"})


async def a_gap(client: Any, stream_id: UUID) -> None:
    await client.xdel(keys(stream_id)[0], "3-0")


async def a_lost_end(client: Any, stream_id: UUID) -> None:
    (last,) = await client.xrevrange(keys(stream_id)[0], count=1)
    await client.xdel(keys(stream_id)[0], last[0])


async def a_foreign_entry(client: Any, stream_id: UUID) -> None:
    await client.xadd(keys(stream_id)[0], {"e": "[]"}, "77-0")


async def a_foreign_entry_without_fields_of_ours(client: Any, stream_id: UUID) -> None:
    await client.xadd(keys(stream_id)[0], {"a": "b", "c": "d"}, "77-3")


LOSSES = [
    drop_events,
    drop_meta,
    drop_both,
    other_types,
    swapped_types,
    a_gap,
    a_lost_end,
    a_foreign_entry,
    a_foreign_entry_without_fields_of_ours,
]
"""What shows when the keys are compared: it counts as gone, and who has it in memory writes it again."""

Damage = Callable[[Any, UUID], Awaitable[None]]


@pytest.mark.parametrize("damage", LOSSES)
async def test_a_viewer_elsewhere_loses_nothing_while_the_stream_runs(valkey: ValkeyServer, damage: Damage):
    async with running_log(valkey) as one, running_log(valkey) as other, valkey.client() as client:
        stream = await begun(one, 5)
        seen: list[Event] = []
        async with aclosing(other.follow(stream)) as batches:
            while len(seen) < 5:
                seen += await anext(batches)
            await damage(client, stream)
            with anyio.fail_after(30):
                await one.append(stream, said(6, 7))
                while len(seen) < 7:
                    seen += await anext(batches)
                await one.append(stream, [end(8)])
                seen += [event async for batch in batches for event in batch]
        assert seen == [Started(1, 0), *said(2, 7), end(8)]


@pytest.mark.parametrize("damage", LOSSES)
async def test_a_stream_to_which_nothing_is_added_is_written_again_too(valkey: ValkeyServer, damage: Damage):
    async with running_log(valkey) as one, running_log(valkey) as other, valkey.client() as client:
        stream = await begun(one, 5)
        await damage(client, stream)
        with anyio.fail_after(30):
            while True:
                try:
                    if list(await other.read(stream)) == ANSWER:
                        break
                except StreamExpired:
                    await pause()
            saved = await other.claim(stream, StreamOwner(2))
        assert saved is not None
        assert saved.request == b"request"


@pytest.mark.parametrize("damage", LOSSES)
async def test_half_of_an_ended_stream_is_nothing(valkey: ValkeyServer, damage: Damage):
    async with running_log(valkey) as one, running_log(valkey) as other, valkey.client() as client:
        stream = await begun(one, 5)
        await one.append(stream, [end(6)])
        await damage(client, stream)
        with anyio.fail_after(30):
            with pytest.raises(StreamExpired):
                await read(other, stream, finished=True)
            with pytest.raises(StreamExpired):
                await other.read(stream)
        assert len(await read(one, stream)) == 6


@pytest.mark.parametrize("damage", LOSSES)
async def test_nobody_takes_over_half_a_stream(valkey: ValkeyServer, damage: Damage):
    async with running_log(valkey) as other, valkey.client() as client:
        async with running_log(valkey) as one:
            stream = await begun(one, 5)
        await damage(client, stream)
        assert await other.claim(stream, StreamOwner(2)) is None
        await other.open(stream, StreamOwner(2), dropped=1)
        await other.append(stream, [end(2)])
        with pytest.raises(StreamExpired):
            await read(other, stream, finished=True)
        for seen in (1, 2, 5):
            assert await read(other, stream, seen, finished=True) == [end(2)]


@pytest.mark.parametrize("kept", range(1, 6))
async def test_whoever_watches_is_told_the_end_of_what_was_being_written_anew(valkey: ValkeyServer, kept: int):
    """Valkey lost a stream of which five events were seen, and its gateway was killed when some were there again."""
    async with running_log(valkey) as other, running_log(valkey) as third:
        async with running_log(valkey) as one:
            stream = await begun(one, 5)
            logs = (other, third)
            live = [log.follow(stream) for log in logs]
            for batches in live:
                while (await anext(batches))[-1].sequence < 5:
                    pass
        await put(valkey, Batch(stream, 1, 1, kept, 5, encode(ANSWER[:kept]), b"{}", b"", False, "anew", again=True))
        saved = await other.claim(stream, StreamOwner(2))
        assert saved is not None
        assert list(saved.events) == (ANSWER if kept == 5 else [])
        await other.append(stream, [end(kept + 1)])
        with anyio.fail_after(30):
            for batches in live:
                assert [event async for batch in batches for event in batch] == [end(kept + 1)]
            for log in logs:
                assert await read(log, stream, 5) == [end(kept + 1)]


@pytest.mark.parametrize("field", FIELDS)
async def test_no_value_in_meta_is_believed_alone(valkey: ValkeyServer, field: str):
    heard = Heard()
    heard.owning = True
    for value in GARBAGE:
        async with running_log(valkey, handlers=heard) as one, running_log(valkey) as other, valkey.client() as client:
            stream = await begun(one, 5)
            await client.hset(keys(stream)[1], field, value)
            await finishes(one, other, stream)


async def finishes(one: SharedStreamLog, other: SharedStreamLog, stream: UUID) -> None:
    """The owner's viewers see all of it, another gateway's the same or a typed error; and it can be claimed or not."""
    with anyio.fail_after(30):
        if not isinstance(await outcome(one.append(stream, [end(6)])), Exception):
            mine = await outcome(read(one, stream))
            assert isinstance(mine, Exception) or mine == [*ANSWER, end(6)]
        theirs = await outcome(read(other, stream, finished=True))
        assert isinstance(theirs, Exception) or theirs == [*ANSWER, end(6)]


async def outcome(call: Awaitable[Any]) -> Any:
    """What is returned, or one of the errors that a viewer may be told."""
    try:
        return await call
    except (StreamExpired, StreamLogUnavailable) as error:
        return error


async def put(valkey: ValkeyServer, batch: Batch) -> None:
    """Write events as the owner of a stream would."""
    client = Valkey(valkey.url, new_id(), retention=60, max_stream_bytes=10**6, max_bytes=10**6)
    assert await client.append([batch]) == [batch.last]
    await client.aclose()


@pytest.mark.parametrize(
    "payload",
    [
        b'[["z",6,"a kind of event of a later version"]]',
        b'[["r",6,"A_LATER_REASON","ollama"]]',
        b'[["e",6,"a_later_reason",{"prompt_tokens":1,"completion_tokens":1,"cached_tokens":null,"source":"BACKEND"}]]',
        b'[["f",6,"A_LATER_CODE","",true,{"prompt_tokens":1,"completion_tokens":1,"cached_tokens":null,"source":"X"}]]',
        b'[["t",6,"x",4]]',
        b'[["t",6,"x",4,1,"one field more"]]',
        b'[["t","6","x",4,1]]',
        b'[["t",6,7,4,1]]',
        b'[["t",6,"x",-4,1]]',
        b'[["t",6,"x",4,99999999999]]',
        b'[["t",8,"x",4,1]]',
        b'[["c",6,{"id":"1","name":"f","arguments":[]}]]',
        b'[["c",6,[]]]',
        b"[]",
        b"[6]",
        b"{}",
        b"null",
        b"\xff",
        b"",
    ],
)
async def test_events_that_cannot_be_understood_are_a_typed_error(valkey: ValkeyServer, payload: bytes):
    async with running_log(valkey) as other:
        async with running_log(valkey) as one:
            stream = await begun(one, 5)
        watching: list[Any] = []

        async def watch() -> None:
            watching.append(await outcome(read(other, stream)))

        with anyio.fail_after(30):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(watch)
                await checkpoint()
                await put(valkey, Batch(stream, 1, 6, 6, 5, payload, b"{}", b"", terminal=False))
            assert isinstance(watching[0], StreamExpired)
            assert isinstance(await outcome(other.read(stream)), StreamExpired)
            assert await other.claim(stream, StreamOwner(2)) is None


async def test_garbage_on_the_channels_disturbs_nobody(valkey: ValkeyServer):
    heard = Heard()
    async with running_log(valkey, handlers=heard) as one, running_log(valkey, handlers=heard) as other:
        stream = await begun(one, 3)
        async with aclosing(other.follow(stream)) as batches, valkey.client() as client:
            seen = list(await anext(batches))
            channels = await client.pubsub_channels("ollagraph:replica*")
            for channel in channels:
                for kind in (b"", b"e", b"w", b"u", b"o", b"?", b"\xff"):
                    for rest in (b"", b"x", stream.bytes, stream.bytes + b"[[", stream.bytes + b"\0\0\0\0[]"):
                        if kind + rest != b"o":
                            await client.publish(channel, kind + rest)
            await one.append(stream, [*said(4, 5), end(6)])
            with anyio.fail_after(30):
                seen += [event async for batch in batches for event in batch]
        assert seen == [*ANSWER, end(6)]
        assert ("orphans", None) not in heard.words


async def test_one_stream_that_cannot_be_written_does_not_hold_up_the_others(valkey: ValkeyServer):
    heard = Heard()
    async with running_log(valkey, handlers=heard) as one, running_log(valkey) as other:
        good, bad = await begun(one, 3), await begun(one, 3)
        unwritable = TextDelta(4, "\ud800", 2, 1)  # half a character: no JSON can hold it
        with anyio.fail_after(30):
            await one.append(bad, [unwritable])
            await one.append(good, [*said(4, 5), end(6)])
            assert len(await read(other, good)) == 6
            heard.ended.add(bad)
            await one.append(bad, [end(5)])
            assert (await read(one, bad))[-2:] == [unwritable, end(5)]
        assert heard.detached == {bad}
        assert one.mirrored
        assert one.trouble is not None


async def test_the_books_of_what_has_ended_are_kept_again_after_they_were_destroyed(valkey: ValkeyServer):
    async with running_log(valkey) as one, running_log(valkey) as other, valkey.client() as client:
        await client.set("ollagraph:ended", "x")
        await client.delete("ollagraph:bytes")
        await client.hset("ollagraph:bytes", "a", "b")
        stream = await begun(one, 3)
        with anyio.fail_after(30):
            await one.append(stream, [end(4)])
            assert len(await read(other, stream)) == 4
            await client.zadd("ollagraph:ended", {"no id and no size": 1.0})
            await client.set("ollagraph:bytes", "many")
            reader = Valkey(valkey.url, new_id(), retention=60, max_stream_bytes=10**6, max_bytes=1)
            await reader.trim()
            await reader.aclose()
        assert not await client.exists("ollagraph:bytes")
        assert not await client.exists(*keys(stream))


async def test_nobody_hangs_where_the_gateway_was_killed_between_the_record_and_the_last_word(valkey: ValkeyServer):
    async with running_log(valkey) as other:
        async with running_log(valkey) as one:
            stream = await begun(one, 3)
        with anyio.fail_after(30), pytest.raises(StreamWithoutEnd):
            await read(other, stream, finished=True)
