"""What goes with a user who is deleted, and what stays."""

from pathlib import Path

import anyio
import pytest
from sqlalchemy import func, select

from db.clock import now
from db.tables import (
    ApiKey,
    Blob,
    ExternalAccount,
    Generation,
    GroupMember,
    IdempotencyKey,
    KnownAddress,
    OneTimeLink,
    Session,
    Table,
    Transcript,
    UsageRecord,
    User,
)
from tests.support.databases import on_postgresql, on_sqlite
from tests.support.fake_model_server import FakeModelServer
from tests.support.gateways import GraphQLErrors, RunningGateway, gateway_settings, running_gateway
from tests.test_accounts import can_sign_in, make, mutate

START = """
mutation($input: GenerateInput!) { startGeneration(input: $input) {
  ... on StartGenerationSuccess { generation { id } } ... on UserError { message }
} }
"""
GENERATE = """
mutation($input: GenerateInput!) { generate(input: $input) {
  ... on GenerateSuccess { generation { id } } ... on UserError { message }
} }
"""
ALL = "query($ids: [ID!]!) { usage(input: {filter: {userIds: $ids}}) { totals { generations completionTokens } } }"
READ = """
query($id: ID!) { node(id: $id) { ... on Generation { state text usage { completionTokens } user { username } } } }
"""


@pytest.fixture
async def keeping(database_url: str, tmp_path: Path, fake: FakeModelServer):
    """A gateway on each database that keeps prompts and answers."""
    settings = gateway_settings(tmp_path, database_url, fake.url, text_retention=3600)
    async with running_gateway(settings, fake) as gateway:
        yield gateway


async def count(gateway: RunningGateway, table: type[Table], *where: object) -> int:
    async with gateway.database.reading() as session:
        return await session.scalar(select(func.count()).select_from(table).where(*where)) or 0  # pyright: ignore


async def test_the_ledger_is_the_same_before_and_after_and_the_rest_is_gone(keeping: RunningGateway):
    gateway = keeping
    ada = await make(gateway, "ada")
    group = (await mutate(gateway, "createGroup", "group", name="all"))["group"]["id"]
    await mutate(gateway, "addGroupMembers", "group", groupId=group, userIds=[ada])
    await mutate(gateway, "updateUser", "user", id=ada, email="ada@example.org", displayName="Ada")
    await mutate(gateway, "createPasswordReset", "user", userId=ada)
    await gateway.sign_in("ada")
    blob = await gateway.client.post("/blobs", content=b"some text of hers", headers=gateway.headers())
    assert blob.status_code in (200, 201)
    asked = {"model": "fake:count-3", "prompt": {"text": "hers"}, "idempotencyKey": "one"}
    by_session = (await gateway.run(GENERATE, {"input": asked}))["generate"]["generation"]["id"]
    secret = gateway.token = (await gateway.make_key("her laptop"))["secret"]
    await gateway.run(GENERATE, {"input": {"model": "fake:count-5", "prompt": {"text": "hers"}}})
    await gateway.sign_in()
    before = (await gateway.run(ALL, {"ids": [ada]}), await ledger(gateway))
    assert before[0]["usage"]["totals"]["generations"] == 2
    assert (await gateway.run(READ, {"id": by_session}))["node"]["text"] != ""

    deleted = await mutate(gateway, "deleteUser", "user", id=ada)

    assert (await gateway.run(ALL, {"ids": [ada]}), await ledger(gateway)) == before
    tombstone = deleted["user"]
    assert tombstone["username"].startswith("deleted-")
    assert (tombstone["email"], tombstone["displayName"], tombstone["active"]) == (None, None, False)
    seen = (await gateway.run(READ, {"id": by_session}))["node"]
    assert (seen["text"], seen["usage"]["completionTokens"], seen["user"]) == (
        None, 3, {"username": tombstone["username"]},
    )  # fmt: skip
    for table in (Transcript, Blob, GroupMember, OneTimeLink, ExternalAccount, IdempotencyKey):
        assert await count(gateway, table) == 0, table
    [user_id] = await ids_of(gateway, tombstone["username"])
    for table in (Session, KnownAddress):
        assert await count(gateway, table, table.user_id == user_id) == 0
    async with gateway.database.reading() as session:
        [key] = await session.scalars(select(ApiKey).where(ApiKey.user_id == user_id))
        assert (key.name, key.prefix, key.revoked_at is not None) == ("deleted", "", True)
        [used] = await session.scalars(select(UsageRecord).where(UsageRecord.api_key_id == key.id))
        assert used.completion_tokens == 5
    assert not await can_sign_in(gateway, "ada")
    gateway.token = secret
    with pytest.raises(GraphQLErrors, match="API key is not valid"):
        await gateway.run("{ models { name } }")


