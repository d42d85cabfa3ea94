"""The audit log: what is in it, who may read it, and that nobody can change it."""

import re
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import anyio
import orjson
import pytest
from click.testing import CliRunner
from sqlalchemy import delete, text, update
from sqlalchemy.exc import DBAPIError

from auth.client import Client
from auth.principal import Principal
from auth.scopes import ALL_SCOPES
from db.clock import new_id, now
from db.engine import Database
from db.tables import AuditEvent
from gateway.audit import AuditChoice, AuditLog, AuditOutcome, Deed, Target
from resolvers.audit import IN_THE_LEDGER
from resolvers.root import build_schema
from server.cli import main
from tests.support.gateways import PASSWORD, GraphQLErrors, Json, RunningGateway

T = TypeVar("T")

LOG = """
query($filter: AuditFilter, $first: Int, $after: String) {
  auditLog(filter: $filter, first: $first, after: $after) {
    nodes {
      id at action outcome code actorName actor { username } method apiKey { name } targetType targetId address
      userAgent requestId count details
    }
    pageInfo { hasNextPage endCursor }
  }
}
"""
NEW_PASSWORD = "a lantern on the harbour wall"
LOGIN = "mutation($input: LoginInput!) { login(input: $input) { __typename } }"


@pytest.fixture
def gateway(emptied_gateway: RunningGateway) -> RunningGateway:
    """One for all tests here, emptied before each of them."""
    return emptied_gateway


async def events(gateway: RunningGateway, **filter: object) -> list[Json]:
    """The events of the log, newest first."""
    return (await gateway.run(LOG, {"filter": filter}))["auditLog"]["nodes"]


async def until(ask: Callable[[], Awaitable[T]], wanted: Callable[[T], bool]) -> T:
    """What is asked for, once it is as wanted: it is written by a task that nobody waits for."""
    with anyio.fail_after(10):
        while True:
            if wanted(found := await ask()):
                return found
            await anyio.sleep(0.01)


async def test_a_mutation_is_in_the_log_before_its_answer(gateway: RunningGateway):
    made = await gateway.make_key(scopes=["MODELS_READ"])
    [event, *_] = await events(gateway, actions=["createApiKey"])
    assert event["outcome"] == "SUCCESS"
    assert (event["actorName"], event["actor"], event["method"]) == ("admin", {"username": "admin"}, "ACCESS_TOKEN")
    assert (event["targetType"], event["targetId"]) == ("ApiKey", made["apiKey"]["id"])
    assert event["address"] == "127.0.0.1"
    assert event["userAgent"].startswith("python-httpx/")
    assert event["details"] == {"name": "key", "scopes": ["MODELS_READ"]}
    assert event["count"] == 1


async def test_a_key_is_named_where_it_was_used(gateway: RunningGateway):
    secret = (await gateway.make_key("robot", scopes=["KEYS_WRITE", "KEYS_READ"]))["secret"]
    admin, gateway.token = gateway.token, secret
    made = (await gateway.make_key(scopes=["KEYS_READ"]))["apiKey"]["id"]
    gateway.token = admin
    [event] = await events(gateway, targetId=made)
    assert (event["method"], event["apiKey"]) == ("API_KEY", {"name": "robot"})


async def test_a_refused_mutation_is_in_the_log_with_its_reason(gateway: RunningGateway):
    await gateway.make_key(name="")
    [event, *_] = await until(partial(events, gateway, actions=["createApiKey"], outcomes=["REFUSED"]), bool)
    assert event["code"] == "INVALID_INPUT"


async def test_a_sign_in_names_the_user(gateway: RunningGateway):
    admin, gateway.token = gateway.token, None
    await gateway.run(LOGIN, {"input": {"username": " Admin", "password": PASSWORD}})
    gateway.token = admin
    [event, *_] = await events(gateway, actions=["login"], outcomes=["SUCCESS"])
    assert (event["actor"], event["method"], event["targetType"]) == ({"username": "admin"}, None, "User")


async def test_a_failed_sign_in_is_in_the_log_with_the_name_that_was_typed(gateway: RunningGateway):
    admin, gateway.token = gateway.token, None
    await gateway.run(LOGIN, {"input": {"username": "mallory\u2028x", "password": "wrong password"}})
    gateway.token = admin
    [event, *_] = await until(partial(events, gateway, actions=["login"], outcomes=["REFUSED"]), bool)
    assert (event["code"], event["actorName"], event["method"]) == ("INVALID_CREDENTIALS", "mallory\ufffdx", None)
    assert event["actor"] is None


