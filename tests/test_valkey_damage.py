"""Keys that are evicted, cut, replaced or forged: viewers get every character once, or a typed error, and soon."""

import random
from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any
from uuid import UUID

import anyio
import pytest
from anyio.lowlevel import checkpoint
from redis.exceptions import ResponseError

from db.tables import new_id
from gateway.errors import StreamExpired, StreamLogUnavailable
from gateway.events import Completed, Event, FinishReason, Started, TextDelta
from gateway.metering import TokenUsage
from gateway.shared_streams import SharedStreamLog
from gateway.streams import Source, StreamWithoutEnd
from gateway.valkey import Batch, Valkey
from tests.fake_model_server import FakeModelServer
from tests.gateways import GraphQLErrors
from tests.generations import WATCH, look, next_event, start, text_of, until
from tests.shared_logs import Heard, running_log
from tests.test_replicas import gateways
from tests.valkeys import ValkeyServer

GARBAGE = [b"", b"x", b"-1", b"1e999", b"nan", b"999999999999", b"99999999999999999999", b"[[]]", b"\xff\x00[", b"0"]

FIELDS = ["fence", "owner", "first", "last", "entries", "bytes", "usage", "request", "ended", "void", "shown", "w:x"]


def keys(stream_id: UUID) -> tuple[str, str]:
    return f"ollagraph:{{{stream_id}}}:events", f"ollagraph:{{{stream_id}}}:meta"


def said(first: int, last: int) -> list[Event]:
    return [TextDelta(number, "x", number - 2, 1) for number in range(first, last + 1)]


def end(sequence: int) -> Completed:
    return Completed(sequence, FinishReason.STOP, TokenUsage(3, sequence))


async def begun(log: SharedStreamLog, last: int) -> UUID:
    """A running stream, of which Valkey has everything, in batches of one."""
    stream_id = new_id()
    await log.open(stream_id, Source(1, request=b"request"))
    for event in [Started(1, 0), *said(2, last)]:
        await log.append(stream_id, [event])
        await log.flush(stream_id)
    return stream_id


async def read(log: SharedStreamLog, stream_id: UUID, after: int = 0, *, ended: bool = False) -> list[Event]:
    return [event async for batch in log.follow(stream_id, after, ended=ended) for event in batch]


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
                    if list(await other.read(stream)) == [Started(1, 0), *said(2, 5)]:
                        break
                except StreamExpired:
                    await checkpoint()
            saved = await other.claim(stream, Source(2))
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
                await read(other, stream, ended=True)
            with pytest.raises(StreamExpired):
                await other.read(stream)
        assert len(await read(one, stream)) == 6


@pytest.mark.parametrize("damage", LOSSES)
async def test_nobody_takes_over_half_a_stream(valkey: ValkeyServer, damage: Damage):
    async with running_log(valkey) as other, valkey.client() as client:
        async with running_log(valkey) as one:
            stream = await begun(one, 5)
        await damage(client, stream)
        assert await other.claim(stream, Source(2)) is None
        await other.open(stream, Source(2), dropped=1)
        await other.append(stream, [end(2)])
        with pytest.raises(StreamExpired):
            await read(other, stream, ended=True)
        assert await read(other, stream, 5, ended=True) == [end(2)]


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
            assert isinstance(mine, Exception) or mine == [Started(1, 0), *said(2, 5), end(6)]
        theirs = await outcome(read(other, stream, ended=True))
        assert isinstance(theirs, Exception) or theirs == [Started(1, 0), *said(2, 5), end(6)]


async def outcome(call: Awaitable[Any]) -> Any:
    """What is returned, or one of the errors that a viewer may be told."""
    try:
        return await call
    except (StreamExpired, StreamLogUnavailable) as error:
        return error


