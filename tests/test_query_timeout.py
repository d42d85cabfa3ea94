"""Queries and mutations that take too long are ended, and what waits for a model is not one of them."""

from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from tests.fake_model_server import FakeModelServer
from tests.gateways import CREATE_KEY, GraphQLErrors, Json, RunningGateway, gateway_settings, running_gateway
from tests.generations import COMPLETE, asking

KEY = {"input": {"name": "key"}}


@pytest.fixture
async def hasty(tmp_path: Path, sqlite_url: str, fake: FakeModelServer) -> AsyncIterator[RunningGateway]:
    async with running_gateway(gateway_settings(tmp_path, sqlite_url, fake.url, query_timeout=0.1), fake) as gateway:
        yield gateway


async def test_a_mutation_that_takes_too_long_is_ended_and_changes_nothing(hasty: RunningGateway):
    async with hasty.database.transaction():  # nobody else can write meanwhile
        with pytest.raises(GraphQLErrors, match=r"took longer than 0\.1 s") as refusal:
            await hasty.run(CREATE_KEY, KEY)
    assert refusal.value.code == "TIMEOUT"
    assert (await hasty.run("{ me { apiKeys { id } } }"))["me"]["apiKeys"] == []


async def test_it_is_ended_over_a_websocket_too(hasty: RunningGateway):
    async with hasty.database.transaction(), hasty.connect() as socket:
        await socket.subscribe(CREATE_KEY, KEY)
        assert (await socket.receive())["payload"]["errors"][0]["extensions"]["code"] == "TIMEOUT"
        assert (await socket.receive())["type"] == "complete"


async def test_a_whole_answer_may_take_as_long_as_its_model(hasty: RunningGateway):
    answers: list[Json] = []

    async def generate() -> None:
        answers.append((await hasty.run(COMPLETE, asking("fake:stall-3")))["generate"])

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(generate)
        await hasty.fake.request()
        async with hasty.database.transaction():
            with pytest.raises(GraphQLErrors, match="took longer"):
                await hasty.run(CREATE_KEY, KEY)
        hasty.fake.release()
    assert answers[0]["__typename"] == "GenerateSuccess"
