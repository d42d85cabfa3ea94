"""What all tests share: the event loop, and databases. Each test gets databases of its own, migrated and empty."""

from tests.garbage import pytest_collection_finish as pytest_collection_finish  # it has to be the first
from tests.garbage import pytest_sessionfinish as pytest_sessionfinish

# isort: split
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import hypothesis
import pytest

from db.engine import Database
from gateway.catalog.listing import Patience
from tests.support.databases import (
    PostgresqlDatabases,
    SqliteDatabases,
    postgresql_server,
    prepare_postgresql,
    shared_statements,
)
from tests.support.fake_model_server import FakeModelServer, running_fake_model_server
from tests.support.gateways import EVERY_MODEL, RunningGateway, gateway_settings, running_gateway
from tests.support.shared.certificates import certificates_read_once
from tests.support.shared.documents import shared_documents
from tests.support.shared.folder import made_once
from tests.support.shared.folder import pytest_configure as pytest_configure
from tests.support.shared.gateways import as_new, gateway_before_fake
from tests.support.valkeys import ValkeyCluster, ValkeyServer, valkey_cluster, valkey_server

# What an example takes, or the making of one, says more of the machine than of the code.
_PROFILE = {"deadline": None, "suppress_health_check": [hypothesis.HealthCheck.too_slow]}
# Every run makes few examples; --hypothesis-profile=thorough is for who changes what a property is about.
hypothesis.settings.register_profile("tests", max_examples=40, **_PROFILE)
hypothesis.settings.register_profile("thorough", max_examples=1_000, **_PROFILE)
hypothesis.settings.load_profile("tests")

WORKERS_PER_CORE = 3
"""Tests wait for others more than they work."""

MOST_WORKERS = 8
"""Each has a Valkey and a browser of its own."""


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """How many processes `-n auto` makes."""
    return min(WORKERS_PER_CORE * (os.cpu_count() or 1), MOST_WORKERS)


pytest_plugins = ["tests.support.no_skips", "tests.support.browsers", "tests.support.shared.told_secrets"]


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """The loop that the product runs on."""
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(scope="session", autouse=True)
def patience_with_a_busy_machine() -> Iterator[None]:
    """Let what takes too long in production take longer: a busy machine is no outage."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("server.health.CHECK_SECONDS", 5)
        patch.setattr("gateway.catalog.catalog.Patience", partial(Patience, first=8))
        yield


@pytest.fixture(scope="session", autouse=True)
def idle_gateways_rest() -> Iterator[None]:
    """Let a gateway of which nobody asks anything do little: there are always some, and they add up.

    Tests of what is looked for regularly have it looked for more often.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gateway.notices.limit_notices.POLL_SECONDS", 10)
        yield


