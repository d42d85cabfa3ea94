"""A Valkey that answers and takes no writes: streams go on from memory, and are whole when it takes them again."""

import logging
import shutil
import signal
from contextlib import aclosing
from pathlib import Path
from typing import Any
from uuid import UUID

import anyio
import pytest
from redis.exceptions import RedisError

from db.clock import new_id
from gateway.streams.events import Completed, Event, FinishReason, Started, TextDelta, TokenUsage
from gateway.streams.log import StreamOwner
from gateway.streams.shared import SharedStreamLog
from tests.support.databases import on_postgresql
from tests.support.fake_model_server import FakeModelServer
from tests.support.gateways import PASSWORD, gateway_settings, running_gateway
from tests.support.generations import START, WATCH, asking, look, next_event, start, text_of, until
from tests.support.polling import pause
from tests.support.processes import serving
from tests.support.shared.logs import Heard, running_log
from tests.support.valkeys import REFUSALS, ValkeyServer, clustered, valkey_server
from tests.test_replicas import SECRET, gateways

END = Completed(8, FinishReason.STOP, TokenUsage(3, 6))

REASONS = {
    "full memory": "its memory is full",
    "read-only replica": "it is a read-only replica",
    "too few replicas": "it has too few replicas",
    "another password": "it refuses the password",
}


def said(first: int, last: int) -> list[Event]:
    return [TextDelta(number, "x", number - 2, 1) for number in range(first, last + 1)]


async def events_of(log: SharedStreamLog, stream_id: UUID) -> list[Event]:
    return [event async for batch in log.follow(stream_id) for event in batch]


async def goes_on_from_memory(log: SharedStreamLog, heard: Heard, stream_id: UUID) -> None:
    """What is said now is seen here, and nobody waits for ever; the database knows."""
    with anyio.fail_after(30):
        await log.append(stream_id, said(4, 5))
        async for batch in log.follow(stream_id, 3):
            if batch[-1].sequence == 5:
                break
        heard.ended.add(stream_id)
        await log.append(stream_id, [*said(6, 7), END])
        assert await events_of(log, stream_id) == [Started(1, 0), *said(2, 7), END]
        assert not log.mirrored
    assert heard.detached == {stream_id}


async def is_whole_at(other: SharedStreamLog, log: SharedStreamLog, heard: Heard, stream_id: UUID) -> None:
    """Valkey takes writes again."""
    with anyio.fail_after(30):
        while heard.detached or not other.mirrored:
            await pause()
        assert log.mirrored
        assert log.trouble is None
        assert await events_of(other, stream_id) == [Started(1, 0), *said(2, 7), END]


@pytest.mark.parametrize("how", REFUSALS)
async def test_streams_go_on_from_memory_and_are_written_later(
    own_valkey: ValkeyServer, how: str, caplog: pytest.LogCaptureFixture
):
    stream, heard = new_id(), Heard()
    async with running_log(own_valkey, handlers=heard) as one, running_log(own_valkey) as other:
        await one.open(stream, StreamOwner(1))
        await one.append(stream, [Started(1, 0), *said(2, 3)])
        await one.flush(stream)
        batches = other.follow(stream)
        await anext(batches)  # now there is somebody to tell
        async with aclosing(batches), own_valkey.refusing(how):
            await goes_on_from_memory(one, heard, stream)
            assert one.trouble is not None
            assert REASONS.get(how, "its user has not all rights on ollagraph:*") in one.trouble
            assert "127.0.0.1" not in one.trouble
            with anyio.fail_after(30):
                while other.mirrored:
                    await pause()
        await is_whole_at(other, one, heard, stream)
    told = [record.message for record in caplog.records if record.levelno >= logging.WARNING]
    assert len([message for message in told if "is in memory alone" in message]) == 2  # once at each of them
    assert len([message for message in told if "is shared again" in message]) == 2


async def test_a_valkey_that_cannot_save_its_data_counts_as_away(tmp_path: Path):
    stream, heard, folder = new_id(), Heard(), tmp_path / "gone"
    folder.mkdir()
    with valkey_server(folder) as valkey:
        await valkey.answers()
        async with running_log(valkey, handlers=heard) as one, running_log(valkey) as other, valkey.client() as client:
            await one.open(stream, StreamOwner(1))
            await one.append(stream, [Started(1, 0), *said(2, 3)])
            await one.flush(stream)
            shutil.rmtree(folder)
            await client.config_set("save", "3600 1000")
            await client.bgsave()
            while (await client.info("persistence"))["rdb_last_bgsave_status"] != "err":
                await pause()
            await goes_on_from_memory(one, heard, stream)
            assert one.trouble == "Valkey takes no writes: it cannot save its data to disk."
            await client.config_set("stop-writes-on-bgsave-error", "no")
            await is_whole_at(other, one, heard, stream)


