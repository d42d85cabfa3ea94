"""What may be kept of prompts and answers: the least of what the setting, the key and the request allow."""

import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import delete

from auth.principal import ContentPolicy, strictest
from db.tables import Generation
from tests.support.databases import SqliteDatabases
from tests.support.fake_model_server import running_fake_model_server
from tests.support.gateways import (
    EVERY_MODEL,
    GraphQLErrors,
    Json,
    RunningGateway,
    gateway_settings,
    refused_field,
    running_gateway,
)
from tests.support.generations import COMPLETE, WATCH, asking
from tests.test_kept_input import everything_kept
from tests.test_key_places import UPDATE

ASKED, ANSWERED = "lighthouse-keeper", "seven-green-bottles"
"""What stands in the system message alone, and what the model repeats."""

LOOK = """
query($id: ID!) { generation(id: $id) {
  text textExpiresAt contentPolicy input { model } error { code message } attempts { error { message } }
} }
"""


@pytest.fixture(scope="module")
async def shared_keeping(
    sqlite_databases: SqliteDatabases, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[RunningGateway]:
    """A gateway that keeps all it may, for an hour."""
    folder = tmp_path_factory.mktemp("policy")
    with sqlite_databases.fresh(folder) as url:
        async with running_fake_model_server() as fake:
            fake.models += EVERY_MODEL
            settings = gateway_settings(folder, url, fake.url, text_retention=3600)
            async with running_gateway(settings, fake) as gateway:
                yield gateway


@pytest.fixture
async def keeping(shared_keeping: RunningGateway) -> RunningGateway:
    """The same, with its administrator signed in and no generations."""
    await shared_keeping.be_administrator()
    async with shared_keeping.database.transaction() as tx:
        await tx.execute(delete(Generation))
    return shared_keeping


async def ask(gateway: RunningGateway, policy: str | None, **input: object) -> str:
    """Let the model repeat something, and give the generation's id."""
    asked = asking("fake:echo", ANSWERED, system=ASKED, contentPolicy=policy, **input)
    answer = (await gateway.run(COMPLETE, asked))["generate"]
    assert ANSWERED in answer["text"]
    return answer["generation"]["id"]


async def look(gateway: RunningGateway, generation: str) -> Json:
    return (await gateway.run(LOOK, {"id": generation}))["generation"]


async def kept(gateway: RunningGateway) -> list[bool]:
    """Whether prompt and answer are in the tables; where they are not, they are nowhere in the files either."""
    found = await everything_kept(gateway.database)
    marks = [ASKED.encode(), ANSWERED.encode()]
    files = b"".join(path.read_bytes() for path in Path(gateway.database.place).parent.glob("*.db*"))
    assert files
    assert not [mark for mark in marks if mark in files and mark not in found]
    return [mark in found for mark in marks]


@given(st.lists(st.none() | st.sampled_from(ContentPolicy)))
def test_the_strictest_wins(policies: list[ContentPolicy | None]):
    order = [ContentPolicy.NOTHING, ContentPolicy.ANSWERS, ContentPolicy.ALL]
    assert strictest(policies) is next((it for it in order if it in policies), ContentPolicy.ALL)


def test_what_another_version_wrote_keeps_nothing():
    assert ContentPolicy.read("SUMMARIES") is ContentPolicy.NOTHING
    assert ContentPolicy.read(None) is ContentPolicy.ALL


@pytest.mark.parametrize(
    ("key", "request_", "policy", "prompt", "answer"),
    [
        (None, None, "ALL", True, True),
        (None, "ANSWERS", "ANSWERS", False, True),
        ("ANSWERS", "ALL", "ANSWERS", False, True),
        ("ANSWERS", "NOTHING", "NOTHING", False, False),
        ("NOTHING", "ALL", "NOTHING", False, False),
    ],
)
async def test_a_key_and_a_request_can_only_keep_less(
    keeping: RunningGateway,
    caplog: pytest.LogCaptureFixture,
    key: str | None,
    request_: str | None,
    policy: str,
    prompt: bool,
    answer: bool,
):
    caplog.set_level(logging.DEBUG)
    made = await keeping.make_key(contentPolicy=key)
    keeping.token = made["secret"]
    generation = await ask(keeping, request_)
    shown = await look(keeping, generation)
    assert shown["contentPolicy"] == policy
    assert ANSWERED in shown["text"]  # the stream log has it, whatever the database keeps
    assert (shown["input"] is not None, shown["textExpiresAt"] is not None) == (prompt, answer)
    assert await kept(keeping) == [prompt, answer]
    assert [mark for mark in (ASKED, ANSWERED) if mark in caplog.text] == []


async def test_the_setting_is_the_most_that_is_kept(sqlite_url: str, tmp_path: Path):
    async with running_fake_model_server() as fake:
        settings = gateway_settings(tmp_path, sqlite_url, fake.url, text_retention=3600, content_policy="nothing")
        async with running_gateway(settings, fake) as gateway:
            generation = await ask(gateway, "ALL", idempotencyKey="one", onBackendLoss="CONTINUE")
            assert await ask(gateway, "ALL", idempotencyKey="one", onBackendLoss="CONTINUE") == generation
            assert (await look(gateway, generation))["contentPolicy"] == "NOTHING"
            again = await gateway.events(WATCH, {"id": generation})
            assert ANSWERED in "".join(event.get("text", "") for event in again)
            assert await kept(gateway) == [False, False]


async def test_where_nothing_is_kept_a_failure_has_a_code_and_no_message(keeping: RunningGateway):
    messages: list[str] = []
    for policy in ("NOTHING", "ANSWERS"):
        answer = (await keeping.run(COMPLETE, asking("fake:error-3", contentPolicy=policy)))["generate"]
        [row] = (await keeping.run("{ generations(first: 1) { nodes { id } } }"))["generations"]["nodes"]
        shown = await look(keeping, row["id"])
        assert shown["error"]["code"] == answer["code"]
        assert shown["attempts"][0]["error"]["message"] == shown["error"]["message"]
        messages += [answer["message"], shown["error"]["message"]]
    live, recorded, live_too, recorded_too = messages
    assert "content policy" in recorded
    assert live == live_too == recorded_too


async def test_a_key_grants_no_key_that_keeps_more(keeping: RunningGateway):
    scopes = ["KEYS_WRITE", "KEYS_READ"]
    strict = await keeping.make_key(scopes=scopes, contentPolicy="ANSWERS")
    loose = await keeping.make_key(scopes=scopes)
    keeping.token = strict["secret"]
    refused = await keeping.make_key(scopes=scopes, contentPolicy="ALL")
    assert refused_field(refused) == "contentPolicy"
    child = await keeping.make_key(scopes=scopes)
    update = {"id": child["apiKey"]["id"], "contentPolicy": "NOTHING"}
    changed = await keeping.run(UPDATE.replace("apiKey {", "apiKey { contentPolicy"), {"input": update})
    assert changed["updateApiKey"]["apiKey"]["contentPolicy"] == "NOTHING"
    update["contentPolicy"] = None
    changed = await keeping.run(UPDATE.replace("apiKey {", "apiKey { contentPolicy"), {"input": update})
    assert changed["updateApiKey"]["apiKey"]["contentPolicy"] == "ANSWERS"
    other = {"input": {"id": loose["apiKey"]["id"], "name": "x"}}
    with pytest.raises(GraphQLErrors, match="allows more"):
        await keeping.run(UPDATE, other)
