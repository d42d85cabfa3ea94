"""Valkey or the database goes and comes back: what runs goes on, what is promised is kept or refused with a code."""

from contextlib import aclosing
from pathlib import Path
from typing import Any

import anyio
import pytest

from db.clock import new_id
from gateway.errors import StreamLogUnavailable
from gateway.streams.events import (
    Completed,
    Event,
    FinishReason,
    Started,
    TextDelta,
    TokenUsage,
    UsageSource,
    UsageSources,
)
from gateway.streams.log import StreamMoved, StreamOwner
from tests.support.databases import closed_to_all, on_postgresql, on_sqlite
from tests.support.fake_model_server import FakeModelServer
from tests.support.gateways import GraphQLErrors, RunningGateway, Socket, gateway_settings, running_gateway
from tests.support.generations import START, TOTAL, WATCH, asking, look, next_event, start, until
from tests.support.polling import pause
from tests.support.shared.logs import Heard, running_log
from tests.support.valkeys import ValkeyServer
from tests.test_replicas import gateways, text_of


def said(first: int, last: int) -> list[Event]:
    return [TextDelta(number, "x", number - 2, 1) for number in range(first, last + 1)]


async def events_of(log: Any, stream_id: Any, after: int = 0) -> list[Event]:
    return [event async for batch in log.follow(stream_id, after) for event in batch]


async def test_the_log_is_whole_again_after_valkey_lost_everything(own_valkey: ValkeyServer):
    stream, done = new_id(), new_id()
    async with running_log(own_valkey) as one, running_log(own_valkey) as other:
        await one.open(done, StreamOwner(1))
        await one.append(done, [Started(1, 0), Completed(2, FinishReason.STOP, TokenUsage())])
        await one.open(stream, StreamOwner(1))
        await one.append(stream, [Started(1, 0), *said(2, 5)])
        own_valkey.kill()
        while one.mirrored:
            await pause()
        await one.append(stream, said(6, 9))
        seen = anyio.Event()

        async def watch() -> None:
            async for batch in one.follow(stream):
                if batch[-1].sequence == 9:
                    seen.set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch)
            await seen.wait()  # viewers here go on from memory
            own_valkey.launch()
            while not (one.mirrored and other.mirrored):
                await pause()
            await one.append(stream, [*said(10, 12), Completed(13, FinishReason.STOP, TokenUsage())])
        assert [event.sequence for event in await events_of(other, stream)] == list(range(1, 14))
        assert len(await events_of(other, done)) == 2


