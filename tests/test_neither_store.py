"""Valkey and the database take nothing: viewers wait, whoever takes over denies nothing, and stopping ends."""

import signal
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID

import anyio
import pytest
from anyio.abc import TaskGroup
from websockets.exceptions import ConnectionClosed

from db.clock import new_id
from gateway.streams.events import Completed, Event, FinishReason, Started, TextDelta, TokenUsage
from gateway.streams.exposure import Notes
from gateway.streams.log import StreamOwner
from gateway.streams.shared import SharedStreamLog
from schema.node import parse_uuid
from tests.support.databases import read_only
from tests.support.fake_model_server import FakeModelServer
from tests.support.gateways import Json, RunningGateway, Socket, gateway_settings, running_gateway
from tests.support.generations import GENERATION, START, WATCH, asking, ends, look, next_event, text_of, until
from tests.support.polling import pause
from tests.support.processes import Served
from tests.support.shared.logs import Heard, running_log
from tests.support.valkeys import ValkeyServer
from tests.test_planned_stop import before_fake, watching
from tests.test_replicas import SECRET

TRIES = 3
"""After so many refused notes whatever would have been shown without them was."""

PACED = "fake:paced-100-30"
WHOLE = "".join(f"{number} " for number in range(100))
USAGE = "query($id: ID!) { generation(id: $id) { usage { completionTokens } } }"
END = Completed(3, FinishReason.STOP, TokenUsage(1, 1))


