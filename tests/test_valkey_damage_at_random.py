"""Whatever Valkey loses or is given, and whenever: viewers see the truth or a typed error; and what users see of it."""

import random
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import UUID

import anyio
import pytest
from redis.exceptions import ResponseError

from gateway.errors import StreamExpired, StreamLogUnavailable
from gateway.streams.events import Event, Started, TextDelta
from gateway.streams.shared import SharedStreamLog
from tests.support.damage import FIELDS, GARBAGE, begun, end, keys, read, said
from tests.support.fake_model_server import FakeModelServer
from tests.support.gateways import GraphQLErrors
from tests.support.generations import WATCH, look, next_event, start, text_of, until
from tests.support.shared.logs import Heard, running_log
from tests.support.valkeys import ValkeyServer
from tests.test_replicas import LEASE, gateways

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
    looking = gateways(2, tmp_path, sqlite_url, fake, own_valkey, lease_time=LEASE)
    async with looking as (one, other), own_valkey.client() as client:
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