def sent_by_a_newer_version(valkey: ValkeyServer, stream_id: UUID, payload: bytes) -> Awaitable[Any]:
    """Put events at the end of a stream, as its owner would."""
    client = Valkey(valkey.url, new_id(), retention=60, max_stream_bytes=10**6, max_bytes=10**6)
    batch = Batch(stream_id, 1, 6, 6, 5, payload, b"{}", b"", terminal=False)

    async def send() -> None:
        assert await client.append([batch]) == [6]
        await client.aclose()

    return send()


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
                await sent_by_a_newer_version(valkey, stream, payload)
            assert isinstance(watching[0], StreamExpired)
            assert isinstance(await outcome(other.read(stream)), StreamExpired)
            assert await other.claim(stream, Source(2)) is None


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
        assert seen == [Started(1, 0), *said(2, 5), end(6)]
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
            await one.append(bad, [end(5)])
            assert (await read(one, bad))[-2:] == [unwritable, end(5)]
        assert heard.detached == {bad}
        assert one.attached
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
        assert await client.get("ollagraph:bytes") == b"0"
        assert not await client.exists(*keys(stream))


async def test_nobody_hangs_where_the_gateway_was_killed_between_the_record_and_the_last_word(valkey: ValkeyServer):
    async with running_log(valkey) as other:
        async with running_log(valkey) as one:
            stream = await begun(one, 3)
        with anyio.fail_after(30), pytest.raises(StreamWithoutEnd):
            await read(other, stream, ended=True)


# --- all kinds, at random -----------------------------------------------------------------------------------------


async def damage_something(client: Any, chance: random.Random, stream_id: UUID, foreign: UUID) -> None:
    events, meta = keys(stream_id)
    value = chance.choice(GARBAGE)
    channels = await client.pubsub_channels("ollagraph:replica*")
    await chance.choice(
        [
            lambda: client.delete(chance.choice([events, meta])),
            lambda: client.set(chance.choice([events, meta, "ollagraph:ended", "ollagraph:bytes"]), value),
            lambda: client.pexpire(chance.choice([events, meta]), 1),
            lambda: put(client, meta, {chance.choice(FIELDS): value}),
            lambda: put(client, events, {"a": "b"}),
            lambda: drop_field(client, meta, chance.choice(FIELDS)),
            lambda: forge(client, events, chance),
            lambda: client.copy(keys(foreign)[0], events, replace=True),
            lambda: client.copy(keys(foreign)[1], meta, replace=True),
            lambda: client.publish(chance.choice(channels), b"e" + stream_id.bytes + value),
            lambda: client.publish(chance.choice(channels), b"w" + stream_id.bytes),
        ]
    )()


async def put(client: Any, key: str, values: dict[str, Any]) -> None:
    with suppress(ResponseError):  # it holds something else by now
        await client.hset(key, mapping=values)


async def drop_field(client: Any, key: str, field: str) -> None:
    with suppress(ResponseError):
        await client.hdel(key, field)


async def forge(client: Any, key: str, chance: random.Random) -> None:
    """Change one byte, cut one entry short, or leave one out; all else stands as before, under the same numbers."""
    try:
        entries = await client.xrange(key)
    except ResponseError:
        return
    if not entries:
        return
    chosen = chance.randrange(len(entries))
    await client.delete(key)
    for index, (number, fields) in enumerate(entries):
        payload = fields.get(b"e", b"")
        if index == chosen:
            at = chance.randrange(len(payload) + 1)
            payload = chance.choice([payload[:at], payload[:at] + b"7" + payload[at + 1 :], None])
        if payload is not None:
            with suppress(ResponseError):  # its gateway has written it anew
                await client.xadd(key, {"e": payload}, number)


@pytest.mark.parametrize("seed", range(12))
async def test_whatever_is_damaged_viewers_see_the_truth_or_an_error(valkey: ValkeyServer, seed: int):
    chance, heard = random.Random(seed), Heard()
    heard.owning = True
    async with running_log(valkey, handlers=heard) as one, running_log(valkey) as other, valkey.client() as client:
        foreign, stream = await begun(one, 6), await begun(one, 2)
        truth: list[Event] = [Started(1, 0), *said(2, 2)]
        async with anyio.create_task_group() as tasks:
            for log in (one, other, other, other):
                tasks.start_soon(watch_strictly, log, stream, truth, chance.randrange(3), log is one)
            for sequence in range(3, 60):
                if chance.random() < 0.3:
                    await damage_something(client, chance, stream, foreign)
                events: list[Event] = [TextDelta(sequence, chance.choice("abc"), sequence - 2, 1)]
                truth += events
                await one.append(stream, events)
                if chance.random() < 0.5:
                    await one.flush(stream)
                if chance.random() < 0.1:
                    tasks.start_soon(watch_strictly, other, stream, truth, chance.randrange(sequence), False)
            truth.append(end(60))
            with anyio.fail_after(60):
                await one.append(stream, truth[-1:])
            tasks.cancel_scope.deadline = anyio.current_time() + 60
        assert not tasks.cancel_scope.cancelled_caught, "a viewer hangs"
        later = await begun(one, 3)  # all is at work as before
        await one.append(later, [end(4)])
        with anyio.fail_after(30):
            assert len(await read(other, later)) == 4