class Seen:
    """What a viewer has seen of a stream."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._came = anyio.Event()

    async def follow(self, log: SharedStreamLog, stream_id: UUID) -> None:
        async with aclosing(log.follow(stream_id)) as batches:
            async for batch in batches:
                self.events += batch
                self._came.set()
                self._came = anyio.Event()

    async def reaches(self, sequence: int) -> None:
        with anyio.fail_after(30):
            while not self.events or self.events[-1].sequence < sequence:
                await self._came.wait()


class Refusing:
    """One of the notes, which the database refuses until it `takes`."""

    def __init__(self, heard: Heard, name: str, error: type[Exception] = ConnectionError) -> None:
        self.tried = anyio.Event()
        self.takes = False
        self._note: Callable[..., Any] = getattr(heard.notes, name)
        self._error = error
        self._tries = 0
        notes: dict[str, Any] = {name: self._try}
        heard.notes = replace(heard.notes, **notes)

    async def _try(self, *told: Any) -> Any:
        if self.takes:
            return await self._note(*told)
        self._tries += 1
        if self._tries == TRIES:
            self.tried.set()
        raise self._error


@asynccontextmanager
async def watched(
    valkey: ValkeyServer, heard: Heard, stream_id: UUID, seen: Seen
) -> AsyncGenerator[tuple[SharedStreamLog, TaskGroup]]:
    """A log with one stream, which is watched, and a Valkey that takes nothing."""
    async with (
        running_log(valkey, handlers=heard) as log,
        valkey.refusing("full memory"),
        anyio.create_task_group() as tasks,
    ):
        await log.open(stream_id, StreamOwner(1))
        tasks.start_soon(seen.follow, log, stream_id)
        yield log, tasks


@pytest.mark.parametrize("name", [*Notes.__slots__])
async def test_viewers_wait_while_the_database_takes_no_note(own_valkey: ValkeyServer, name: str):
    stream, heard, seen = new_id(), Heard(), Seen()
    note = Refusing(heard, name)
    heard.ended.add(stream)
    async with watched(own_valkey, heard, stream, seen) as (log, tasks):
        await log.append(stream, [Started(1, 0), TextDelta(2, "x", 0, 1)])
        tasks.start_soon(log.append, stream, [END])
        with anyio.fail_after(30):
            await note.tried.wait()
        assert log.trouble is not None
        assert log.trouble.endswith("The database takes nothing either: viewers wait.")
        assert END not in seen.events
        assert name == "ended" or seen.events == []
        assert await log.read(stream) == seen.events  # nor does who asks for the text
        note.takes = True
        await seen.reaches(3)
        assert log.trouble.count("viewers wait") == 0
    assert [event.sequence for event in seen.events] == [1, 2, 3]


async def test_an_end_is_seen_when_it_is_on_record(own_valkey: ValkeyServer):
    stream, heard, seen = new_id(), Heard(), Seen()
    asked = anyio.Event()

    async def ended(stream_ids: Any) -> set[UUID]:
        if asked.is_set():
            return set(stream_ids)
        asked.set()
        return set()

    heard.notes = replace(heard.notes, ended=ended)
    async with watched(own_valkey, heard, stream, seen) as (log, tasks):
        await log.append(stream, [Started(1, 0)])
        tasks.start_soon(log.append, stream, [TextDelta(2, "x", 0, 1), END])
        await seen.reaches(2)
        assert asked.is_set()
        assert END not in seen.events
        await seen.reaches(3)


@pytest.mark.parametrize("name", ["detached", "usage"])
async def test_a_fault_of_the_note_itself_stops_nobody(
    own_valkey: ValkeyServer, name: str, caplog: pytest.LogCaptureFixture
):
    stream, heard, seen = new_id(), Heard(), Seen()
    Refusing(heard, name, ZeroDivisionError)
    async with watched(own_valkey, heard, stream, seen) as (log, tasks):
        await log.append(stream, [Started(1, 0)])
        await seen.reaches(1)
        tasks.cancel_scope.cancel()
    assert any("refuses what it is told" in record.message for record in caplog.records)


async def test_streams_that_cannot_be_written_do_not_stop_the_others(
    own_valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("gateway.streams.outbox.MOST_WAITING", 1)
    refused, taken, heard, seen = new_id(), new_id(), Heard(), Seen()
    Refusing(heard, "detached")
    async with running_log(own_valkey, handlers=heard) as log, anyio.create_task_group() as tasks:
        await log.open(refused, StreamOwner(1))
        await log.append(refused, [Started(1, 0), TextDelta(2, "\ud800", 0, 1)])  # half a character has no bytes
        await log.open(taken, StreamOwner(1))
        tasks.start_soon(seen.follow, log, taken)
        with anyio.fail_after(30):
            for number in range(1, 5):
                await log.append(taken, [TextDelta(number, "x", number - 1, 1)])
        await seen.reaches(4)
        assert log.waiting == 2
        tasks.cancel_scope.cancel()


async def begin(served: Served, token: str, fake: FakeModelServer, on_loss: str = "FAIL") -> str:
    fake.models.append(PACED)
    asked = asking(PACED, onDisconnect="CONTINUE", onBackendLoss=on_loss)
    return (await served.run(START, token, **asked))["startGeneration"]["generation"]["id"]


async def tokens_of(viewer: Socket, seen: list[Json], tokens: int) -> None:
    """Read on until the viewer has so many."""
    while len(text_of(seen).split()) < tokens:
        seen.append(await next_event(viewer))


@dataclass
class Lost:
    """A generation whose gateway is gone, and what its viewer saw."""

    id: str
    seen: list[Json]

    async def is_consistent_at(self, other: RunningGateway) -> Json:
        """Wait for its end at another gateway: nothing that was seen is denied, or in no usage. Give it."""
        with anyio.fail_after(60):
            while (row := await look(other, self.id))["usage"] is None:
                await pause()
        text = text_of(await other.events(WATCH, {"id": self.id}))
        assert WHOLE.startswith(text)
        assert text.startswith(text_of(self.seen))
        assert row["text"] == text
        assert len(text.split()) <= row["usage"]["completionTokens"] <= 100
        assert ends(self.seen) == []
        return row


@asynccontextmanager
async def lost(
    folder: Path, url: str, fake: FakeModelServer, valkey: ValkeyServer, number: int, on_loss: str = "FAIL"
) -> AsyncGenerator[Lost]:
    """End a gateway while neither store takes anything; within the block both do again."""
    settings = {"DATABASE_URL": url, "REDIS_URL": valkey.url, "SECRET_KEY": SECRET, "EVENT_INTERVAL": "0"}
    async with before_fake(folder, fake, **settings) as (one, token):
        lost = Lost(await begin(one, token, fake, on_loss), [])
        async with watching(one, token) as viewer:
            await viewer.subscribe(WATCH, {"id": lost.id})
            await tokens_of(viewer, lost.seen, 5)
            async with read_only(url), valkey.refusing("full memory"):
                await one.says("neither Valkey nor the database takes anything")
                assert await one.stop(number) == (0 if number == signal.SIGTERM else -number)
                with suppress(ConnectionClosed):
                    lost.seen += [event async for event in viewer.events()]
        yield lost


@pytest.mark.parametrize("on_loss", ["FAIL", "CONTINUE"])
async def test_who_takes_over_denies_nothing_that_was_seen(
    tmp_path: Path, postgresql_url: str, fake: FakeModelServer, own_valkey: ValkeyServer, on_loss: str
):
    own = gateway_settings(
        tmp_path / "other", postgresql_url, fake.url, redis_url=own_valkey.url, secret_key=SECRET, lease_time=1
    )
    async with running_gateway(own, fake) as other:
        async with lost(tmp_path / "one", postgresql_url, fake, own_valkey, signal.SIGKILL, on_loss) as cut:
            row = await cut.is_consistent_at(other)
    assert (row["state"], row["text"] == WHOLE) == (("FAILED", False) if on_loss == "FAIL" else ("COMPLETED", True))


async def test_a_gateway_stops_and_leaves_its_generations_to_whoever_comes_next(
    tmp_path: Path, postgresql_url: str, fake: FakeModelServer, own_valkey: ValkeyServer
):
    async with lost(tmp_path / "one", postgresql_url, fake, own_valkey, signal.SIGTERM) as left:
        [notes] = (tmp_path / "one").glob("usage-*.notes")
        assert parse_uuid(left.id, "Generation").bytes in notes.read_bytes()
        own = gateway_settings(
            tmp_path / "one", postgresql_url, fake.url, redis_url=own_valkey.url, secret_key=SECRET, lease_time=1
        )
        async with running_gateway(own, fake) as next_one:
            row = await left.is_consistent_at(next_one)
    assert (row["state"], row["error"]["code"]) == ("FAILED", "INTERRUPTED")
    assert row["usage"]["completionTokens"] > len(row["text"].split())  # it read more than anybody saw


async def test_viewers_go_on_when_the_stores_do(
    tmp_path: Path, postgresql_url: str, fake: FakeModelServer, own_valkey: ValkeyServer
):
    settings = {"DATABASE_URL": postgresql_url, "REDIS_URL": own_valkey.url}
    async with before_fake(tmp_path / "one", fake, **settings) as (one, token):
        id, seen = await begin(one, token, fake), list[Json]()
        async with watching(one, token) as viewer:
            await viewer.subscribe(WATCH, {"id": id})
            await tokens_of(viewer, seen, 5)
            async with own_valkey.refusing("full memory"):
                async with read_only(postgresql_url):
                    await one.says("neither Valkey nor the database takes anything")
                await tokens_of(viewer, seen, 100)
            seen += await until(viewer, "GenerationCompleted")
        assert text_of(seen) == WHOLE
        assert (await one.run(GENERATION, token, id=id))["generation"]["usage"]["completionTokens"] == 100


async def test_the_usage_of_an_end_that_no_store_has_is_found_by_the_next_process(
    tmp_path: Path, postgresql_url: str, fake: FakeModelServer
):
    settings = {"DATABASE_URL": postgresql_url, "SECRET_KEY": SECRET}
    async with before_fake(tmp_path / "one", fake, **settings) as (one, token):
        id = await begin(one, token, fake)
        async with watching(one, token) as viewer:
            await viewer.subscribe(WATCH, {"id": id})
            await next_event(viewer)  # what it asked the database is answered
            async with read_only(postgresql_url):
                await until(viewer, "GenerationCompleted")
                await one.stop(signal.SIGKILL)
    own = gateway_settings(tmp_path / "one", postgresql_url, fake.url, secret_key=SECRET, lease_time=1)
    async with running_gateway(own, fake) as next_one:
        with anyio.fail_after(60):
            while (row := (await next_one.run(USAGE, {"id": id}))["generation"])["usage"] is None:
                await pause()
    assert row["usage"]["completionTokens"] == 100
