"""The same request under the same key is one generation, also when it comes sixteen times at once at two gateways."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
from sqlalchemy import select, update

from db.clock import now
from db.tables import IdempotencyKey, Transcript
from tests.support.databases import on_postgresql, on_sqlite
from tests.support.fake_model_server import FakeModelServer
from tests.support.gateways import RunningGateway, gateway_settings, refused_field, running_gateway
from tests.support.generations import COMPLETE, GENERATE, START, asking, text_of
from tests.support.valkeys import ValkeyServer
from tests.test_replicas import gateways


@pytest.fixture
def gateway(emptied_gateway: RunningGateway) -> RunningGateway:
    """One for all tests here, emptied before each of them."""
    return emptied_gateway


START_FIELD = START.replace("... on UserError", "... on InvalidInput { issues { path } } ... on UserError")


async def start(gateway: RunningGateway, model: str = "fake:count-3", **fields: Any) -> dict[str, Any]:
    asked = asking(model, idempotencyKey="k", onDisconnect="CONTINUE") | {}
    return (await gateway.run(START_FIELD, {"input": asked["input"] | fields}))["startGeneration"]


async def test_the_same_key_starts_nothing_new(emptied_gateway_on_each_database: RunningGateway):
    first, second = await start(emptied_gateway_on_each_database), await start(emptied_gateway_on_each_database)
    assert first["generation"]["id"] == second["generation"]["id"]
    assert len(emptied_gateway_on_each_database.fake.requests) <= 1


async def test_a_subscription_under_the_key_watches_what_it_started(gateway: RunningGateway):
    first = await gateway.events(GENERATE, asking("fake:count-3", idempotencyKey="k"))
    second = await gateway.events(GENERATE, asking("fake:count-3", idempotencyKey="k"))
    assert text_of(second) == text_of(first) == "0 1 2 "
    assert len(gateway.fake.requests) == 1


async def test_a_mutation_under_the_key_gives_the_same_answer(gateway: RunningGateway):
    answers = [(await gateway.run(COMPLETE, asking("fake:count-3", idempotencyKey="k")))["generate"] for _ in range(2)]
    assert answers[0] == answers[1]
    assert answers[0]["text"] == "0 1 2 "


@pytest.mark.parametrize("fields", [{"onDisconnect": "CANCEL"}, {"onBackendLoss": "CONTINUE"}, {"system": None}])
async def test_a_retry_may_want_to_watch_it_otherwise(gateway: RunningGateway, fields: dict[str, Any]):
    first, second = await start(gateway, "fake:hold-3"), await start(gateway, "fake:hold-3", **fields)
    assert first["generation"]["id"] == second["generation"]["id"]


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt": {"text": "other"}},
        {"model": "fake:count-5"},
        {"system": "other"},
        {"thinking": "OFF"},
        {"options": {"seed": 1}},
        {"format": {"jsonObject": True}},
        {"tools": [{"name": "f", "parameters": {}}]},
    ],
)
async def test_what_is_asked_of_the_model_must_be_the_same(gateway: RunningGateway, fields: dict[str, Any]):
    await start(gateway)
    assert (await start(gateway, **fields))["code"] == "IDEMPOTENCY_KEY_REUSED"


@asynccontextmanager
async def started_anew(
    folder: Path, database_url: str, fake: FakeModelServer, ask: str, model: str
) -> AsyncIterator[tuple[RunningGateway, Any]]:
    """A gateway that was restarted after it gave an answer under a key, and that answer."""
    settings = gateway_settings(folder, database_url, fake.url)
    async with running_gateway(settings, fake) as gateway:
        answer = await gateway.events(ask, asking(model, idempotencyKey="k"))
    async with running_gateway(settings, fake) as gateway:
        yield gateway, answer


@on_sqlite
async def test_after_a_restart_a_subscription_under_the_key_gives_the_same_events(
    tmp_path: Path, database_url: str, fake: FakeModelServer
):
    async with started_anew(tmp_path, database_url, fake, GENERATE, "fake:count-5") as (gateway, answer):
        again = await gateway.events(GENERATE, asking("fake:count-5", idempotencyKey="k"))
    assert text_of(again) == text_of(answer) == "0 1 2 3 4 "
    assert again[-1] == answer[-1]
    assert len(fake.requests) == 1


@pytest.mark.parametrize("model", ["fake:count-5", "fake:error-3", "fake:status-500"])
async def test_after_a_restart_a_mutation_under_the_key_gives_the_same_answer(
    tmp_path: Path, sqlite_url: str, fake: FakeModelServer, model: str
):
    settings = gateway_settings(tmp_path, sqlite_url, fake.url)
    answers: list[Any] = []
    for _ in range(2):
        async with running_gateway(settings, fake) as gateway:
            answers.append((await gateway.run(COMPLETE, asking(model, idempotencyKey="k")))["generate"])
    assert answers[0] == answers[1]
    assert len(fake.requests) == 1


async def test_without_a_key_the_text_is_not_kept_in_the_database(
    tmp_path: Path, sqlite_url: str, fake: FakeModelServer
):
    async with running_gateway(gateway_settings(tmp_path, sqlite_url, fake.url), fake) as gateway:
        await gateway.run(COMPLETE, asking("fake:count-5"))
        async with gateway.database.reading() as session:
            assert await session.scalar(select(Transcript)) is None


async def test_another_request_under_the_key_is_refused(gateway: RunningGateway):
    await start(gateway)
    refused = await start(gateway, prompt={"text": "something else"})
    assert (refused["code"], refused_field(refused)) == ("IDEMPOTENCY_KEY_REUSED", "idempotencyKey")


@pytest.mark.parametrize("key", ["", "x" * 256, "a\0b"])
async def test_a_key_that_cannot_be_one_is_refused(gateway: RunningGateway, key: str):
    assert refused_field(await start(gateway, idempotencyKey=key)) == "idempotencyKey"


async def test_a_key_is_its_principals_own(gateway: RunningGateway):
    first = await start(gateway)
    await gateway.make_user("other")
    await gateway.sign_in("other")
    second = await start(gateway)
    gateway.token = (await gateway.make_key(scopes=["GENERATIONS_WRITE"]))["secret"]
    third = await start(gateway)
    assert len({each["generation"]["id"] for each in (first, second, third)}) == 3


async def test_a_key_may_be_used_again_after_a_day(emptied_gateway_on_each_database: RunningGateway):
    first = await start(emptied_gateway_on_each_database)
    async with emptied_gateway_on_each_database.database.transaction() as tx:
        await tx.execute(update(IdempotencyKey).values(created_at=now() - timedelta(days=1)))
    second = await start(emptied_gateway_on_each_database, prompt={"text": "something else"})
    assert first["generation"]["id"] != second["generation"]["id"]


@on_postgresql
async def test_sixteen_at_once_at_two_gateways_are_one(
    tmp_path: Path, database_url: str, fake: FakeModelServer, valkey: ValkeyServer
):
    ids: set[str] = set()
    async with gateways(2, tmp_path, database_url, fake, valkey) as (one, other):

        async def ask(gateway: RunningGateway) -> None:
            answer = await start(gateway)
            assert "generation" in answer, answer
            ids.add(answer["generation"]["id"])

        other.token = one.token
        async with anyio.create_task_group() as tasks:
            for _ in range(8):
                tasks.start_soon(ask, one)
                tasks.start_soon(ask, other)
    assert len(ids) == 1
    assert len(fake.requests) <= 1
