"""Queries and mutations that take too long are ended, and what waits for a model is not one of them."""

from collections.abc import Iterator
from contextlib import contextmanager

import anyio
import pytest

from tests.support.gateways import CREATE_KEY, GraphQLErrors, Json, RunningGateway
from tests.support.generations import COMPLETE, asking

KEY = {"input": {"name": "key"}}


@contextmanager
def hasty(gateway: RunningGateway) -> Iterator[None]:
    """Within the block nothing may take long."""
    usual, gateway.executor.query_timeout = gateway.executor.query_timeout, 0.1
    try:
        yield
    finally:
        gateway.executor.query_timeout = usual


async def test_a_mutation_that_takes_too_long_is_ended_and_changes_nothing(gateway: RunningGateway):
    async with gateway.database.transaction():  # nobody else can write meanwhile
        with hasty(gateway), pytest.raises(GraphQLErrors, match=r"took longer than 0\.1 s") as refusal:
            await gateway.run(CREATE_KEY, KEY)
    assert refusal.value.code == "TIMEOUT"
    assert (await gateway.run("{ me { apiKeys { id } } }"))["me"]["apiKeys"] == []


async def test_it_is_ended_over_a_websocket_too(gateway: RunningGateway):
    async with gateway.database.transaction(), gateway.connect() as socket:
        with hasty(gateway):
            await socket.subscribe(CREATE_KEY, KEY)
            assert (await socket.receive())["payload"]["errors"][0]["extensions"]["code"] == "TIMEOUT"
        assert (await socket.receive())["type"] == "complete"


async def test_a_whole_answer_may_take_as_long_as_its_model(gateway: RunningGateway):
    answers: list[Json] = []

    async def generate() -> None:
        answers.append((await gateway.run(COMPLETE, asking("fake:stall-3")))["generate"])

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(generate)
        await gateway.fake.request()
        async with gateway.database.transaction():
            with hasty(gateway), pytest.raises(GraphQLErrors, match="took longer"):
                await gateway.run(CREATE_KEY, KEY)
        gateway.fake.release()
    assert answers[0]["__typename"] == "GenerateSuccess"
