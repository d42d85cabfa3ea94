"""Gateways that stop, gently or not: every generation has exactly one end, also after the next start."""

from pathlib import Path
from typing import Any

from sqlalchemy import select

from db.clock import new_id
from db.engine import Database
from db.tables import Generation, UsageRecord, User
from tests.support.databases import on_postgresql, on_sqlite
from tests.support.fake_model_server import FakeModelServer
from tests.support.gateways import RunningGateway, Settings, gateway_settings, running_gateway
from tests.support.generations import GENERATE, START, WATCH, asking, look, next_event, start, until
from tests.support.polling import pause

ROW = """{ generations(first: 10) { nodes {
  state finishReason error { code message } usage { promptTokens completionTokens source }
} } }"""


async def read_three_tokens(gateway: RunningGateway, id: str) -> None:
    async with gateway.connect() as socket:
        await socket.subscribe(WATCH, {"id": id})
        tokens = 0
        while tokens < 3:
            tokens += (await next_event(socket)).get("tokens", 0)


async def rows_after(settings: Settings, fake: FakeModelServer) -> list[dict[str, Any]]:
    """What the next gateway over the same database tells of all generations."""
    async with running_gateway(settings, fake) as gateway:
        return (await gateway.run(ROW))["generations"]["nodes"]


async def rows_when_ended(gateway: RunningGateway) -> list[dict[str, Any]]:
    """What is told of all generations when each has its end: those of a dead gateway get it when that is noticed."""
    rows: list[dict[str, Any]] = [{"usage": None}]
    while not all(row["usage"] for row in rows):
        await pause()
        rows = (await gateway.run(ROW))["generations"]["nodes"]
    return rows


async def ledger(url: str) -> list[UsageRecord]:
    database = Database(url)
    async with database.reading() as session:
        records = list(await session.scalars(select(UsageRecord)))
    await database.close()
    return records


@on_sqlite
async def test_what_still_runs_when_the_gateway_stops_fails_and_is_counted(
    database_url: str, tmp_path: Path, fake: FakeModelServer
):
    settings = gateway_settings(tmp_path, database_url, fake.url)
    async with running_gateway(settings, fake) as gateway:
        await read_three_tokens(gateway, await start(gateway, "fake:stall-3", onDisconnect="CONTINUE"))
    (row,) = await rows_after(settings, fake)
    assert (row["state"], row["error"]["code"]) == ("FAILED", "SHUTTING_DOWN")
    assert row["usage"] == {"promptTokens": 4, "completionTokens": 3, "source": "ESTIMATED"}
    assert [record.completion_tokens for record in await ledger(database_url)] == [3]


async def test_stopping_stops_the_models_work(sqlite_url: str, tmp_path: Path, fake: FakeModelServer):
    async with running_gateway(gateway_settings(tmp_path, sqlite_url, fake.url), fake) as gateway:
        await start(gateway, "fake:hold-3")
        request = await fake.request()
    await request.ended.wait()
    assert request.left


async def test_those_in_line_fail_too_and_cost_nothing(sqlite_url: str, tmp_path: Path, fake: FakeModelServer):
    settings = gateway_settings(tmp_path, sqlite_url, fake.url, ollama_parallel=1)
    async with running_gateway(settings, fake) as gateway:
        for _ in range(3):
            await start(gateway, "fake:hold-3")
        await fake.request()
    rows = await rows_after(settings, fake)
    assert [row["error"]["code"] for row in rows] == ["SHUTTING_DOWN"] * 3
    assert [row["usage"]["promptTokens"] for row in rows] == [0, 0, 4]


async def test_what_runs_may_finish_while_the_gateway_drains(sqlite_url: str, tmp_path: Path, fake: FakeModelServer):
    settings = gateway_settings(tmp_path, sqlite_url, fake.url, drain_time=30)
    async with running_gateway(settings, fake) as gateway:
        await start(gateway, "fake:hold-3")
        request = await fake.request()
        gateway.stop()
        while (await gateway.run(START, asking("fake:none")))["startGeneration"]["code"] != "SHUTTING_DOWN":
            await pause()
        request.release()
    (row,) = await rows_after(settings, fake)
    assert (row["state"], row["finishReason"], row["usage"]["completionTokens"]) == ("COMPLETED", "STOP", 3)


async def test_a_viewer_does_not_make_the_stop_look_like_their_own_wish(
    sqlite_url: str, tmp_path: Path, fake: FakeModelServer
):
    settings = gateway_settings(tmp_path, sqlite_url, fake.url)
    async with running_gateway(settings, fake) as gateway, gateway.connect() as socket:
        await socket.subscribe(GENERATE, asking("fake:stall-3"))
        await next_event(socket)
        gateway.stop()
        assert (await until(socket, "GenerationFailed"))[-1]["error"]["code"] == "SHUTTING_DOWN"
    (row,) = await rows_after(settings, fake)
    assert (row["state"], row["error"]["code"]) == ("FAILED", "SHUTTING_DOWN")


@on_postgresql
async def test_what_a_killed_process_left_behind_is_ended_by_the_next_one(
    database_url: str, tmp_path: Path, fake: FakeModelServer
):
    settings = gateway_settings(tmp_path, database_url, fake.url, lease_time=0.5)
    async with running_gateway(settings, fake) as gateway:
        ids = [await leave_behind(gateway, state) for state in ("RUNNING", "QUEUED")]
        done = await start(gateway, "fake:count-3")
        await gateway.events(WATCH, {"id": done})
    assert len(ids) == 2
    async with running_gateway(settings, fake) as gateway:
        rows = await rows_when_ended(gateway)
    assert [row["state"] for row in rows] == ["COMPLETED", "FAILED", "FAILED"]
    assert [row["error"] and row["error"]["code"] for row in rows] == [None, "INTERRUPTED", "INTERRUPTED"]


async def leave_behind(gateway: RunningGateway, state: str) -> str:
    """Write the row of a generation that nobody runs, as a killed process leaves it."""
    id = new_id()
    async with gateway.database.transaction() as tx:
        user_id = (await tx.scalars(select(User.id))).one()
        tx.add(
            Generation(
                id=id,
                user_id=user_id,
                model="fake:count-3",
                backend="ollama",
                state=state,
                on_disconnect="CONTINUE",
            )
        )
    return str(id)


async def test_the_text_of_an_earlier_process_is_gone_and_its_numbers_are_not(
    sqlite_url: str, tmp_path: Path, fake: FakeModelServer
):
    settings = gateway_settings(tmp_path, sqlite_url, fake.url)
    async with running_gateway(settings, fake) as gateway:
        id = await start(gateway, "fake:count-3")
        await gateway.events(WATCH, {"id": id})
    async with running_gateway(settings, fake) as gateway:
        generation = await look(gateway, id)
        assert (generation["text"], generation["usage"]["completionTokens"]) == (None, 3)
        async with gateway.connect() as socket:
            await socket.subscribe(WATCH, {"id": id})
            message = await socket.receive()
    assert message["payload"]["errors"][0]["extensions"]["code"] == "STREAM_EXPIRED"