async def ledger(gateway: RunningGateway) -> list[tuple[object, ...]]:
    """All that the ledger says."""
    async with gateway.database.reading() as session:
        columns = [it for it in UsageRecord.__table__.columns if it.name != "rolled_up"]  # set at a time of its own
        rows = await session.execute(select(*columns).order_by(UsageRecord.generation_id))
        return [tuple(row) for row in rows]


async def ids_of(gateway: RunningGateway, username: str) -> list[object]:
    async with gateway.database.reading() as session:
        return list(await session.scalars(select(User.id).where(User.username == username)))


@on_sqlite
async def test_what_runs_for_the_user_is_cancelled_and_counted_and_its_text_is_kept_nowhere(keeping: RunningGateway):
    gateway = keeping
    ada = await make(gateway, "ada")
    await gateway.sign_in("ada")
    asked = {"model": "fake:hold-3", "prompt": {"text": "hers"}, "onDisconnect": "CONTINUE"}
    started = (await gateway.run(START, {"input": asked}))["startGeneration"]["generation"]["id"]
    await gateway.sign_in()
    with anyio.fail_after(20):
        await mutate(gateway, "deleteUser", "user", id=ada)
    assert (await gateway.run(READ, {"id": started}))["node"] | {"user": None, "usage": None} == {
        "state": "CANCELLED", "text": None, "user": None, "usage": None,
    }  # fmt: skip
    assert (await count(gateway, Transcript), await count(gateway, UsageRecord)) == (0, 1)
    with pytest.raises(GraphQLErrors) as refused:
        await gateway.events("subscription($id: ID!) { generation(id: $id) { sequence } }", {"id": started})
    assert refused.value.code == "STREAM_EXPIRED"


@on_postgresql
async def test_the_name_is_free_and_the_tombstone_is_final(gateway_on_each_database: RunningGateway):
    gateway = gateway_on_each_database
    ada = await make(gateway, "ada")
    assert (await mutate(gateway, "deleteUser", "user", id=ada))["__typename"] == "DeleteUserSuccess"
    for name in ("deleteUser", "reactivateUser", "deactivateUser"):
        assert (await mutate(gateway, name, "user", id=ada))["__typename"] == "NotFound"
    assert (await mutate(gateway, "updateUser", "user", id=ada, role="admin"))["__typename"] == "NotFound"
    assert (await mutate(gateway, "createUser", "user", username="ada"))["user"]["id"] != ada
    names = (await gateway.run("{ users { nodes { username } } }"))["users"]["nodes"]
    assert sorted(user["username"] for user in names) == ["ada", "admin"]
    assert (await gateway.run("query($id: ID!) { user(id: $id) { deletedAt } }", {"id": ada}))["user"]["deletedAt"]


@on_sqlite
async def test_an_answer_that_ends_after_the_deletion_is_not_kept(keeping: RunningGateway):
    """As where another replica runs it, or the command line deleted the user."""
    gateway = keeping
    await make(gateway, "ada")
    await gateway.sign_in("ada")
    asked = {"model": "fake:hold-3", "prompt": {"text": "hers"}, "onDisconnect": "CONTINUE"}
    started = (await gateway.run(START, {"input": asked}))["startGeneration"]["generation"]["id"]
    async with gateway.database.transaction() as tx:
        (await tx.scalars(select(User).where(User.username == "ada"))).one().deleted_at = now()
    await gateway.sign_in()
    await gateway.run("mutation($id: ID!) { cancelGeneration(input: {id: $id}) { __typename } }", {"id": started})
    assert await count(gateway, Transcript, Transcript.events.is_not(None)) == 0
    assert await count(gateway, Generation, Generation.state == "CANCELLED") == 1