async def test_the_use_of_something_without_its_scope_is_in_the_log(gateway: RunningGateway):
    admin, gateway.token = gateway.token, (await gateway.make_key("weak", scopes=["MODELS_READ"]))["secret"]
    with pytest.raises(GraphQLErrors):
        await gateway.run("{ usage { totals { generations } } }")
    gateway.token = admin
    found = await until(partial(events, gateway, actions=["use"]), bool)
    assert (found[0]["code"], found[0]["targetId"] is not None, found[0]["apiKey"]) == (
        "FORBIDDEN",
        True,
        {"name": "weak"},
    )


async def test_no_secret_is_in_the_log(own_gateway: RunningGateway):
    secret = (await own_gateway.make_key())["secret"]
    await own_gateway.run(LOGIN, {"input": {"username": "admin", "password": "a wrong secret"}})

    async def rows() -> list[Any]:
        async with own_gateway.database.reading() as session:
            return list(await session.execute(text("SELECT * FROM audit_events")))

    written = str(await until(rows, lambda found: len(found) == 3))
    for word in (secret, secret[12:], PASSWORD, "a wrong secret", own_gateway.token):
        assert word not in written


async def test_nobody_reads_the_log_without_the_scope(gateway: RunningGateway):
    admin, gateway.token = gateway.token, (await gateway.make_key(scopes=["USERS_READ"]))["secret"]
    with pytest.raises(GraphQLErrors, match="AUDIT_READ"):
        await gateway.run(LOG)
    response = await gateway.client.get("/audit.jsonl", headers=gateway.headers())
    assert (response.status_code, "AUDIT_READ" in response.text) == (403, True)
    gateway.token = admin
    assert (await gateway.client.get("/audit.jsonl")).status_code == 401


async def test_the_export_gives_every_event_as_a_line(gateway: RunningGateway):
    await gateway.make_key()
    response = await gateway.client.get("/audit.jsonl", headers=gateway.headers())
    lines = [orjson.loads(line) for line in response.content.splitlines()]
    assert response.headers["content-type"] == "application/jsonl"
    assert [line["id"] for line in lines] == sorted(line["id"] for line in lines)
    assert {"action": "createApiKey", "outcome": "SUCCESS", "actor": "admin"}.items() <= lines[-1].items()
    since = {"since": lines[-1]["at"]}
    rest = await gateway.client.get("/audit.jsonl", headers=gateway.headers(), params=since)
    assert [orjson.loads(line)["id"] for line in rest.content.splitlines()] == [lines[-1]["id"]]


@pytest.mark.parametrize("moment", ["yesterday", "2026-01-31", "2026-01-31T12:00:00"])
async def test_a_moment_that_is_none_is_refused(gateway: RunningGateway, moment: str):
    response = await gateway.client.get("/audit.jsonl", headers=gateway.headers(), params={"until": moment})
    assert (response.status_code, response.text.startswith("until must be a date and time")) == (400, True)


async def test_the_log_comes_in_pages(gateway: RunningGateway):
    for _ in range(3):
        await gateway.make_key()
    seen: list[str] = []
    after = None
    for _ in range(3):
        page = (await gateway.run(LOG, {"first": 1, "after": after}))["auditLog"]
        seen += [node["id"] for node in page["nodes"]]
        after = page["pageInfo"]["endCursor"]
        assert page["pageInfo"]["hasNextPage"]
    assert len(set(seen)) == 3
    node = await gateway.run("query($id: ID!) { node(id: $id) { ... on AuditEvent { id } } }", {"id": seen[0]})
    assert node == {"node": {"id": seen[0]}}


def test_every_mutation_is_recorded_but_those_that_the_ledger_has():
    schema = build_schema()._schema  # pyright: ignore[reportPrivateUsage]
    assert schema.mutation_type
    wrapped = {
        name
        for name, field in schema.mutation_type.fields.items()
        if getattr(field.resolve, "__module__", "") and hasattr(field.resolve, "is_audited")
    }
    assert wrapped == schema.mutation_type.fields.keys() - IN_THE_LEDGER