async def test_a_valkey_that_is_busy_with_a_script_counts_as_away(own_valkey: ValkeyServer):
    stream, heard = new_id(), Heard()
    async with (
        running_log(own_valkey, handlers=heard) as one,
        running_log(own_valkey) as other,
        own_valkey.client() as client,
        own_valkey.client() as killer,
    ):
        await one.open(stream, StreamOwner(1))
        await one.append(stream, [Started(1, 0), *said(2, 3)])
        await one.flush(stream)
        await client.config_set("busy-reply-threshold", "50")

        async def be_busy() -> None:
            with pytest.raises(RedisError):
                await client.eval("while true do end", 0)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(be_busy)
            await goes_on_from_memory(one, heard, stream)
            await killer.script_kill()
        await is_whole_at(other, one, heard, stream)


async def test_a_valkey_that_loads_its_data_counts_as_away(tmp_path: Path):
    stream, heard = new_id(), Heard()
    with valkey_server(tmp_path) as valkey:
        await valkey.answers()
        async with running_log(valkey, handlers=heard) as one, running_log(valkey) as other, valkey.client() as client:
            await one.open(stream, StreamOwner(1))
            await one.append(stream, [Started(1, 0), *said(2, 3)])
            await one.flush(stream)
            await client.mset({f"other{number}": "x" for number in range(300)})
            await client.save()
            valkey.options = ("--key-load-delay", "20000", "--loading-process-events-interval-bytes", "1024")
            valkey.kill()
            valkey.launch()
            await goes_on_from_memory(one, heard, stream)
            assert one.trouble in {
                "Valkey takes no writes: it is loading its data.",
                "Valkey does not answer (ConnectionError).",
                "Valkey does not answer (TimeoutError).",
            }
            await is_whole_at(other, one, heard, stream)


async def test_a_cluster_without_slots_counts_as_away(tmp_path: Path):
    stream, heard = new_id(), Heard()
    with valkey_server(tmp_path, options=clustered()) as valkey:
        await valkey.answers()
        async with running_log(valkey, handlers=heard) as log:
            await log.open(stream, StreamOwner(1))
            await log.append(stream, [Started(1, 0), *said(2, 3)])
            await goes_on_from_memory(log, heard, stream)
            assert log.trouble == "Valkey takes no writes: its cluster is down."


@on_postgresql
async def test_a_generation_ends_and_is_told_right_elsewhere(
    tmp_path: Path, database_url: str, fake: FakeModelServer, own_valkey: ValkeyServer
):
    async with gateways(2, tmp_path, database_url, fake, own_valkey) as (one, other):
        id = await start(one, "fake:stall-3", onDisconnect="CONTINUE")
        async with one.connect() as socket:
            await socket.subscribe(WATCH, {"id": id})
            seen = [await next_event(socket)]
            async with own_valkey.refusing("full memory"):
                fake.release()
                with anyio.fail_after(30):
                    seen += await until(socket, "GenerationCompleted")
                assert text_of(seen) == "0 1 2 "
                state = (await one.client.get("/readyz")).json()
                assert state["status"] == "ready"
                assert state["streamLog"] == {
                    "ready": False,
                    "error": "Valkey takes no writes: its memory is full.",
                }
                told = await look(other, id)
                assert (told["state"], told["usage"]["completionTokens"]) == ("COMPLETED", 3)
        with anyio.fail_after(30):
            while (await look(other, id))["text"] != "0 1 2 ":
                await pause()


async def test_a_stop_ends_the_process_and_what_it_finished_stays_finished(
    tmp_path: Path, sqlite_url: str, fake: FakeModelServer, own_valkey: ValkeyServer
):
    settings = {"DATABASE_URL": sqlite_url, "REDIS_URL": own_valkey.url, "OLLAMA_URL": fake.url, "SECRET_KEY": SECRET}
    async with serving(tmp_path / "one", **settings, ADMIN_PASSWORD=PASSWORD, DRAIN_TIME="1") as served:
        token = await served.sign_in(PASSWORD)
        done = (await served.run(START, token, **asking("fake:stall-3", onDisconnect="CONTINUE")))["startGeneration"]
        running = (await served.run(START, token, **asking("fake:hold-5", onDisconnect="CONTINUE")))["startGeneration"]
        requests = [await fake.request(number) for number in range(2)]
        async with own_valkey.refusing("full memory"):
            next(request for request in requests if request.model == "fake:stall-3").release()
            while (await state_of(served, token, done["generation"]["id"])) != "COMPLETED":
                await pause()
            assert await served.stop(signal.SIGTERM) == 0
    own = gateway_settings(tmp_path / "other", sqlite_url, fake.url, redis_url=own_valkey.url, secret_key=SECRET)
    async with running_gateway(own, fake) as other:
        assert (await look(other, done["generation"]["id"]))["state"] == "COMPLETED"
        assert (await look(other, running["generation"]["id"]))["error"]["code"] == "SHUTTING_DOWN"


async def state_of(served: Any, token: str | None, id: str) -> str:
    return (await served.run("query($id: ID!) { generation(id: $id) { state } }", token, id=id))["generation"]["state"]
