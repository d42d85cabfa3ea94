"""A database that takes no writes: keys go on working, the rest is refused with one code, and readiness tells."""

import logging
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from uuid import UUID

import anyio
import pytest
from sqlalchemy import select, text
from websockets.exceptions import ConnectionClosed

from db import sqlite
from db.clock import new_id
from db.engine import Database, DatabaseUnavailable
from db.tables import ApiKey, Replica, User
from tests.support import databases
from tests.support.databases import closed_to_all
from tests.support.fake_model_server import FakeModelServer
from tests.support.gateways import (
    CREATE_KEY,
    PASSWORD,
    GraphQLErrors,
    Json,
    RunningGateway,
    gateway_settings,
    running_gateway,
)
from tests.support.generations import COMPLETE, GENERATE, START, asking
from tests.support.http_streams import http_stream
from tests.support.polling import pause
from tests.support.processes import no_larger_files
from tests.test_identity import LOGIN
from tests.test_identity_keys import MODELS

Breaking = Callable[[RunningGateway], AbstractAsyncContextManager[None]]


@asynccontextmanager
async def locked(gateway: RunningGateway) -> AsyncIterator[None]:
    """Another program writes to the SQLite file, and does not end."""
    file = gateway.settings.database.removeprefix("sqlite:///")
    other = sqlite3.connect(file, isolation_level=None, timeout=60, check_same_thread=False)
    await anyio.to_thread.run_sync(other.execute, "BEGIN IMMEDIATE")  # the event loop must go on meanwhile
    yield
    other.close()


@asynccontextmanager
async def full(gateway: RunningGateway) -> AsyncIterator[None]:
    """No file of this process may grow."""
    log = gateway.settings.database.removeprefix("sqlite:///") + "-wal"
    async with gateway.database.transaction() as tx:  # what it writes next has to grow the file
        await tx.execute(text("PRAGMA wal_autocheckpoint = 0"))
    with no_larger_files((await anyio.Path(log).stat()).st_size):
        yield


def read_only(gateway: RunningGateway) -> AbstractAsyncContextManager[None]:
    return databases.read_only(gateway.settings.database)


BREAKING: dict[str, Breaking] = {"locked": locked, "full": full, "read-only": read_only}


Broken = tuple[RunningGateway, AbstractAsyncContextManager[None]]


@pytest.fixture(params=BREAKING)
def way_and_url(request: pytest.FixtureRequest) -> tuple[str, str]:
    """Each way in which a database takes no writes, and a database that it can happen to."""
    way: str = request.param
    return way, request.getfixturevalue("postgresql_url" if way == "read-only" else "sqlite_url")


@pytest.fixture
def settings() -> Json:
    """What a test's gateway has set beside what all have."""
    return {}


@pytest.fixture
async def broken(
    way_and_url: tuple[str, str],
    settings: Json,
    tmp_path: Path,
    fake: FakeModelServer,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Broken]:
    """A gateway, and what takes its database's writes away for a block."""
    monkeypatch.setitem(sqlite.WRITING, "busy_timeout", "300")
    way, url = way_and_url
    async with running_gateway(gateway_settings(tmp_path, url, fake.url, **settings), fake) as gateway:
        yield gateway, BREAKING[way](gateway)


async def test_an_api_key_works_and_its_use_is_written_when_that_is_possible_again(broken: Broken):
    gateway, without_writes = broken
    session, key = gateway.token, await gateway.make_key()
    async with without_writes:
        gateway.token = key["secret"]
        assert (await gateway.run(MODELS))["models"]
        async with gateway.connect(init={"apiKey": key["secret"]}) as socket:
            await socket.subscribe(MODELS)
            assert [event async for event in socket.events()]
        gateway.token = session
        listed = (await gateway.run("{ me { apiKeys { lastUsedAt } } }"))["me"]["apiKeys"]
        assert listed[0]["lastUsedAt"] is not None
    with anyio.fail_after(60):
        while True:
            async with gateway.database.reading() as session:
                if await session.scalar(select(ApiKey.last_used_at)):
                    return
            await pause()


WRITING = [
    (LOGIN, {"input": {"username": "admin", "password": "wrong password"}}),
    (LOGIN, {"input": {"username": "admin", "password": PASSWORD}}),
    (LOGIN, {"input": {"username": "nobody", "password": "wrong password"}}),
    (CREATE_KEY, {"input": {"name": "new"}}),
    (START, asking("fake:count-3")),
    (COMPLETE, asking("fake:count-3")),
    (COMPLETE, asking("fake:count-3", idempotencyKey="once")),
]


async def test_what_must_be_written_is_refused_with_one_code(broken: Broken):
    gateway, without_writes = broken
    async with without_writes, gateway.connect() as socket:
        for number, (query, variables) in enumerate(WRITING):
            with pytest.raises(GraphQLErrors) as refused:
                await gateway.run(query, variables)
            await socket.subscribe(query, variables, id=f"{number}")
            with pytest.raises(GraphQLErrors) as refused_on_socket:
                _ = [event async for event in socket.events(f"{number}")]
            assert (refused.value.code, refused_on_socket.value.code) == ("DATABASE_UNAVAILABLE",) * 2
            assert refused.value.errors[0]["extensions"]["retryable"]


