"""What breaks inside the gateway while a generation runs: it still ends, once, and takes nobody along."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from math import inf
from uuid import UUID

import anyio
import pytest
from sqlalchemy import delete
from sqlalchemy.exc import IntegrityError

from auth.principal import ContentPolicy, Principal
from backends.ollama.backend import OllamaBackend
from db.clock import new_id
from db.engine import Database
from db.tables import User
from gateway.blobs import BlobLimits, Blobs
from gateway.catalog.catalog import Catalog
from gateway.catalog.queue import BackendQueue
from gateway.errors import ErrorCode, ShuttingDown, StreamExpired
from gateway.generation.admission import Admission
from gateway.generation.generations import GenerationFilter, Generations
from gateway.generation.ledger import Ledger
from gateway.generation.request import GenerationRequest, OnDisconnect
from gateway.generation.routing import Router
from gateway.generation.runner import Runner
from gateway.generation.starts import Starts
from gateway.limits import Limits, Prices
from gateway.replicas import Takeover
from gateway.streams.buffer import StreamBuffer
from gateway.streams.events import Cancelled, CancelReason, Completed, Event, Failed, Started, TextDelta
from gateway.streams.memory import MemoryStreamLog
from gateway.usage import UsageFeed
from tests.support.fake_model_server import FakeModelServer
from tests.support.polling import settled

_ALL = GenerationFilter()


class BreakingLog(MemoryStreamLog):
    """A log whose next `failures` appends fail, as those of one in another process may."""

    failures: float = 0

    async def append(self, stream_id: UUID, events: Sequence[Event]) -> None:
        if self.failures:
            self.failures -= 1
            raise ConnectionError("the log is gone")
        await super().append(stream_id, events)


class Scene:
    """Generations over a real database and a real HTTP backend, with a user to ask for them."""

    def __init__(
        self,
        generations: Generations,
        runner: Runner,
        takeover: Takeover,
        log: BreakingLog,
        database: Database,
        catalog: Catalog,
        principal: Principal,
    ) -> None:
        self.generations = generations
        self.runner = runner
        self.takeover = takeover
        self.log = log
        self.database = database
        self.catalog = catalog
        self.principal = principal
        self.user_id = principal.user_id

    async def start(self, model: str, on_disconnect: OnDisconnect = OnDisconnect.CONTINUE) -> UUID:
        request = GenerationRequest(model, prompt="one two three", on_disconnect=on_disconnect)
        return (await self.generations.start(self.principal, request)).id

    async def events(self, generation_id: UUID) -> list[Event]:
        return [event async for event in await self.generations.watch(self.principal, generation_id, 0)]


@asynccontextmanager
async def running_scene(database_url: str, fake_url: str) -> AsyncGenerator[Scene]:
    database, log, backend = (
        Database(database_url),
        BreakingLog(StreamBuffer(3600, 1_000_000)),
        OllamaBackend("ollama", fake_url),
    )
    user = User(username="one", password_hash="")
    async with database.transaction() as tx:
        tx.add(user)
    async with anyio.create_task_group() as tasks:
        catalog = Catalog([backend], 60, tasks)
        ledger = Ledger(database, Limits(database), Prices(database, 0), UsageFeed())
        tasks.start_soon(ledger.run)
        router = Router(catalog, {"ollama": BackendQueue(1, 10)}, BackendQueue(0, 10))
        blobs = Blobs(database, BlobLimits(enabled=True, size=1, quota=1, request=1, memory=1, retention=60))
        limits, prices = Limits(database), Prices(database, 0)
        admission = Admission(limits, prices, 8192)
        runner = Runner(
            database=database,
            admission=admission,
            blobs=blobs,
            log=log,
            ownership=log,
            ledger=ledger,
            router=router,
            tasks=tasks,
            replica_id=new_id(),
        )
        takeover = Takeover(runner=runner, catalog=catalog, log=log, ownership=log, ledger=ledger)
        starts = Starts(
            database=database,
            catalog=catalog,
            runner=runner,
            blobs=blobs,
            admission=admission,
            limits=limits,
            idempotency_time=86_400,
            content_policy=ContentPolicy.ALL,
        )
        generations = Generations(
            database=database,
            catalog=catalog,
            log=log,
            ownership=log,
            starts=starts,
            runner=runner,
            ledger=ledger,
        )
        yield Scene(generations, runner, takeover, log, database, catalog, Principal(user.id, "one", frozenset()))
        await runner.stop(0, hand_over=False)
        tasks.cancel_scope.cancel()
    await backend.aclose()
    await database.close()


@pytest.fixture
async def scene(sqlite_url: str, fake: FakeModelServer) -> AsyncIterator[Scene]:
    async with running_scene(sqlite_url, fake.url) as scene:
        yield scene


async def test_a_log_that_fails_for_a_moment_gets_an_end_that_fits(scene: Scene, fake: FakeModelServer):
    id = await scene.start("fake:hold-3")
    request = await fake.request()
    scene.log.failures = 1
    request.release()
    started, failed = await scene.events(id)
    assert isinstance(started, Started)
    assert isinstance(failed, Failed)
    assert (failed.sequence, failed.code) == (2, ErrorCode.INTERNAL_ERROR)


async def test_a_log_that_stays_broken_does_not_hang_those_who_wait_for_the_end(scene: Scene, fake: FakeModelServer):
    id = await scene.start("fake:hold-3")
    await fake.request()
    scene.log.failures = inf
    assert (await scene.generations.cancel(scene.principal, id)).state == "CANCELLED"


async def test_a_broken_log_breaks_nothing_but_its_own_generations(scene: Scene, fake: FakeModelServer):
    id = await scene.start("fake:hold-3")
    await fake.request()
    scene.log.failures = inf
    await scene.generations.cancel(scene.principal, id)
    scene.log.failures = 0
    assert isinstance((await scene.events(await scene.start("fake:count-3")))[-1], Completed)


async def test_an_end_that_cannot_be_recorded_is_told_all_the_same(scene: Scene, fake: FakeModelServer):
    id = await scene.start("fake:hold-3")
    request = await fake.request()
    viewer = await scene.generations.watch(scene.principal, id, 0)
    async with scene.database.transaction() as tx:
        await tx.execute(delete(User))  # with all that is theirs
    request.release()
    events = [event async for event in viewer]
    assert isinstance(events[-1], Completed)
    assert events[-1].usage.completion_tokens == 3


async def test_a_generation_that_is_cancelled_before_it_asked_costs_nothing(scene: Scene, fake: FakeModelServer):
    await scene.start("fake:hold-3")  # takes the one slot
    await fake.request()
    request = GenerationRequest("fake:count-3", prompt="one", on_disconnect=OnDisconnect.CANCEL)
    viewer = await scene.generations.start_and_watch(scene.principal, request)
    await viewer.aclose()
    end = (await scene.events(viewer.generation_id))[-1]
    assert isinstance(end, Cancelled)
    assert (end.reason, end.usage.prompt_tokens) == (CancelReason.VIEWERS_LEFT, 0)
    assert len(fake.requests) == 1


@asynccontextmanager
async def writing_blocked(scene: Scene) -> AsyncGenerator[None]:
    """Hold the one connection that writes: no row gets into the database within the block."""
    async with scene.database.transaction():
        yield


async def test_the_backend_is_asked_while_the_row_is_written_and_nothing_shown_before(
    scene: Scene, fake: FakeModelServer
):
    async with anyio.create_task_group() as tasks:
        async with writing_blocked(scene):
            tasks.start_soon(scene.start, "fake:count-3")
            await (await fake.request()).ended.wait()
            await settled()
            [run] = scene.runner.runs
            with pytest.raises(StreamExpired):
                await scene.log.read(run.generation_id)
    events = await scene.events(run.generation_id)
    assert [type(event) for event in events] == [Started, TextDelta, Completed]
    assert [event.sequence for event in events] == [1, 2, 3]


async def test_a_row_that_cannot_be_written_cancels_the_request_and_leaves_nothing(scene: Scene, fake: FakeModelServer):
    request = None
    scene.principal = replace(scene.principal, user_id=new_id())  # nobody: the row refers to no user
    async with anyio.create_task_group() as tasks:
        async with writing_blocked(scene):
            tasks.start_soon(refused_start, scene)
            request = await fake.request()
    await request.ended.wait()
    assert request.left
    assert not scene.runner.runs
    scene.principal = replace(scene.principal, user_id=scene.user_id)
    assert isinstance((await scene.events(await scene.start("fake:count-3")))[-1], Completed)  # its slot is free


async def refused_start(scene: Scene) -> None:
    with pytest.raises(IntegrityError):
        await scene.start("fake:hold-3")


async def test_a_stop_while_the_row_is_written_waits_for_it_and_writes_the_end(scene: Scene, fake: FakeModelServer):
    async with anyio.create_task_group() as tasks:
        async with writing_blocked(scene):
            tasks.start_soon(scene.start, "fake:hold-3")
            await fake.request()
            [run] = scene.runner.runs
            run.shut_down()
            await settled()
    await run.finished.wait()
    [row] = await scene.generations.by_id([run.generation_id])
    assert row is not None
    assert (row.state, row.finished_at is not None) == ("FAILED", True)


async def test_a_caller_who_is_cancelled_while_starting_leaves_nothing_that_runs(scene: Scene):
    request = GenerationRequest("fake:hold-3", prompt="one", on_disconnect=OnDisconnect.CANCEL)
    await scene.events(await scene.start("fake:count-3"))  # so that the models are known
    with anyio.CancelScope() as scope:
        scope.cancel()
        await scene.generations.complete(scene.principal, request)
    rows, _ = await scene.generations.page(scene.principal, _ALL, first=10, before=None)
    with anyio.fail_after(10):
        assert all([isinstance((await scene.events(row.id))[-1], Completed | Cancelled) for row in rows])


async def test_a_turn_that_comes_while_the_row_is_written_is_told_to_the_database(scene: Scene, fake: FakeModelServer):
    first = await scene.start("fake:hold-3")
    request = await fake.request()
    async with anyio.create_task_group() as tasks, scene.database.transaction():  # keeps the second one's row waiting
        tasks.start_soon(scene.start, "fake:hold-5")
        await settled()
        tasks.start_soon(scene.generations.cancel, scene.principal, first)
        await request.ended.wait()
        await settled()
    await fake.request(1)
    (second, _), _ = await scene.generations.page(scene.principal, _ALL, first=10, before=None)
    assert second.state == "RUNNING"
    assert second.started_at is not None


async def test_a_slot_is_free_again_after_every_kind_of_end(scene: Scene, fake: FakeModelServer):
    for model in ("fake:count-3", "fake:error-3", "fake:status-500", "fake:cut-3"):
        events = await scene.events(await scene.start(model))
        assert isinstance(events[0], Started)
        assert isinstance(events[-1], Completed | Cancelled | Failed)
    id = await scene.start("fake:hold-3")
    await fake.request(4)
    await scene.generations.cancel(scene.principal, id)
    assert isinstance((await scene.events(await scene.start("fake:count-3")))[0], Started)


async def test_nothing_starts_once_the_gateway_stops(scene: Scene):
    await scene.runner.stop(0, hand_over=False)
    with pytest.raises(ShuttingDown):
        await scene.start("fake:count-3")


async def test_one_that_is_starting_when_the_gateway_stops_has_its_end_too(scene: Scene, fake: FakeModelServer):
    refused = False

    async def start() -> None:
        nonlocal refused
        try:
            await scene.start("fake:hold-3")
        except ShuttingDown:
            refused = True

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(start)
        while not fake.asked:  # it is in the middle of its start now
            await anyio.lowlevel.checkpoint()
        await scene.runner.stop(0, hand_over=False)
    rows, _ = await scene.generations.page(scene.principal, _ALL, first=10, before=None)
    assert [row.state for row in rows] == ([] if refused else ["FAILED"])


async def test_timings_are_told_in_their_order(scene: Scene):
    id = await scene.start("fake:paced-5-1")
    events = await scene.events(id)
    assert any(isinstance(event, TextDelta) for event in events)
    row = await scene.generations.get(scene.principal, id)
    assert row.queued_ms is not None
    assert row.time_to_first_token_ms is not None
    assert row.total_ms is not None
    assert 0 <= row.queued_ms <= row.time_to_first_token_ms <= row.total_ms
    assert row.load_ms == 42
