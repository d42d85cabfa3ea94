"""The same request under the same key is one generation, also when it comes fifty times at once at two gateways."""

from pathlib import Path
from typing import Any

import anyio
import pytest
from sqlalchemy import update

from db.tables import IdempotencyKey, now
from gateway.idempotency import KEY_LIFETIME
from tests.fake_model_server import FakeModelServer
from tests.gateways import RunningGateway
from tests.generations import COMPLETE, GENERATE, START, asking, text_of
from tests.test_replicas import gateways
from tests.valkeys import ValkeyServer

START_FIELD = START.replace("... on Error", "... on InvalidInput { field } ... on Error")


async def start(gateway: RunningGateway, model: str = "fake:count-3", **fields: Any) -> dict[str, Any]:
    asked = asking(model, idempotencyKey="k", onDisconnect="CONTINUE") | {}
    return (await gateway.run(START_FIELD, {"input": asked["input"] | fields}))["startGeneration"]


async def test_the_same_key_starts_nothing_new(gateway_on_each_database: RunningGateway):
    first, second = await start(gateway_on_each_database), await start(gateway_on_each_database)
    assert first["generation"]["id"] == second["generation"]["id"]
    assert len(gateway_on_each_database.fake.requests) <= 1


async def test_a_subscription_under_the_key_watches_what_it_started(gateway: RunningGateway):
    first = await gateway.events(GENERATE, asking("fake:count-3", idempotencyKey="k"))
    second = await gateway.events(GENERATE, asking("fake:count-3", idempotencyKey="k"))
    assert text_of(second) == text_of(first) == "0 1 2 "
    assert len(gateway.fake.requests) == 1


async def test_a_mutation_under_the_key_gives_the_same_answer(gateway: RunningGateway):
    answers = [(await gateway.run(COMPLETE, asking("fake:count-3", idempotencyKey="k")))["generate"] for _ in range(2)]
    assert answers[0] == answers[1]
    assert answers[0]["text"] == "0 1 2 "


async def test_another_request_under_the_key_is_refused(gateway: RunningGateway):
    await start(gateway)
    refused = await start(gateway, prompt="something else")
    assert (refused["code"], refused["field"]) == ("IDEMPOTENCY_KEY_REUSED", "idempotencyKey")


@pytest.mark.parametrize("key", ["", "x" * 256, "a\0b"])
async def test_a_key_that_cannot_be_one_is_refused(gateway: RunningGateway, key: str):
    assert (await start(gateway, idempotencyKey=key))["field"] == "idempotencyKey"


async def test_a_key_is_its_principals_own(gateway: RunningGateway):
    first = await start(gateway)
    await gateway.make_user("other")
    await gateway.sign_in("other")
    second = await start(gateway)
    gateway.token = (await gateway.make_key(scopes=["GENERATIONS_WRITE"]))["secret"]
    third = await start(gateway)
    assert len({each["generation"]["id"] for each in (first, second, third)}) == 3


async def test_a_key_may_be_used_again_after_a_day(gateway_on_each_database: RunningGateway):
    first = await start(gateway_on_each_database)
    async with gateway_on_each_database.database.transaction() as tx:
        await tx.execute(update(IdempotencyKey).values(created_at=now() - KEY_LIFETIME))
    second = await start(gateway_on_each_database, prompt="something else")
    assert first["generation"]["id"] != second["generation"]["id"]


async def test_fifty_at_once_at_two_gateways_are_one(
    tmp_path: Path, database_url: str, fake: FakeModelServer, valkey: ValkeyServer
):
    ids: set[str] = set()
    async with gateways(2, tmp_path, database_url, fake, valkey) as (one, other):

        async def ask(gateway: RunningGateway) -> None:
            ids.add((await start(gateway))["generation"]["id"])

        other.token = one.token
        async with anyio.create_task_group() as tasks:
            for _ in range(25):
                tasks.start_soon(ask, one)
                tasks.start_soon(ask, other)
    assert len(ids) == 1
    assert len(fake.requests) <= 1