async def test_a_subscription_that_begins_something_is_refused_with_the_same_code(broken: Broken):
    gateway, without_writes = broken
    async with without_writes:
        with pytest.raises(GraphQLErrors) as refused:
            await gateway.events(GENERATE, asking("fake:count-3"))
        async with http_stream(gateway, "text/event-stream", GENERATE, asking("fake:count-3")) as stream:
            [block] = [block async for block in stream.blocks if "payload" in block]
    assert refused.value.code == "DATABASE_UNAVAILABLE"
    assert block["payload"]["errors"][0]["extensions"]["code"] == "DATABASE_UNAVAILABLE"


async def test_readiness_says_that_it_takes_no_writes_until_it_does_again(broken: Broken):
    gateway, without_writes = broken
    async with without_writes:
        response = await gateway.client.get("/readyz")
        assert response.status_code == 503
        assert response.json()["reason"].startswith("database: The database ")
    with anyio.fail_after(60):
        while (await gateway.client.get("/readyz")).status_code != 200:
            await pause()


async def test_the_log_tells_it_once(broken: Broken, caplog: pytest.LogCaptureFixture):
    gateway, without_writes = broken
    async with without_writes:
        for _ in range(3):
            with pytest.raises(GraphQLErrors):
                await gateway.run(START, asking("fake:count-3"))
        told = [record for record in caplog.records if record.name == "db.lane" and record.levelno == logging.ERROR]
    assert len(told) == 1


@pytest.mark.parametrize("settings", [{"lease_time": 1}])
async def test_a_death_that_cannot_be_written_is_left_to_the_lease(broken: Broken):
    gateway, without_writes = broken
    dead = Replica(id=new_id())
    async with gateway.database.transaction() as tx:
        tx.add(dead)
    async with without_writes:
        await gateway.app.running.service.replicas.expire(dead.id)
    with anyio.fail_after(60):
        while len(await _replicas(gateway)) > 1:
            await pause()


async def _replicas(gateway: RunningGateway) -> list[UUID]:
    async with gateway.database.reading() as session:
        return list(await session.scalars(select(Replica.id)))


async def test_a_socket_whose_credentials_cannot_be_looked_up_is_to_come_back_later(
    postgresql_url: str, tmp_path: Path, fake: FakeModelServer
):
    async with running_gateway(gateway_settings(tmp_path, postgresql_url, fake.url), fake) as gateway:
        async with closed_to_all(postgresql_url):
            with pytest.raises(ConnectionClosed) as closed:
                async with gateway.connect():
                    pass
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1013


async def test_a_socket_whose_credentials_take_too_long_was_not_the_clients_fault(
    sqlite_url: str, tmp_path: Path, fake: FakeModelServer
):
    settings = gateway_settings(tmp_path, sqlite_url, fake.url, database_pool_size=1)
    async with running_gateway(settings, fake) as gateway:
        gateway.limit_sockets(check_timeout=0.2)
        async with gateway.database.reading():  # the one connection
            with pytest.raises(ConnectionClosed) as closed:
                async with gateway.connect():
                    pass
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1013


async def test_those_who_wait_for_a_locked_database_do_not_wait_one_after_the_other(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sqlite.WRITING, "busy_timeout", "500")
    other = sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    database, refused = Database(sqlite_url), list[str]()

    async def write() -> None:
        try:
            async with database.transaction():
                raise AssertionError("it was not locked")
        except DatabaseUnavailable as error:
            refused.append(str(error))

    with anyio.fail_after(30):  # one after the other they would take a hundred times half a second
        async with anyio.create_task_group() as tasks:
            for _ in range(100):
                tasks.start_soon(write)
    other.close()
    assert set(refused) == {"The database takes no writes: another program holds it locked."}
    await database.close()


async def test_a_full_database_is_one_that_takes_no_writes(sqlite_url: str):
    database = Database(sqlite_url)

    async def fill() -> None:
        async with database.transaction() as tx:
            await tx.execute(text("PRAGMA max_page_count = 1"))
            for number in range(500):
                tx.add(User(username=f"user{number}" + "x" * 50, password_hash="!" * 200))

    with pytest.raises(DatabaseUnavailable, match="its disk is full"):
        await fill()
    await database.close()


@pytest.mark.parametrize("statement", ["SELECT * FROM no_such_table", "no statement at all", "SELECT no_such_column"])
async def test_a_statement_that_is_wrong_is_no_outage(database: Database, statement: str):
    with pytest.raises(Exception, match=r"no such|syntax error|does not exist"):
        async with database.transaction() as tx:
            await tx.execute(text(statement))


async def test_a_value_that_does_not_fit_is_no_outage(postgresql_url: str):
    database = Database(postgresql_url)
    with pytest.raises(Exception, match="out of"):
        async with database.transaction() as tx:
            await tx.execute(text("SELECT CAST(:number AS INTEGER)"), {"number": 3_000_000_000})
    await database.close()