async def test_who_watches_another_gateways_stream_is_told_when_valkey_stays_away(
    own_valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("gateway.streams.shared.PATIENCE_SECONDS", 0.5)
    stream = new_id()
    async with running_log(own_valkey) as one, running_log(own_valkey) as other:
        await one.open(stream, StreamOwner(1))
        await one.append(stream, [Started(1, 0)])
        batches = other.follow(stream)
        await anext(batches)
        own_valkey.kill()
        with pytest.raises(StreamLogUnavailable):
            await anext(batches)


async def test_a_frozen_valkey_holds_nobody_up(own_valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("gateway.streams.valkey.node.TIMEOUT_SECONDS", 0.3)
    stream, heard = new_id(), Heard()
    heard.ended.add(stream)
    async with running_log(own_valkey, handlers=heard) as log:
        await log.open(stream, StreamOwner(1))
        own_valkey.freeze()
        with anyio.fail_after(10):
            await log.append(stream, [Started(1, 0), Completed(2, FinishReason.STOP, TokenUsage())])
            assert len(await events_of(log, stream)) == 2
        own_valkey.thaw()


async def test_of_two_writers_only_the_later_one_gets_through(valkey: ValkeyServer):
    stream, heard = new_id(), Heard()
    usage = TokenUsage(3, 2, None, UsageSources.of_weakest(UsageSource.COUNTED, 3, None, 1), 1)
    async with running_log(valkey, handlers=heard) as one, running_log(valkey) as other:
        await one.open(stream, StreamOwner(1, lambda: usage, b"request"))
        await one.append(stream, [Started(1, 0), *said(2, 3)])
        viewer = one.follow(stream, after=3)
        async with aclosing(other.follow(stream)) as batches:
            while (await anext(batches))[-1].sequence < 3:
                pass
        saved = await other.claim(stream, StreamOwner(2))
        assert saved is not None
        assert (len(saved.events), saved.usage, saved.request) == (3, usage, b"request")
        await one.append(stream, said(4, 5))
        assert await heard.until("lost") == stream
        end = Completed(5, FinishReason.STOP, TokenUsage())
        await other.append(stream, [TextDelta(4, "y", 2, 1), end])
        assert [event async for batch in viewer for event in batch] == [TextDelta(4, "y", 2, 1), end]
        with pytest.raises(StreamMoved):
            await one.claim(stream, StreamOwner(2))


async def test_a_stream_that_takes_too_much_loses_its_beginning_in_both(valkey: ValkeyServer):
    stream = new_id()
    async with running_log(valkey, max_stream_bytes=20_000) as one, running_log(valkey) as other:
        await one.open(stream, StreamOwner(1))
        await one.append(stream, [Started(1, 0)])
        viewer = one.follow(stream, after=1)
        for number in range(2, 100):
            await one.append(stream, [TextDelta(number, "x" * 1000, 0, 1)])
            await anext(viewer)  # else all of them would be one batch
        await one.append(stream, [Completed(100, FinishReason.STOP, TokenUsage())])
        for log in (one, other):
            assert (await events_of(log, stream, 95))[-1].sequence == 100
            with pytest.raises(Exception, match="no longer kept"):
                await events_of(log, stream)


async def test_a_running_stream_outlives_valkey(
    tmp_path: Path, sqlite_url: str, fake: FakeModelServer, own_valkey: ValkeyServer
):
    async with gateways(2, tmp_path, sqlite_url, fake, own_valkey) as (one, other):
        id = await start(one, "fake:stall-3", onDisconnect="CONTINUE")
        async with one.connect() as socket:
            await socket.subscribe(WATCH, {"id": id})
            seen = [await next_event(socket)]
            own_valkey.kill()
            fake.release()
            seen += await until(socket, "GenerationCompleted")
        assert text_of(seen) == "0 1 2 "
        state = (await one.client.get("/readyz")).json()["streamLog"]
        assert state == {"ready": False, "error": "Valkey does not answer (ConnectionError)."}
        own_valkey.launch()
        while not (await other.client.get("/readyz")).json()["streamLog"]["ready"]:
            await pause()
        while not (await one.client.get("/readyz")).json()["streamLog"]["ready"]:
            await pause()
        assert text_of(await other.events(WATCH, {"id": id})) == "0 1 2 "


async def test_what_ends_while_the_database_is_away_is_written_once_when_it_is_back(
    tmp_path: Path, postgresql_url: str, fake: FakeModelServer
):
    settings = gateway_settings(tmp_path, postgresql_url, fake.url, identity_max_age=60)
    async with running_gateway(settings, fake) as gateway:
        ids = [await start(gateway, "fake:hold-3", onDisconnect="CONTINUE") for _ in range(5)]
        await fake.request(4)
        async with gateway.connect() as socket:
            for number, id in enumerate(ids):
                await socket.subscribe(WATCH, {"id": id}, str(number))
                await next_event(socket, str(number))
            async with closed_to_all(postgresql_url):
                fake.release()
                await until_ends(socket, 5)
                assert (await gateway.client.get("/readyz")).status_code == 503
                with pytest.raises(GraphQLErrors) as refused:
                    await gateway.run(START, asking("fake:count-3"))
                assert refused.value.code == "DATABASE_UNAVAILABLE"
                assert (await look(gateway, ids[0]))["state"] == "COMPLETED"
        while not (total := (await gateway.run(TOTAL))["usage"]["totals"])["generations"]:
            await pause()
        assert total == {"generations": 5, "promptTokens": 15, "completionTokens": 15}
        with anyio.fail_after(30):
            while (await gateway.client.get("/readyz")).status_code != 200:
                await pause()


async def until_ends(socket: Socket, operations: int) -> None:
    """Return when so many operations are complete, in whatever order."""
    while operations:
        message = await socket.receive()
        if message["type"] == "complete":
            operations -= 1
        else:
            assert message["payload"]["data"]["generation"]["__typename"] != "GenerationFailed"


@on_sqlite
async def test_kept_text_can_be_read_from_the_database(database_url: str, tmp_path: Path, fake: FakeModelServer):
    settings = gateway_settings(tmp_path, database_url, fake.url, text_retention=60)
    async with running_gateway(settings, fake) as gateway:
        id = await start(gateway, "fake:count-3", onDisconnect="CONTINUE")
        events = await gateway.events(WATCH, {"id": id})
    async with running_gateway(settings, fake) as gateway:
        again = await gateway.events(WATCH, {"id": id})
        assert text_of(again) == text_of(events) == "0 1 2 "
        assert again[-1] == events[-1]
        assert (await look(gateway, id))["text"] == "0 1 2 "


@on_postgresql
async def test_a_gateway_that_stops_leaves_its_work_to_the_others(
    tmp_path: Path, database_url: str, fake: FakeModelServer, valkey: ValkeyServer
):
    fake.models.append("fake:paced-100-5")
    async with gateways(2, tmp_path, database_url, fake, valkey) as (one, other):
        id = await start(one, "fake:paced-100-5", onDisconnect="CONTINUE", onBackendLoss="CONTINUE")
        async with other.connect() as socket:
            await socket.subscribe(WATCH, {"id": id})
            seen = [await next_event(socket)]
            one.stop()
            seen += await until(socket, "GenerationCompleted")
    assert text_of(seen) == "".join(f"{number} " for number in range(100))
    assert [event["__typename"] for event in seen].count("GenerationResumed") == 1


async def test_a_gateway_that_was_told_to_stop_is_not_ready(sqlite_url: str, tmp_path: Path, fake: FakeModelServer):
    settings = gateway_settings(tmp_path, sqlite_url, fake.url, drain_time=30)
    async with running_gateway(settings, fake) as gateway:
        await start(gateway, "fake:hold-3")
        request = await fake.request()
        gateway.stop()
        while (answer := await gateway.client.get("/readyz")).status_code == 200:
            await pause()
        assert answer.json()["reason"] == "the gateway is stopping"
        request.release()


@on_sqlite
async def test_the_running_gateways_own_streams_can_be_listed_after_a_reload(gateway_on_each_database: RunningGateway):
    id = await start(gateway_on_each_database, "fake:stall-3", onDisconnect="CONTINUE")
    listed = await gateway_on_each_database.run(
        "{ generations(filter: {states: [QUEUED, RUNNING]}) { nodes { id state } } }"
    )
    assert [node["id"] for node in listed["generations"]["nodes"]] == [id]
