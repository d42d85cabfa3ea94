"""The texts of many generations in one answer: priced, read together, and bounded."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine

from gateway.errors import TooMuchText
from gateway.generation.output import Output
from schema.generation import READ_FROM_THE_LOG
from schema.node import parse_uuid
from tests.support.databases import on_sqlite
from tests.support.fake_model_server import FakeModelServer, Script
from tests.support.gateways import GraphQLErrors, Json, RunningGateway, gateway_settings, running_gateway
from tests.support.generations import COMPLETE, WATCH, asking, start
from tests.support.polling import pause
from tests.support.shared.gateways import as_new, sharing

TEXT = "0 1 2 "
"""What fake:count-3 says."""

LONG = "x" * 400
ALIASED = "{ " + " ".join(f"a{number}: generations(first: 100) {{ nodes {{ text }} }}" for number in range(10)) + " }"


shared_narrow = sharing(max_answer_text=1_000)


@pytest.fixture
async def narrow(shared_narrow: RunningGateway) -> RunningGateway:
    """A gateway whose answers hold a thousand characters of text, as new."""
    return await as_new(shared_narrow)


@pytest.fixture
def gateway(emptied_gateway: RunningGateway) -> RunningGateway:
    """One for all tests here, emptied before each of them."""
    return emptied_gateway


async def say(gateway: RunningGateway, count: int, prompt: str = LONG) -> None:
    """So many generations, each of which says the prompt."""
    for _ in range(count):
        await gateway.run(COMPLETE, {"input": {"model": "fake:echo", "prompt": {"text": prompt}}})


async def ask(gateway: RunningGateway, query: str) -> Json:
    return (await gateway.post(query)).json()


async def test_the_texts_of_many_pages_cost_too_much(shared_gateway: RunningGateway):
    with pytest.raises(GraphQLErrors) as refusal:
        await shared_gateway.run(ALIASED)
    cost = refusal.value.errors[0]["extensions"]["cost"]
    assert cost == 10 * (1 + 100 * (1 + int(READ_FROM_THE_LOG.weight)))


async def test_an_answer_holds_so_many_characters_of_text_and_no_more(narrow: RunningGateway):
    await say(narrow, 4)
    response = await ask(narrow, "{ generations { nodes { id text } } }")
    nodes = response["data"]["generations"]["nodes"]
    assert [node["text"] is not None for node in nodes] == [True, True, False, False]
    assert all(node["id"] for node in nodes)
    for error in response["errors"]:
        assert error["extensions"]["code"] == "LIMIT_EXCEEDED"
        assert "OLLAGRAPH_MAX_ANSWER_TEXT" in error["message"]
        assert "Request fewer" in error["message"]


async def test_a_text_counts_as_often_as_the_answer_holds_it(narrow: RunningGateway):
    await say(narrow, 1)
    response = await ask(narrow, "{ generations { nodes { a: text b: text c: text } } }")
    [node] = response["data"]["generations"]["nodes"]
    assert (node["a"], node["b"], node["c"]) == (LONG, LONG, None)


async def test_the_text_of_an_answer_just_given_counts_too(narrow: RunningGateway):
    query = "mutation($input: GenerateInput!) { generate(input: $input) { ... on GenerateSuccess { %s } } }"
    variables = {"input": {"model": "fake:echo", "prompt": {"text": LONG}}}
    aliases = " ".join(f"a{number}: text" for number in range(3))
    response = (await narrow.post(query % aliases, variables)).json()
    assert {error["extensions"]["code"] for error in response["errors"]} == {"LIMIT_EXCEEDED"}
    assert (await narrow.post(query % "text", variables)).json()["data"]["generate"] == {"text": LONG}


async def test_each_operation_has_room_of_its_own(narrow: RunningGateway):
    await say(narrow, 2)
    for _ in range(3):
        assert "errors" not in await ask(narrow, "{ generations { nodes { text } } }")


@contextmanager
def looks() -> Iterator[list[str]]:
    """The statements within the block that read kept text."""
    asked: list[str] = []

    def note(conn: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
        if statement.startswith("SELECT") and "transcripts" in statement:
            asked.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield asked
    finally:
        event.remove(Engine, "before_cursor_execute", note)


@on_sqlite
async def test_the_texts_that_the_log_has_no_more_are_looked_up_together(
    database_url: str, tmp_path: Path, fake: FakeModelServer
):
    kept = {"text_retention": 3600, "stream_memory": 0}
    counts: list[int] = []
    async with running_gateway(gateway_settings(tmp_path, database_url, fake.url, **kept), fake) as gateway:
        for more in (1, 5):
            for _ in range(more):
                await gateway.run(COMPLETE, asking("fake:count-3"))
            with looks() as asked:
                data = await gateway.run("{ generations { nodes { a: text b: text } } }")
            counts.append(len(asked))
            assert {node[key] for node in data["generations"]["nodes"] for key in "ab"} == {TEXT}
    assert counts == [1, 1]


async def test_a_text_that_nobody_keeps_is_null_beside_one_that_still_comes(
    sqlite_url: str, tmp_path: Path, fake: FakeModelServer
):
    settings = gateway_settings(tmp_path, sqlite_url, fake.url, stream_memory=0)
    async with running_gateway(settings, fake) as gateway:
        await say(gateway, 2, "hello")
        await start(gateway, "fake:hold-3")
        data = await gateway.run("{ generations { nodes { text } } }")
        assert [node["text"] for node in data["generations"]["nodes"]] == ["", None, None]
        fake.release()


async def test_no_more_is_read_than_there_is_room_for(narrow: RunningGateway):
    await say(narrow, 3)
    nodes = (await narrow.run("{ generations { nodes { id } } }"))["generations"]["nodes"]
    ids = [parse_uuid(node["id"], "Generation") for node in nodes]
    outputs = await narrow.app.running.service.generations.outputs(ids, 500)
    assert [type(text) for text in outputs] == [Output, Output, TooMuchText]


WHOLE = "{ generations { nodes { text thinking toolCalls { callId name arguments } lastSequence textExpiresAt } } }"


async def test_thinking_and_tool_calls_are_read_with_the_text(gateway: RunningGateway):
    gateway.fake.scripts["all"] = Script(["a", "b"], thinking=["hm"], tool_calls=[("look", {"x": 1})])
    gateway.fake.models.append("all")
    tools = [{"name": "look", "description": "Looks.", "parameters": {"type": "object"}}]
    await gateway.run(COMPLETE, asking("all", tools=tools))
    [node] = (await gateway.run(WHOLE))["generations"]["nodes"]
    assert (node["text"], node["thinking"]) == ("ab", "hm")
    [call] = node["toolCalls"]
    assert (call["name"], call["arguments"]) == ("look", {"x": 1})
    assert node["textExpiresAt"] is None


async def test_a_poller_goes_over_to_watching_without_a_gap(gateway: RunningGateway):
    id = await start(gateway, "fake:stall-5")
    look = "query($id: ID!) { generation(id: $id) { text lastSequence onDisconnect onBackendLoss } }"
    seen: Json = {"text": ""}
    while seen["text"] != "0 1 2 3 4 ":
        await pause()
        seen = (await gateway.run(look, {"id": id}))["generation"]
    assert (seen["onDisconnect"], seen["onBackendLoss"]) == ("CANCEL", "FAIL")
    gateway.fake.release()
    rest = await gateway.events(WATCH, {"id": id, "after": seen["lastSequence"]})
    assert [event["__typename"] for event in rest] == ["GenerationCompleted"]
    assert rest[0]["sequence"] == seen["lastSequence"] + 1


async def test_it_is_told_until_when_the_database_keeps_a_text(sqlite_url: str, tmp_path: Path, fake: FakeModelServer):
    async with running_gateway(gateway_settings(tmp_path, sqlite_url, fake.url, text_retention=3600), fake) as gateway:
        await gateway.run(COMPLETE, asking("fake:count-3"))
        [node] = (await gateway.run("{ generations { nodes { textExpiresAt finishedAt } } }"))["generations"]["nodes"]
    kept = datetime.fromisoformat(node["textExpiresAt"]) - datetime.fromisoformat(node["finishedAt"])
    assert abs(kept - timedelta(hours=1)) < timedelta(minutes=1)
