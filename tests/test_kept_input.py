"""What was asked is kept beside the answer where the operator wants it, as a whole, and else not a byte of it."""

import base64
import logging
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
from sqlalchemy import delete, event, select, text, update
from sqlalchemy.engine import Engine
from sqlalchemy.exc import IntegrityError

from db import queries
from db.clock import new_id, now
from db.engine import Database
from db.tables import Generation, Table, Transcript, User
from gateway.errors import TooMuchText
from gateway.generation import KeptInput
from gateway.generation.record import pack_input
from gateway.generation.request import GenerationRequest
from schema.node import parse_uuid
from tests.support.databases import PostgresqlDatabases, on_postgresql
from tests.support.fake_model_server import FakeModelServer, running_fake_model_server
from tests.support.gateways import (
    ADMIN,
    EVERY_MODEL,
    GraphQLErrors,
    Json,
    RunningGateway,
    gateway_settings,
    running_gateway,
)
from tests.support.generations import COMPLETE, WATCH, asking, cancel, none_runs, start
from tests.support.valkeys import ValkeyServer
from tests.support.wire_requests import PHOTO, PIXEL
from tests.test_accounts import make, mutate
from tests.test_replicas import gateways

MARK = "a word that stands nowhere else"
MARKED_IMAGE = base64.b64encode(b"\x89PNG\r\n\x1a\n" + MARK.encode()).decode()

INPUT = """
  model thinking
  messages {
    role text toolCallId toolName thinking
    parts { text image { mediaType sizeBytes sha256 base64 } }
    toolCalls { callId name arguments }
  }
  options {
    temperature topP topK minP maxTokens seed stop contextLength presencePenalty frequencyPenalty repeatPenalty
  }
  format { jsonObject jsonSchema regex grammar choice }
  tools { name description parameters }
  toolChoice { mode name }
"""
LOOK = f"query($id: ID!) {{ generation(id: $id) {{ state text textExpiresAt input {{ {INPUT} }} }} }}"
LAST = f"{{ generations(first: 1) {{ nodes {{ id text textExpiresAt input {{ {INPUT} }} }} }} }}"

SCHEMA = {"type": "object", "properties": {"answer": {"type": "string"}}}
OPTIONS: Json = {
    "temperature": 0.0,
    "topP": 0.9,
    "topK": 40,
    "minP": 0.05,
    "maxTokens": 64,
    "seed": 0,
    "stop": ["END", "\n"],
    "contextLength": 4096,
    "presencePenalty": 0.5,
    "frequencyPenalty": -0.5,
    "repeatPenalty": 1.1,
}
TOOLS = [{"name": "weather", "description": "Tells it.", "parameters": SCHEMA}]
CALL = {"callId": "call_7", "name": "weather", "arguments": {"city": "Köln"}}
MESSAGES: list[Json] = [
    {"role": "DEVELOPER", "text": ""},
    {
        "role": "USER",
        "parts": [{"image": {"base64": PIXEL}}, {"text": "What \U0001f600?"}, {"image": {"base64": PHOTO}}],
    },
    {"role": "ASSISTANT", "thinking": "Hmm.", "toolCalls": [CALL]},
    {"role": "TOOL", "text": "sunny", "toolCallId": "call_7", "toolName": "weather"},
    {"role": "USER", "parts": [{"image": {"base64": f"data:image/png;base64,{PIXEL}"}}]},
]
EVERYTHING: Json = {
    "model": "FAKE:count-3",
    "prompt": {"messages": MESSAGES},
    "system": "Be brief.",
    "options": OPTIONS,
    "format": {"jsonSchema": SCHEMA},
    "tools": TOOLS,
    "toolChoice": {"mode": "AUTO"},
    "thinking": "LOW",
}


@pytest.fixture(scope="module")
def keeping_url(postgresql_databases: PostgresqlDatabases) -> Iterator[str]:
    """A PostgreSQL database, the stricter of the two kinds about bytes and JSON, for all tests of the module."""
    with postgresql_databases.fresh() as url:
        yield url


@pytest.fixture(scope="module")
async def shared_keeping(keeping_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningGateway]:
    """A gateway over it that keeps both sides for an hour."""
    async with running_fake_model_server() as fake:
        settings = gateway_settings(tmp_path_factory.mktemp("keeping"), keeping_url, fake.url, text_retention=3600)
        async with running_gateway(settings, fake) as gateway:
            yield gateway


@pytest.fixture
async def keeping(shared_keeping: RunningGateway) -> RunningGateway:
    """The same, with its administrator signed in and nothing kept."""
    shared_keeping.fake.reset()
    shared_keeping.fake.models += EVERY_MODEL
    await shared_keeping.sign_in()
    async with shared_keeping.database.transaction() as tx:
        await tx.execute(delete(Generation))
    return shared_keeping


