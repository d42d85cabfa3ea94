"""Several gateways over one database and one Valkey act as one."""

import sqlite3
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import asyncpg
import pytest
from sqlalchemy import select

from db.tables import Generation
from tests.support.fake_model_server import FakeModelServer
from tests.support.gateways import RunningGateway, gateway_settings, running_gateway
from tests.support.generations import CANCEL, GENERATE, WATCH, asking, look, next_event, start, until, until_tokens
from tests.support.polling import pause
from tests.support.valkeys import ValkeyServer

SECRET = "the gateways of one team sign with one secret"

LEASE = 0.5
"""For tests that wait for heartbeats: they are several statements each time."""

Two = tuple[RunningGateway, RunningGateway]


@asynccontextmanager
async def gateways(
    count: int, folder: Path, database_url: str, fake: FakeModelServer, valkey: ValkeyServer | None, **settings: Any
) -> AsyncGenerator[list[RunningGateway]]:
    values = {"redis_url": valkey and valkey.url, "secret_key": SECRET, **settings}
    async with AsyncExitStack() as stack:
        running: list[RunningGateway] = []
        for number in range(count):
            own = gateway_settings(folder / str(number), database_url, fake.url, **values)
            running.append(await stack.enter_async_context(running_gateway(own, fake)))
        yield running


@pytest.fixture
async def two(tmp_path: Path, postgresql_url: str, fake: FakeModelServer, valkey: ValkeyServer) -> AsyncIterator[Two]:
    async with gateways(2, tmp_path, postgresql_url, fake, valkey) as (one, other):
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
    assert (cancelled["state"], cancelled["cancelReason"]) == ("CANCELLED", "REQUESTED")
    end = (await other.events(WATCH, {"id": id}))[-1]
    assert (end["__typename"], end["cancelReason"]) == ("GenerationCancelled", "REQUESTED")
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
            await pause()
    assert (await look(one, id))["cancelReason"] == "VIEWERS_LEFT"


async def test_the_interval_between_events_holds_at_another_gateway(
    tmp_path: Path, sqlite_url: str, fake: FakeModelServer, valkey: ValkeyServer
):
    async with gateways(2, tmp_path, sqlite_url, fake, valkey, event_interval=1) as (one, other):
        id = await start(one, "fake:hold-300", onDisconnect="CONTINUE")
        async with other.connect() as socket:
            await socket.subscribe(WATCH, {"id": id})
            seen = [await next_event(socket)]
            (await fake.request()).release()
            seen += await until(socket, "GenerationCompleted")
    assert text_of(seen) == "".join(f"{number} " for number in range(300))
    assert len([event for event in seen if "offset" in event]) < 15


async def beats(connection: asyncpg.Connection) -> dict[Any, int]:
    """The beat of each gateway that counts as alive."""
    return {row["id"]: row["beat"] for row in await connection.fetch("SELECT id, beat FROM replicas")}


async def test_statements_that_wait_do_not_keep_a_gateway_from_showing_that_it_lives(
    tmp_path: Path, postgresql_url: str, fake: FakeModelServer, valkey: ValkeyServer
):
    blocker = await asyncpg.connect(postgresql_url)
    looker = await asyncpg.connect(postgresql_url)
    try:
        async with gateways(2, tmp_path, postgresql_url, fake, valkey, database_pool_size=2, lease_time=LEASE) as (
            one,
            _,
        ):
            async with anyio.create_task_group() as tasks:
                async with blocker.transaction():
                    await blocker.execute("LOCK TABLE generations, transcripts IN ACCESS EXCLUSIVE MODE")
                    for _ in range(3):
                        tasks.start_soon(one.run, MINE)
                    while await looker.fetchval(WAITING) < 3:
                        await pause()
                    before = await beats(looker)
                    with anyio.fail_after(30):
                        while any(beat < before[replica] + 10 for replica, beat in (await beats(looker)).items()):
                            await pause()
                    assert (await beats(looker)).keys() == before.keys()
            assert len(before) == 2
    finally:
        await blocker.close()
        await looker.close()


WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
MINE = "{ generations(first: 1) { nodes { id } } }"


async def test_a_database_that_takes_no_writes_for_long_makes_no_gateway_die(
    tmp_path: Path, sqlite_url: str, fake: FakeModelServer, valkey: ValkeyServer
):
    async with gateways(2, tmp_path, sqlite_url, fake, valkey, lease_time=LEASE) as (one, other):
        id = await start(one, "fake:stall-3", onDisconnect="CONTINUE")
        await fake.request()
        file = sqlite_url.removeprefix("sqlite:///")
        writer = sqlite3.connect(file, isolation_level=None, timeout=60, check_same_thread=False)
        try:
            # beside the event loop: a gateway's transaction that is open now needs it to come to its end
            await anyio.to_thread.run_sync(writer.execute, "BEGIN IMMEDIATE")
            await anyio.sleep(4 * LEASE)
            writer.execute("ROLLBACK")
        finally:
            writer.close()
        await anyio.sleep(2 * LEASE)  # in which they would look for the dead
        async with one.database.reading() as session:
            (row,) = await session.scalars(select(Generation))
        assert (row.fence, row.finished_at) == (1, None)
        fake.release()
        assert text_of(await other.events(WATCH, {"id": id})) == "0 1 2 "


async def test_each_upkeep_goes_on_while_another_fails(
    tmp_path: Path, postgresql_url: str, fake: FakeModelServer, valkey: ValkeyServer
):
    connection = await asyncpg.connect(postgresql_url)
    try:
        await connection.execute("ALTER TABLE transcripts RENAME TO elsewhere")  # tidying up fails from the start
        async with gateways(1, tmp_path, postgresql_url, fake, valkey, lease_time=LEASE) as (one,):
            await connection.execute("INSERT INTO replicas (id, beat, started_at, seen_at)"
                " VALUES (gen_random_uuid(), 7, now(), now())")  # fmt: skip
            with anyio.fail_after(30):
                while len(await beats(connection)) != 1:
                    await pause()
                while (await one.client.get("/readyz")).status_code != 200:
                    await pause()
    finally:
        await connection.close()