async def watch_strictly(log: SharedStreamLog, stream: UUID, truth: list[Event], after: int, is_own: bool) -> None:
    """Every event behind the cursor, once and as it was said; or one of two errors, and those never at the owner."""
    try:
        async for batch in log.follow(stream, after):
            for event in batch:
                assert event == truth[after], (event, after)
                after += 1
        assert len(truth) == after == 60
    except (StreamExpired, StreamLogUnavailable):
        assert not is_own


# --- as users see it ----------------------------------------------------------------------------------------------


async def test_evicted_keys_of_a_running_generation_are_not_noticed(
    tmp_path: Path, sqlite_url: str, fake: FakeModelServer, own_valkey: ValkeyServer
):
    async with gateways(2, tmp_path, sqlite_url, fake, own_valkey) as (one, other), own_valkey.client() as client:
        id = await start(one, "fake:stall-3")
        async with other.connect() as socket:
            await socket.subscribe(WATCH, {"id": id})
            seen = [await next_event(socket)]
            while text_of(seen) != "0 1 2 ":
                seen.append(await next_event(socket))
            await client.flushall()
            fake.release()
            with anyio.fail_after(30):
                seen += await until(socket, "GenerationCompleted")
        assert text_of(seen) == "0 1 2 "


@pytest.mark.parametrize("half", [0, 1])
async def test_half_of_an_ended_generation_is_told_as_gone(
    tmp_path: Path, sqlite_url: str, fake: FakeModelServer, own_valkey: ValkeyServer, half: int
):
    async with gateways(2, tmp_path, sqlite_url, fake, own_valkey) as (one, other), own_valkey.client() as client:
        id = await start(one, "fake:count-3", onDisconnect="CONTINUE")
        await one.events(WATCH, {"id": id})
        for key in await client.keys(f"*:{('events', 'meta')[half]}"):
            await client.delete(key)
        with anyio.fail_after(30):
            assert (await look(other, id))["text"] is None
            with pytest.raises(GraphQLErrors) as told:
                await other.events(WATCH, {"id": id})
        assert told.value.code == "STREAM_EXPIRED"


@pytest.mark.parametrize("half", [0, 1])
async def test_half_of_an_ended_generation_comes_from_the_database_where_that_keeps_it(
    tmp_path: Path, sqlite_url: str, fake: FakeModelServer, own_valkey: ValkeyServer, half: int
):
    kept = gateways(2, tmp_path, sqlite_url, fake, own_valkey, text_retention=60)
    async with kept as (one, other), own_valkey.client() as client:
        id = await start(one, "fake:count-3", onDisconnect="CONTINUE")
        await one.events(WATCH, {"id": id})
        for key in await client.keys(f"*:{('events', 'meta')[half]}"):
            await client.delete(key)
        with anyio.fail_after(30):
            assert (await look(other, id))["text"] == "0 1 2 "
            assert text_of(await other.events(WATCH, {"id": id})) == "0 1 2 "


async def test_evicted_keys_do_not_make_the_last_viewer_look_gone(
    tmp_path: Path, sqlite_url: str, fake: FakeModelServer, own_valkey: ValkeyServer
):
    async with gateways(2, tmp_path, sqlite_url, fake, own_valkey) as (one, other), own_valkey.client() as client:
        async with one.connect() as here, other.connect() as there:
            id = await start(one, "fake:stall-3")
            await here.subscribe(WATCH, {"id": id})
            await next_event(here)
            await there.subscribe(WATCH, {"id": id})
            seen = [await next_event(there)]
            await client.flushall()
            await here.complete()
            await anyio.sleep(2)  # the time in which it would be cancelled
            assert (await look(one, id))["state"] == "RUNNING"
            fake.release()
            with anyio.fail_after(30):
                seen += await until(there, "GenerationCompleted")
            assert text_of(seen) == "0 1 2 "