@pytest.fixture
async def keeping_little(sqlite_url: str, tmp_path: Path, fake: FakeModelServer) -> AsyncIterator[RunningGateway]:
    """A gateway that keeps both sides, and whose answers hold 10,000 characters."""
    settings = gateway_settings(tmp_path, sqlite_url, fake.url, text_retention=3600, max_answer_text=10_000)
    async with running_gateway(settings, fake) as gateway:
        yield gateway


def without_nulls(value: Any) -> Any:
    """What a client sends again of what it got: fields that are null left out."""
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None and item != []}
    return [without_nulls(item) for item in value] if isinstance(value, list) else value


@contextmanager
def statements(*kinds: str) -> Iterator[list[str]]:
    """The statements of these kinds within the block that are about what is kept."""
    asked: list[str] = []

    def note(conn: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
        if statement.startswith(kinds) and "transcripts" in statement:
            asked.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield asked
    finally:
        event.remove(Engine, "before_cursor_execute", note)


async def everything_kept(database: Database) -> bytes:
    """All that stands in all tables, with what is compressed in them read."""
    found: list[bytes] = []
    async with database.reading() as session:
        for table in Table.metadata.sorted_tables:
            for row in await session.execute(select(table)):
                for value in row:
                    found.append(value if isinstance(value, bytes) else str(value).encode())
                    if isinstance(value, bytes) and value[:1] == b"\x78":
                        found.append(zlib.decompress(value))
    return b"\n".join(found)


async def test_a_request_comes_back_as_it_was_made_and_can_be_asked_further(keeping: RunningGateway):
    await keeping.run(COMPLETE, {"input": EVERYTHING})
    [node] = (await keeping.run(LAST))["generations"]["nodes"]
    asked = node["input"]
    images = [part.pop("image") for part in asked["messages"][2]["parts"] if part["image"]]
    again = asked["messages"][5]["parts"][0].pop("image")
    assert [image["base64"] for image in (*images, again)] == [PIXEL, PHOTO, PIXEL]
    assert [(image["mediaType"], image["sizeBytes"]) for image in images] == [("image/png", 16), ("image/jpeg", 12)]
    assert images[0]["sha256"] == again["sha256"] != images[1]["sha256"]
    assert without_nulls(asked["messages"]) == [
        {"role": "SYSTEM", "text": "Be brief."},
        {"role": "DEVELOPER", "text": ""},
        {"role": "USER", "parts": [{}, {"text": "What \U0001f600?"}, {}]},
        *MESSAGES[2:4],
        {"role": "USER", "parts": [{}]},
    ]
    assert (asked["model"], asked["options"], asked["tools"]) == ("FAKE:count-3", OPTIONS, TOOLS)
    assert (asked["thinking"], without_nulls(asked["toolChoice"])) == ("LOW", {"mode": "AUTO"})
    assert without_nulls(asked["format"]) == {"jsonObject": False, "jsonSchema": SCHEMA}
    assert node["text"] == "0 1 2 "


async def test_history_can_be_asked_further(keeping: RunningGateway):
    await keeping.run(COMPLETE, asking("fake:count-3", "Count!", system="Be brief."))
    [node] = (await keeping.run(LAST))["generations"]["nodes"]
    messages = [
        *without_nulls(node["input"]["messages"]),
        {"role": "ASSISTANT", "text": node["text"]},
        {"role": "USER", "text": "And on?"},
    ]
    options = without_nulls(node["input"]["options"])
    await keeping.run(
        COMPLETE, {"input": {"model": node["input"]["model"], "prompt": {"messages": messages}, "options": options}}
    )
    sent = keeping.fake.requests[-1].body["messages"]
    assert [(message["role"], message["content"]) for message in sent] == [
        ("system", "Be brief."),
        ("user", "Count!"),
        ("assistant", "0 1 2 "),
        ("user", "And on?"),
    ]


async def test_both_sides_are_there_from_the_start_and_go_together(keeping: RunningGateway):
    id = await start(keeping, "fake:hold-3", onDisconnect="CONTINUE")
    running = (await keeping.run(LOOK, {"id": id}))["generation"]
    assert (running["input"]["messages"][0]["text"], running["textExpiresAt"]) == ("one two three", None)
    await cancel(keeping, id)
    ended = (await keeping.run(LOOK, {"id": id}))["generation"]
    assert ended["input"] == running["input"]
    assert ended["textExpiresAt"] is not None
    async with keeping.database.transaction() as tx:
        await tx.execute(update(Transcript).values(expires_at=now() - timedelta(seconds=1)))
    expired = (await keeping.run(LOOK, {"id": id}))["generation"]
    assert (expired["input"], expired["textExpiresAt"]) == (None, None)
    async with keeping.database.transaction() as tx:
        await queries.transcript.forget_transcripts(tx, now())
        assert await tx.scalar(select(Transcript.generation_id)) is None


async def test_what_got_no_expiry_with_its_end_is_purged_and_what_runs_is_not(keeping: RunningGateway):
    runs = [await start(keeping, "fake:hold-3", onDisconnect="CONTINUE") for _ in range(2)]
    ids = [parse_uuid(id, "Generation") for id in runs]
    async with keeping.database.transaction() as tx:
        await tx.execute(update(Generation).where(Generation.id == ids[0]).values(finished_at=now()))
        await queries.transcript.forget_transcripts(tx, now())
        assert list(await tx.scalars(select(Transcript.generation_id))) == [ids[1]]
    for id in runs:
        await cancel(keeping, id)


async def test_a_deleted_user_takes_both_sides_along(keeping: RunningGateway):
    ada = await make(keeping, "ada")
    await keeping.sign_in("ada")
    await keeping.run(COMPLETE, asking("fake:count-3", MARK))
    assert MARK.encode() in await everything_kept(keeping.database)
    await keeping.sign_in()
    await mutate(keeping, "deleteUser", "user", id=ada)
    assert MARK.encode() not in await everything_kept(keeping.database)


async def test_others_do_not_see_it_but_administrators(keeping: RunningGateway):
    await keeping.make_user("bob")
    await keeping.sign_in("bob")
    id = await start(keeping, "fake:count-3")
    await keeping.make_user("eve")
    await keeping.sign_in("eve")
    assert (await keeping.run(LOOK, {"id": id}))["generation"] is None
    of_node = f"query($id: ID!) {{ node(id: $id) {{ ... on Generation {{ input {{ {INPUT} }} }} }} }}"
    assert (await keeping.run(of_node, {"id": id}))["node"] is None
    await keeping.sign_in()
    assert (await keeping.run(of_node, {"id": id}))["node"]["input"]["model"] == "fake:count-3"


@pytest.mark.parametrize(
    ("database_url", "retention"), [("sqlite", 0), ("postgresql", 0), ("sqlite", 3600)], indirect=["database_url"]
)
async def test_without_retention_no_byte_of_a_prompt_is_in_the_database(
    database_url: str, tmp_path: Path, fake: FakeModelServer, retention: int, caplog: pytest.LogCaptureFixture
):
    """With it the same search finds it, and the log has it in no case; a key keeps the answer alone."""
    parts = [{"text": MARK}, {"image": {"base64": MARKED_IMAGE}}]
    asked = {"model": "fake:count-3", "prompt": {"messages": [{"role": "USER", "parts": parts}]}, "idempotencyKey": "k"}
    settings = gateway_settings(tmp_path, database_url, fake.url, text_retention=retention)
    with caplog.at_level(logging.INFO):
        async with running_gateway(settings, fake) as gateway:
            await gateway.run(COMPLETE, {"input": asked})
            [node] = (await gateway.run(LAST))["generations"]["nodes"]
            kept = await everything_kept(gateway.database)
            async with gateway.database.reading() as session:
                answer = await session.scalar(select(Transcript.events))
            files = b"".join([await file.read_bytes() async for file in anyio.Path(tmp_path).glob("test*.db*")])
    assert answer is not None
    assert kept.count(MARK.encode()) == (2 if retention else 0)
    if database_url.startswith("sqlite"):
        assert (MARK.encode() in files) is bool(retention)
    assert (node["input"] is not None) is bool(retention)
    assert node["textExpiresAt"] is not None
    assert MARK not in caplog.text


async def test_keeping_costs_one_insert_and_not_keeping_nothing(sqlite_url: str, tmp_path: Path, fake: FakeModelServer):
    counts: list[int] = []
    for retention in (0, 3600):
        settings = gateway_settings(tmp_path, sqlite_url, fake.url, text_retention=retention)
        async with running_gateway(settings, fake) as gateway:
            with statements("INSERT", "UPDATE") as asked:
                await gateway.events(WATCH, {"id": await start(gateway, "fake:count-3", onDisconnect="CONTINUE")})
        counts.append(len(asked))
    assert counts == [0, 2]  # the request with the start, the answer with the end


@on_postgresql
async def test_it_is_kept_where_another_gateway_goes_on(
    tmp_path: Path, database_url: str, fake: FakeModelServer, valkey: ValkeyServer
):
    fake.models.append("fake:paced-100-5")
    async with gateways(2, tmp_path, database_url, fake, valkey, text_retention=60) as (one, other):
        id = await start(one, "fake:paced-100-5", onDisconnect="CONTINUE", onBackendLoss="CONTINUE")
        await fake.request()
        one.stop()
        events = await other.events(WATCH, {"id": id})
        kept = (await other.run(LOOK, {"id": id}))["generation"]
    assert "GenerationResumed" in {event["__typename"] for event in events}
    assert kept["input"]["messages"][0]["text"] == "one two three"
    assert kept["text"].endswith("99 ")
    assert kept["textExpiresAt"] is not None


async def test_what_a_dead_gateway_was_asked_is_kept_as_long(keeping: RunningGateway):
    packed = pack_input(GenerationRequest("m", prompt="Are you there?"))
    assert packed is not None
    async with keeping.database.transaction() as tx:
        user_id = await tx.scalar(select(User.id).where(User.username == ADMIN))
        row = Generation(id=new_id(), user_id=user_id, model="m", backend="b", state="RUNNING", on_disconnect="CANCEL")
        tx.add(row)
        await tx.flush()
        tx.add(Transcript(generation_id=row.id, request=packed.request))
    await none_runs(keeping)
    [node] = (await keeping.run(LAST))["generations"]["nodes"]
    assert (node["input"]["messages"][0]["text"], node["textExpiresAt"] is None) == ("Are you there?", False)


async def test_it_costs_what_a_text_costs(shared_gateway: RunningGateway):
    with pytest.raises(GraphQLErrors) as refusal:
        await shared_gateway.run(LAST.replace("first: 1", "first: 100").replace("text ", ""))
    assert refusal.value.errors[0]["extensions"]["cost"] == 1 + 100 * (1 + 10)


async def test_an_answer_holds_so_much_of_it_and_no_more(keeping_little: RunningGateway):
    for _ in range(3):
        await keeping_little.run(COMPLETE, asking("fake:count-3", "x" * 2_000))
    query = "{ generations { nodes { id input { %s } } } }"
    small = (await keeping_little.post(query % "model")).json()
    assert [node["input"] for node in small["data"]["generations"]["nodes"]][:1] == [{"model": "fake:count-3"}]
    whole = (await keeping_little.post(query % "messages { text }")).json()
    nodes = whole["data"]["generations"]["nodes"]
    assert [node["input"] is not None for node in nodes] == [True, False, False]
    assert all(node["id"] for node in nodes)
    assert {error["extensions"]["code"] for error in whole["errors"]} == {"LIMIT_EXCEEDED"}
    often = " ".join(f"a{number}: messages {{ text }}" for number in range(3))
    assert (await keeping_little.post(query % often)).json()["data"]["generations"]["nodes"][0]["input"] is None
    ids = [parse_uuid(node["id"], "Generation") for node in nodes]
    inputs = await keeping_little.app.running.service.generations.inputs(ids, 5_000)
    assert [type(kept) for kept in inputs] == [KeptInput, KeptInput, TooMuchText]


async def test_those_of_a_page_are_read_together_and_images_only_where_they_are_wanted(keeping: RunningGateway):
    message = {"role": "USER", "parts": [{"image": {"base64": PIXEL}}]}
    for _ in range(2):
        await keeping.run(COMPLETE, {"input": {"model": "fake:count-3", "prompt": {"messages": [message]}}})
    query = "{ generations { nodes { input { messages { parts { image { FIELD } } } } } } }"
    for field, count in (("sha256", 1), ("base64", 2)):
        with statements("SELECT") as asked:
            await keeping.run(query.replace("FIELD", field))
        assert len(asked) == count


async def test_an_error_of_the_database_does_not_tell_the_values(database: Database):
    async with database.transaction() as tx:
        with pytest.raises(IntegrityError) as failed:
            await tx.execute(text("INSERT INTO users (id, username) VALUES (:id, :name)"), {"id": None, "name": MARK})
    assert MARK not in f"{failed.value}".split("DETAIL")[0]


async def test_media_that_the_prompt_named_or_sent_are_kept_by_name_or_as_bytes(keeping: RunningGateway):
    blob = (await keeping.client.post("/blobs", content=base64.b64decode(PHOTO), headers=keeping.headers())).json()
    named = {"image": {"blobId": blob["id"]}}
    parts = [named, {"text": "and"}, {"image": {"base64": PIXEL}}]
    await keeping.run(
        COMPLETE, {"input": {"model": "fake:count-3", "prompt": {"messages": [{"role": "USER", "parts": parts}]}}}
    )
    query = "{ generations { nodes { input { messages { parts { text image { FIELDS } } } } } } }"
    fields = "blobId mediaType sizeBytes sha256 base64"
    [node] = (await keeping.run(query.replace("FIELDS", fields)))["generations"]["nodes"]
    kept, _, sent = (part["image"] for part in node["input"]["messages"][0]["parts"])
    assert kept == {
        "blobId": blob["id"],
        "mediaType": "image/jpeg",
        "sizeBytes": blob["size"],
        "sha256": blob["sha256"],
        "base64": None,
    }
    assert (sent["blobId"], sent["base64"]) == (None, PIXEL)
