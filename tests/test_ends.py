"""Every generation ends once and for good, whatever a model server, the log or the database makes of it."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import anyio
import orjson
import pytest
from anyio.lowlevel import checkpoint

from db.clock import new_id, now
from db.engine import Database, DatabaseUnavailable, WriteSession
from db.queries.generation import mark_ended, mark_running, note_usage
from db.tables import Generation, User
from gateway.errors import ErrorCode, GatewayError
from gateway.generation.generations import GenerationFilter
from gateway.generation.ledger import Ledger
from gateway.generation.record import LedgerEntry, Timings, usage_columns, usage_recorded
from gateway.generation.request import GenerationRequest, OnBackendLoss, OnDisconnect
from gateway.generation.run import Outcome
from gateway.limits import Limits, Prices
from gateway.streams import KeptUsage
from gateway.streams.events import NO_USAGE, Failed, TokenUsage, UsageSource, UsageSources
from gateway.streams.log import StreamOwner
from gateway.tasks import spawn, spawn_service
from gateway.usage import UsageFeed
from tests.support.fake_model_server import FakeModelServer
from tests.support.gateways import RunningGateway
from tests.support.generations import GENERATE, asking
from tests.support.polling import pause
from tests.test_run import BreakingLog, Scene, running_scene

CHUNK = b'{"model":"m","message":{"role":"assistant","content":"hello"},"done":false}\n'
ODD_ENDS = [
    {"prompt_eval_count": 3_000_000_000, "eval_count": 2},
    {"prompt_eval_count": 2, "eval_count": 3_000_000_000},
    {"prompt_eval_count": 1e300, "eval_count": "2", "load_duration": 9e15},
    {"prompt_eval_count": -1, "eval_count": [], "load_duration": True},
    {"prompt_eval_count": 2**70, "eval_count": 2**70, "load_duration": 2**70, "prompt_eval_duration": 2**70},
]

ROWS = """
{ generations(first: 1) { nodes {
  state finishReason error { code message } usage { promptTokens completionTokens } timings { loadMs totalMs }
} } }
"""


@pytest.fixture
async def scene(database_url: str, fake: FakeModelServer) -> AsyncIterator[Scene]:
    async with running_scene(database_url, fake.url) as scene:
        yield scene


async def only_row(gateway: RunningGateway) -> dict[str, Any]:
    [row] = (await gateway.run(ROWS))["generations"]["nodes"]
    return row


@pytest.mark.parametrize("counts", ODD_ENDS)
async def test_counts_that_make_no_sense_are_not_told(
    emptied_gateway_on_each_database: RunningGateway, counts: dict[str, Any]
):
    end = {"model": "m", "message": {"content": ""}, "done": True, "done_reason": "stop"}
    numbers = b"".join(b',"%s":%s' % (name.encode(), _json(value)) for name, value in counts.items())
    reply = CHUNK + orjson.dumps(end)[:-1] + numbers + b"}\n"
    emptied_gateway_on_each_database.fake.replies["/api/chat"] = (200, reply)
    events = await emptied_gateway_on_each_database.events(GENERATE, asking("fake:echo"))
    assert events[-1]["__typename"] == "GenerationCompleted"
    row = await only_row(emptied_gateway_on_each_database)
    assert row["state"] == "COMPLETED"
    assert row["usage"]["promptTokens"] < 100


def _json(value: Any) -> bytes:
    return str(value).encode() if isinstance(value, int) and not isinstance(value, bool) else orjson.dumps(value)


@pytest.mark.parametrize("words", ["a\\u0000b", "x" * 10_000, "\\ud83d\\ude00" * 600])
async def test_an_error_message_that_no_column_takes_ends_it_all_the_same(
    emptied_gateway_on_each_database: RunningGateway, words: str
):
    emptied_gateway_on_each_database.fake.replies["/api/chat"] = (200, CHUNK + b'{"error":"%s"}\n' % words.encode())
    events = await emptied_gateway_on_each_database.events(GENERATE, asking("fake:echo"))
    assert events[-1]["__typename"] == "GenerationFailed"
    assert (await only_row(emptied_gateway_on_each_database))["state"] == "FAILED"


async def added(database: Database, **columns: Any) -> Generation:
    """A generation that is under way, of a user of its own."""
    user = User(username="one", password_hash="")
    async with database.transaction() as tx:
        tx.add(user)
        await tx.flush()
        row = Generation(
            user_id=user.id, model="m", backend="ollama", state="RUNNING", on_disconnect="CONTINUE", **columns
        )
        tx.add(row)
    return row


async def stored(database: Database, row: Generation) -> Generation:
    async with database.reading() as session:
        found = await session.get(Generation, row.id)
    assert found is not None
    return found


@asynccontextmanager
async def running_ledger(database: Database, kept_usage: KeptUsage | None = None) -> AsyncIterator[Ledger]:
    ledger = Ledger(database, Limits(database), Prices(database, 0), UsageFeed(), kept_usage=kept_usage)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ledger.run)
        yield ledger
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("error", "usage", "timings"),
    [
        (None, TokenUsage(2**31, 2**70), Timings(1, 2, 3, 4)),
        (None, TokenUsage(1, 1, 2**40), Timings(2**70, 2**31, 3, 4)),
        (None, TokenUsage(1, 1, thinking_tokens=2**40), Timings(1, 2, 3, 4, prompt_ms=2**31)),
        (GatewayError("half a pair \ud800 and NUL \0"), TokenUsage(1, 1), Timings(1, 2, 3, 2**40)),
    ],
)
async def test_what_a_column_cannot_hold_keeps_no_end_from_the_database(
    database: Database, error: GatewayError | None, usage: TokenUsage, timings: Timings
):
    row, other = await added(database), None
    async with database.transaction() as tx:
        other = Generation(user_id=row.user_id, model="m", backend="o", state="RUNNING", on_disconnect="CONTINUE")
        tx.add(other)
    good = Outcome(None, GatewayError("fine"), TokenUsage(3, 4), Timings(1, 2, 3, 4))
    async with running_ledger(database) as ledger, anyio.create_task_group() as tasks:
        tasks.start_soon(
            ledger.write, LedgerEntry(row, Outcome(None, error or GatewayError("x"), usage, timings), now())
        )
        tasks.start_soon(ledger.write, LedgerEntry(other, good, now()))
    assert (await stored(database, row)).finished_at is not None
    assert (await stored(database, other)).prompt_tokens == 3


@pytest.mark.parametrize("takes", [False, True])
async def test_the_file_of_usage_keeps_what_is_not_on_record_when_the_process_ends(
    database: Database, tmp_path: Path, takes: bool
):
    row, used = await added(database), TokenUsage(3, 4)
    kept_usage = KeptUsage(tmp_path, new_id())
    kept_usage.note(row.id, used)
    entry = LedgerEntry(row, Outcome(None, GatewayError("x"), used, Timings(1, 2, 3, 4)), now())
    async with running_ledger(database, kept_usage) as ledger, anyio.create_task_group() as tasks:
        tasks.start_soon(ledger.write, entry)
        if takes:
            await entry.settled.wait()
        else:
            await checkpoint()
        await ledger.close(0)
        kept_usage.close()
    left = KeptUsage(tmp_path, new_id()).left(row.id)
    assert left == (NO_USAGE if takes else used)


@pytest.mark.parametrize(
    "usage", [TokenUsage(3, 5, 1, UsageSources.of_weakest(UsageSource.BACKEND, 3, 1, 4), 4), TokenUsage(3, 5)]
)
async def test_what_a_running_generation_has_used_is_read_as_it_was_noted(database: Database, usage: TokenUsage):
    row = await added(database)
    async with database.transaction() as tx:
        await note_usage(tx, [{"row_id": row.id, "row_fence": row.fence, **usage_columns(usage)}])
    assert usage_recorded(await stored(database, row)) == usage


async def test_a_turn_that_is_told_late_changes_no_end(database: Database):
    row = await added(database, fence=1)
    async with database.transaction() as tx:
        assert await mark_ended(tx, row.id, 1, {"state": "CANCELLED", "finished_at": now()})
        await mark_running(tx, row.id, 1, now(), 5)
    assert (await stored(database, row)).state == "CANCELLED"


async def test_a_turn_is_not_told_by_who_has_lost_it_to_another_gateway(database: Database):
    row = await added(database, fence=2)
    async with database.transaction() as tx:
        await mark_running(tx, row.id, 1, now(), 5)
    assert (await stored(database, row)).queued_ms is None


async def rows_of(scene: Scene) -> Sequence[Generation]:
    rows, _ = await scene.generations.page(scene.principal, GenerationFilter(), first=10, before=None)
    return rows


async def test_a_request_that_cannot_be_kept_for_others_leaves_no_row_and_takes_no_slot(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
):
    def fail(request: Any) -> bytes:
        raise TypeError("not JSON")

    request = GenerationRequest("fake:count-3", prompt="x", on_backend_loss=OnBackendLoss.CONTINUE)
    with monkeypatch.context() as broken:
        broken.setattr("gateway.generation.starts.encode_request", fail)
        for _ in range(3):
            with pytest.raises(TypeError):
                await scene.generations.start(scene.principal, request)
    assert await rows_of(scene) == []
    assert (await scene.events(await scene.start("fake:count-3")))[0].sequence == 1


async def test_one_whose_stream_cannot_be_opened_has_failed(scene: Scene, monkeypatch: pytest.MonkeyPatch):
    async def fail(self: BreakingLog, stream_id: UUID, owner: StreamOwner) -> None:
        raise ConnectionError("the log is gone")

    monkeypatch.setattr(BreakingLog, "open", fail)
    with pytest.raises(ConnectionError):
        await scene.start("fake:count-3")
    [row] = await rows_of(scene)
    while row.finished_at is None:
        await pause()
        [row] = await rows_of(scene)
    assert (row.state, row.error_code) == ("FAILED", ErrorCode.INTERNAL_ERROR)


async def test_one_whose_commit_may_have_worked_has_an_end(scene: Scene, monkeypatch: pytest.MonkeyPatch):
    transact = Database.transact

    async def forgetful(self: Database, work: Callable[[WriteSession], Awaitable[Any]]) -> Any:
        await transact(self, work)
        monkeypatch.undo()
        raise DatabaseUnavailable("the answer to COMMIT was lost")

    await scene.events(await scene.start("fake:count-3"))  # so that the models are known
    monkeypatch.setattr(Database, "transact", forgetful)
    with pytest.raises(DatabaseUnavailable):
        await scene.start("fake:hold-3")
    row = (await rows_of(scene))[0]
    while row.finished_at is None:
        await pause()
        row = (await rows_of(scene))[0]
    assert (row.state, row.error_code) == ("FAILED", ErrorCode.DATABASE_UNAVAILABLE)
    assert (await scene.events(await scene.start("fake:count-3")))[0].sequence == 1  # the slot is free again


async def test_a_text_that_cannot_be_kept_costs_the_text_alone(
    scene: Scene, fake: FakeModelServer, monkeypatch: pytest.MonkeyPatch
):
    def fail(events: Any) -> bytes:
        raise TypeError("not JSON")

    monkeypatch.setattr("gateway.streams.encode_transcript", fail)
    request = GenerationRequest("fake:count-3", prompt="x", idempotency_key="k", on_disconnect=OnDisconnect.CONTINUE)
    row = await scene.generations.start(scene.principal, request)
    assert not isinstance((await scene.events(row.id))[-1], Failed)
    assert (await rows_of(scene))[0].state == "COMPLETED"


async def test_an_orphan_that_cannot_be_taken_over_has_failed(scene: Scene, monkeypatch: pytest.MonkeyPatch):
    async def fail(self: BreakingLog, stream_id: UUID, owner: StreamOwner) -> None:
        raise ValueError("garbage")

    async with scene.database.transaction() as tx:
        row = Generation(
            user_id=scene.principal.user_id,
            model="m",
            backend="ollama",
            state="RUNNING",
            on_disconnect="CONTINUE",
            fence=2,
        )
        row.created_at = now() - timedelta(days=60)  # longer than 2^31 milliseconds
        tx.add(row)
    monkeypatch.setattr(BreakingLog, "claim", fail)
    await scene.takeover.take_over(row)
    [row] = await rows_of(scene)
    assert (row.state, row.error_code) == ("FAILED", ErrorCode.INTERRUPTED)


async def test_a_task_that_fails_takes_no_other_along(caplog: pytest.LogCaptureFixture):
    async def fail(word: str) -> None:
        raise RuntimeError(word)

    with caplog.at_level(logging.ERROR):
        async with anyio.create_task_group() as tasks:
            spawn(tasks, "the small task", fail, "broken")
            await checkpoint()
    assert "the small task failed" in caplog.text


async def test_a_service_that_fails_is_started_again(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("gateway.tasks.RESTART_SECONDS", 0)
    again = anyio.Event()
    runs = 0

    async def run() -> None:
        nonlocal runs
        runs += 1
        if runs == 1:
            raise RuntimeError
        again.set()
        await anyio.sleep_forever()

    async with anyio.create_task_group() as tasks:
        spawn_service(tasks, "the service", run)
        with anyio.fail_after(10):
            await again.wait()
        tasks.cancel_scope.cancel()
