"""One statement for many rows: what a nested query costs does not grow with what it finds."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import event, select
from sqlalchemy.engine import Engine

from db.clock import new_id, now
from db.tables import ApiKey, Generation, Table, User
from server.logs.requests import NO_REQUEST, RequestLine, current
from tests.support.gateways import ADMIN, RunningGateway

NESTED = """
{
  me { username apiKeys { name user { username apiKeys { prefix } } } }
  generations(first: 50) { nodes {
    modelName attempts { backend } model { name } apiKey { name user { username } } user { username apiKeys { name } }
  } }
  usage(input: {groupBy: [API_KEY, USER]}) { rows { nodes { user { username } apiKey { name user { username } } } } }
}
"""


TABLE = re.compile(r"\b(?:FROM|JOIN|INTO|UPDATE)\s+(\w+)")


@contextmanager
def statements() -> Iterator[list[str]]:
    """What requests, and the block itself, ask of our tables.

    A gateway asks for more at its own times, which is of no request, and a driver for other things: when it opens a
    connection is nobody's choice.
    """
    asked: list[str] = []

    def note(conn: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
        if current.get() is not NO_REQUEST and set(TABLE.findall(statement)) & Table.metadata.tables.keys():
            asked.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    token = current.set(RequestLine("a test"))
    try:
        yield asked
    finally:
        current.reset(token)
        event.remove(Engine, "before_cursor_execute", note)


async def write_rows(gateway: RunningGateway, count: int) -> None:
    """As many keys of the administrator's, each with a generation."""
    async with gateway.database.transaction() as tx:
        user_id = await tx.scalar(select(User.id).where(User.username == ADMIN))
        assert user_id is not None
        for number in range(count):
            key = ApiKey(id=new_id(), user_id=user_id, name="k", prefix="olg_", secret_hash=new_id().hex, scopes=[])
            tx.add(key)
            await tx.flush()
            tx.add(
                Generation(
                    id=new_id(),
                    user_id=user_id,
                    api_key_id=key.id,
                    model=["fake:echo", "fake:count-3"][number % 2],
                    backend="ollama",
                    state="COMPLETED",
                    on_disconnect="CONTINUE",
                    created_at=now(),
                    finished_at=now(),  # else the gateway takes it over, at a time of its own
                )
            )


@pytest.mark.parametrize("selection", [NESTED, "{ generations(first: 100) { nodes { apiKey { name } } } }"])
async def test_the_statements_of_a_nested_query_do_not_grow_with_the_rows(
    emptied_gateway_on_each_database: RunningGateway, selection: str
):
    gateway = emptied_gateway_on_each_database
    gateway.limit_documents(cost=100_000)
    counts: list[int] = []
    for more in (1, 5, 40):
        await write_rows(gateway, more)
        with statements() as asked:
            await gateway.run(selection)
        counts.append(len(asked))
    assert counts[0] > 1
    assert counts[1:] == counts[:1] * 2


async def test_all_rows_of_a_nested_query_are_found(gateway: RunningGateway):
    gateway.limit_documents(cost=100_000)
    await write_rows(gateway, 46)
    data = await gateway.run(NESTED)
    assert len(data["me"]["apiKeys"]) == 46
    nodes = data["generations"]["nodes"]
    assert len(nodes) == 46
    assert {node["model"]["name"] for node in nodes} == {"fake:echo", "fake:count-3"}
    assert {len(node["user"]["apiKeys"]) for node in nodes} == {46}


async def test_the_models_of_many_generations_are_asked_for_once(gateway: RunningGateway):
    await write_rows(gateway, 20)
    gateway.fake.asked.clear()
    await gateway.run("{ generations(first: 100) { nodes { model { name } } } }")
    assert list(gateway.fake.asked).count("GET /api/tags") <= 1


async def test_two_operations_on_one_socket_share_nothing_that_was_loaded(gateway: RunningGateway):
    names = "{ me { apiKeys { name } } }"
    async with gateway.connect() as socket:
        await socket.subscribe(names)
        assert [event async for event in socket.events()] == [{"apiKeys": []}]
        await gateway.make_key("new")
        await socket.subscribe(names)
        assert [event async for event in socket.events()] == [{"apiKeys": [{"name": "new"}]}]
