"""Behind PgBouncer in transaction mode, where no two transactions need have the same connection of the server's."""

from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest
from sqlalchemy import func, select, text

from db import migrations
from db.clock import new_id
from db.engine import Database
from db.tables import ApiKey, User
from tests.support.databases import PostgresqlDatabases
from tests.support.deployed.poolers import pgbouncer
from tests.support.fake_model_server import FakeModelServer
from tests.support.gateways import gateway_settings, running_gateway
from tests.support.generations import COMPLETE, asking, total


@pytest.fixture
def pooled_url(postgresql_url: str) -> Iterator[str]:
    """A PostgreSQL database through PgBouncer."""
    with pgbouncer(postgresql_url) as url:
        yield url


@pytest.fixture
def unmigrated_pooled_url(postgresql_databases: PostgresqlDatabases) -> Iterator[str]:
    """The same without a single table."""
    with postgresql_databases.fresh(migrated=False) as url, pgbouncer(url) as pooled:
        yield pooled


async def count(database: Database) -> int:
    async with database.reading() as session:
        return await session.scalar(select(func.count()).select_from(User)) or 0


async def test_transactions_of_many_connections_read_and_write(pooled_url: str) -> None:
    first, second = Database(pooled_url, pool_size=10), Database(pooled_url, pool_size=10)

    async def work(database: Database, number: int) -> None:
        user_id = new_id()
        async with database.transaction() as tx:
            tx.add(User(id=user_id, username=f"user{number}", password_hash="!"))
        async with database.transaction() as tx:
            tx.add(ApiKey(user_id=user_id, name="x", prefix="x", secret_hash=user_id.hex, scopes=["models:read"]))
        async with database.reading() as session:
            key = (await session.scalars(select(ApiKey).where(ApiKey.user_id == user_id))).one()
            assert key.scopes == ["models:read"]
            await session.scalar(select(func.count()).select_from(User))

    async with anyio.create_task_group() as tasks:
        for number in range(100):
            tasks.start_soon(work, first if number % 2 else second, number)
    assert await count(first) == 100
    await first.close()
    await second.close()


async def test_a_migration_runs_through_the_pooler(unmigrated_pooled_url: str) -> None:
    database = Database(unmigrated_pooled_url)
    await migrations.upgrade(database)
    assert await migrations.current_revision(database) == migrations.head_revision()
    await database.close()


async def test_generations_run_and_are_counted_through_the_pooler(
    pooled_url: str, tmp_path: Path, fake: FakeModelServer
) -> None:
    settings = gateway_settings(tmp_path, pooled_url, fake.url, database_pool_size=10)
    async with running_gateway(settings, fake) as gateway:
        answers: list[str] = []

        async def ask() -> None:
            data = await gateway.run(COMPLETE, asking("fake:count-3"))
            answers.append(data["generate"]["__typename"])

        async with anyio.create_task_group() as tasks:
            for _ in range(30):
                tasks.start_soon(ask)
        assert answers == ["GenerateSuccess"] * 30
        assert (await total(gateway))["generations"] == 30


async def named_statements(url: str) -> int:
    """How many statements one connection keeps prepared, after it has run a few."""
    database = Database(url, pool_size=1)
    for _ in range(3):
        assert await count(database) == 0
    async with database.reading() as session:
        kept = await session.scalar(text("SELECT count(*) FROM pg_prepared_statements WHERE name <> ''"))
    await database.close()
    return kept or 0


async def test_no_statement_is_left_prepared_behind_the_pooler(pooled_url: str) -> None:
    assert await named_statements(pooled_url) == 0


async def test_straight_to_the_server_statements_are_kept_prepared(postgresql_url: str) -> None:
    assert await named_statements(postgresql_url) > 0