def test_what_the_command_line_does_is_in_the_log_without_passwords_and_what_it_reads_is_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv("OLLAGRAPH_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> str:
        return CliRunner().invoke(main, arguments).stdout

    run("create-user", "ada", "--role", "admin", "--password", NEW_PASSWORD)
    run("create-user", "ada")
    run("list-users")
    told = [orjson.loads(line) for line in run("export-audit").splitlines()]
    assert [(event["action"], event["outcome"], event["actor"], event["method"]) for event in told] == [
        ("create-user", "SUCCESS", "operator", "COMMAND_LINE"),
        ("create-user", "REFUSED", "operator", "COMMAND_LINE"),
    ]
    assert told[0]["details"] == {"username": "ada", "role": "admin"}
    assert NEW_PASSWORD not in str(told)


# --- The log itself, on both databases


def deed(action: str = "test", code: str | None = None, **more: object) -> Deed:
    outcome = AuditOutcome.SUCCESS if code is None else AuditOutcome.REFUSED
    return Deed(action, outcome, code, **more)  # pyright: ignore[reportArgumentType]


async def written(log: AuditLog) -> list[AuditEvent]:
    return list((await log.page(AuditChoice(), 100, None))[0])


async def test_nobody_can_change_an_event(database: Database):
    log = AuditLog(database, 0)
    await log.record(deed())
    for statement in (update(AuditEvent).values(actor="somebody else"), delete(AuditEvent)):
        with pytest.raises(DBAPIError, match="audit events"):
            async with database.transaction() as tx:
                await tx.execute(statement)
    assert [(event.action, event.actor) for event in await written(log)] == [("test", None)]


async def test_what_is_old_is_removed_and_nothing_else(database: Database, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("gateway.tasks.FIRST_PURGE_SECONDS", 0)
    log = AuditLog(database, timedelta(days=30).total_seconds())
    async with database.transaction() as tx:
        for days in (29, 31):
            tx.add(
                AuditEvent(id=new_id(), at=now() - timedelta(days=days), action=str(days), method="NONE", outcome="X")
            )
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(log.run)
        found = await until(partial(written, log), lambda rows: len(rows) == 1)
        tasks.cancel_scope.cancel()
    assert [event.action for event in found] == ["29"]


async def test_a_flood_of_refusals_becomes_one_event_with_a_count(database: Database):
    log = AuditLog(database, 0)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(log.run)
        for _ in range(500):
            log.note(deed("login", "INVALID_CREDENTIALS", name="ada", client=Client("192.0.2.1")))
        await until(partial(written, log), bool)
        tasks.cancel_scope.cancel()
    assert sorted(event.count for event in await written(log)) == [1, 499]


async def test_a_flood_of_names_is_bounded(database: Database):
    log = AuditLog(database, 0)
    for number in range(1_500):
        log.note(deed("login", "INVALID_CREDENTIALS", name=f"name {number}"))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(log.run)
        await until(partial(written, log), bool)
        tasks.cancel_scope.cancel()
    async with database.reading() as session:
        counted = await session.scalar(text("SELECT count(*) FROM audit_events"))
    assert counted == 1_002  # of which one tells how many more there were


@pytest.mark.parametrize("name", ["a\0b", "\ud800", "x" * 10_000, "line\nbreak", "'; DROP TABLE audit_events; --", ""])
async def test_whatever_a_stranger_types_can_be_written(database: Database, name: str):
    log = AuditLog(database, 0)
    await log.record(deed("login", "INVALID_CREDENTIALS", name=name, target=Target("User", name)))
    await log.record(deed(principal=Principal(new_id(), "ada", ALL_SCOPES), details={"name": name, "names": [name]}))
    [second, first] = await written(log)
    assert re.fullmatch(r"[^\0\n]{0,64}", first.actor or "")
    assert len(str((second.details or {}).get("name", ""))) <= 200


async def test_what_cannot_be_written_is_told_in_the_log(database: Database, caplog: pytest.LogCaptureFixture):
    log = AuditLog(database, 0)
    async with database.transaction() as tx:
        await tx.execute(text("ALTER TABLE audit_events RENAME TO elsewhere"))
    await log.record(deed("deleteUser"))
    assert "not in the audit log" in caplog.text
    assert "deleteUser" in caplog.text


async def test_what_the_database_does_not_take_now_is_written_when_it_does(
    database: Database, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("gateway.audit.RECORD_SECONDS", 0.05)
    monkeypatch.setattr("gateway.audit.LATE_SECONDS", 0.05)
    held, log = database.apart(), AuditLog(database, 0)
    lock = "LOCK TABLE audit_events IN EXCLUSIVE MODE" if database.dialect == "postgresql" else "SELECT 1"
    async with held.transaction() as tx:
        await tx.execute(text(lock))
        for action in ("deleteUser", "updateUser", "createUser"):
            await log.record(deed(action))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(log.run)
        events = await until(partial(written, log), lambda events: len(events) == 3)
        tasks.cancel_scope.cancel()
    await held.close()
    assert [event.action for event in events] == ["createUser", "updateUser", "deleteUser"]
    assert "not in the audit log" not in caplog.text


async def test_what_waits_for_the_database_is_bounded_and_told_at_the_end(
    sqlite_url: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("gateway.audit.MOST_LATE", 2)
    database = Database(sqlite_url, wait_seconds=0.01)
    log = AuditLog(database, 0)
    async with database.transaction():
        for action in ("deleteUser", "updateUser", "createUser"):
            await log.record(deed(action))
        assert ["createUser" in line for line in caplog.messages if "not in the audit log" in line] == [True]
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(log.run)
            tasks.cancel_scope.cancel()
    lost = [line for line in caplog.messages if "not in the audit log" in line]
    assert [action in line for action, line in zip(["createUser", "deleteUser", "updateUser"], lost, strict=True)] == [
        True
    ] * 3
    await database.close()