@pytest.fixture(scope="session", autouse=True)
def interrupts_are_heard() -> None:
    """Let what a test starts hear SIGINT: what a shell starts in the background ignores it, and so do its children."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def statements_compiled_once() -> Iterator[None]:
    """Spare each of a thousand databases the compiling of the same statements."""
    with shared_statements():
        yield


@pytest.fixture(scope="session", autouse=True)
def documents_validated_once() -> Iterator[None]:
    """Spare each of a thousand gateways the validation of the same documents."""
    with shared_documents():
        yield


@pytest.fixture(scope="session", autouse=True)
def certificates_read() -> Iterator[None]:
    """Spare each of a thousand clients of HTTP the reading of all certificates."""
    with certificates_read_once():
        yield


@pytest.fixture(scope="session")
def sqlite_databases() -> SqliteDatabases:
    """The template for SQLite."""
    return SqliteDatabases()


@pytest.fixture(scope="session")
def postgresql_databases() -> Iterator[PostgresqlDatabases]:
    """A PostgreSQL server with a template, started when the first test of any process needs it."""
    with postgresql_server(made_once("postgresql", prepare_postgresql)) as url:
        with closing(PostgresqlDatabases(url)) as databases:
            yield databases


@pytest.fixture(scope="session")
def shared_valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    """A Valkey server that all tests share; no two streams have one name."""
    with valkey_server(tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest.fixture
async def valkey(shared_valkey: ValkeyServer) -> ValkeyServer:
    """The shared Valkey server, which answers."""
    await shared_valkey.answers()
    return shared_valkey


@pytest.fixture
async def own_valkey(tmp_path: Path) -> AsyncIterator[ValkeyServer]:
    """A Valkey server that the test may kill, freeze and start again."""
    with valkey_server(tmp_path) as server:
        await server.answers()
        yield server


@pytest.fixture(scope="module")
async def formed(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ValkeyCluster]:
    """A Valkey Cluster that the tests of a module share."""
    with valkey_cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        await cluster.form()
        yield cluster


@pytest.fixture
async def cluster(formed: ValkeyCluster) -> AsyncIterator[ValkeyCluster]:
    """The one cluster; whatever a test kills in it is there again afterwards."""
    yield formed
    await formed.restore()


@pytest.fixture
def sqlite_url(sqlite_databases: SqliteDatabases, tmp_path: Path) -> Iterator[str]:
    """A SQLite database, for tests in which the kind of database does not matter."""
    with sqlite_databases.fresh(tmp_path) as url:
        yield url


@pytest.fixture
def postgresql_url(postgresql_databases: PostgresqlDatabases) -> Iterator[str]:
    """A PostgreSQL database."""
    with postgresql_databases.fresh() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """A database of each kind in turn."""
    return request.getfixturevalue(f"{request.param}_url")


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """A database of each kind in turn, opened."""
    database = Database(database_url)
    yield database
    await database.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def unmigrated_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database of each kind in turn, without a single table."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'unmigrated.db'}"
        return
    databases: PostgresqlDatabases = request.getfixturevalue("postgresql_databases")
    with databases.fresh(migrated=False) as url:
        yield url


@pytest.fixture
async def fake() -> AsyncIterator[FakeModelServer]:
    """A fake model server; every model that a test asks for is listed."""
    async with running_fake_model_server() as fake:
        fake.models += EVERY_MODEL
        yield fake


@pytest.fixture
async def own_gateway(sqlite_url: str, tmp_path: Path, fake: FakeModelServer) -> AsyncIterator[RunningGateway]:
    """A gateway over SQLite before the fake model server, with its administrator signed in."""
    async with running_gateway(gateway_settings(tmp_path, sqlite_url, fake.url), fake) as gateway:
        yield gateway


@pytest.fixture
def gateway(own_gateway: RunningGateway) -> RunningGateway:
    """The same. A module whose tests change nothing in it makes this `used_gateway` and saves their starts."""
    return own_gateway


@pytest.fixture(scope="module")
async def shared_double(
    sqlite_databases: SqliteDatabases, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[RunningGateway]:
    """One gateway for all tests of a module, before a fake model server as Ollama and as an OpenAI-compatible one.

    These tests are about models: who asks is looked up once.
    """
    async with gateway_before_fake(
        sqlite_databases, tmp_path_factory.mktemp("double"), as_openai=True, identity_max_age=60
    ) as gateway:
        yield gateway


@pytest.fixture
def double(shared_double: RunningGateway) -> RunningGateway:
    """The same, with a fake model server that is as new. What earlier tests asked is in the gateway's database."""
    shared_double.fake.reset()
    shared_double.fake.models += EVERY_MODEL
    return shared_double


@pytest.fixture
async def gateway_on_each_database(
    database_url: str, tmp_path: Path, fake: FakeModelServer
) -> AsyncIterator[RunningGateway]:
    """The same over a database of each kind in turn."""
    async with running_gateway(gateway_settings(tmp_path, database_url, fake.url), fake) as gateway:
        yield gateway


@pytest.fixture(scope="module")
async def shared_gateway(
    sqlite_databases: SqliteDatabases, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[RunningGateway]:
    """One gateway over SQLite for all tests of a module that change nothing in it, not even who is signed in."""
    async with gateway_before_fake(sqlite_databases, tmp_path_factory.mktemp("shared")) as gateway:
        yield gateway


@pytest.fixture
async def used_gateway(shared_gateway: RunningGateway) -> RunningGateway:
    """The same, with a fake model server that is as new. What earlier tests left is in the gateway's database."""
    shared_gateway.fake.reset()
    shared_gateway.fake.models += EVERY_MODEL
    await shared_gateway.be_administrator()
    return shared_gateway


@pytest.fixture
async def emptied_gateway(shared_gateway: RunningGateway) -> RunningGateway:
    """The same, with a database that is as new, too. For tests that leave nothing running."""
    return await as_new(shared_gateway)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def shared_database_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A database of each kind in turn, for all tests of a module."""
    databases: SqliteDatabases | PostgresqlDatabases = request.getfixturevalue(f"{request.param}_databases")
    if isinstance(databases, SqliteDatabases):
        with databases.fresh(tmp_path_factory.mktemp("each")) as url:
            yield url
    else:
        with databases.fresh() as url:
            yield url


@pytest.fixture(scope="module")
async def _shared_on_each_database(
    shared_database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[RunningGateway]:
    async with running_fake_model_server() as fake:
        settings = gateway_settings(tmp_path_factory.mktemp("each"), shared_database_url, fake.url)
        async with running_gateway(settings, fake) as gateway:
            yield gateway


@pytest.fixture
async def emptied_gateway_on_each_database(_shared_on_each_database: RunningGateway) -> RunningGateway:
    """One gateway over a database of each kind in turn for all tests of a module, emptied before each of them."""
    return await as_new(_shared_on_each_database)
