"""Transactions on both databases: what is kept, what is undone, and that no connection is lost."""

import asyncio
import random
import sqlite3
import threading
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
from sqlalchemy import func, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError, StatementError

from db.clock import new_id, now
from db.engine import Database, DatabaseUnavailable, ReadSession
from db.tables import ApiKey, Generation, LoginAttempts, UsageRecord, User
from db.urls import DatabaseUrlError, parse_database_url

SLOW = text("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300000) SELECT max(i) FROM n")


def user(name: str = "ada") -> User:
    return User(username=name, password_hash="!")


async def names(database: Database) -> list[str]:
    async with database.reading() as session:
        return list(await session.scalars(select(User.username).order_by(User.username)))


async def test_changes_are_kept_at_the_end_of_a_transaction(database: Database) -> None:
    async with database.transaction() as tx:
        tx.add(user())
    assert await names(database) == ["ada"]


async def test_changes_are_undone_when_an_exception_leaves_the_transaction(database: Database) -> None:
    async def fail() -> None:
        async with database.transaction() as tx:
            tx.add(user())
            await tx.flush()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert await names(database) == []


async def test_what_was_read_can_be_used_after_the_block(database: Database) -> None:
    async with database.transaction() as tx:
        ada = user()
        tx.add(ada)
    assert ada.username == "ada"


async def test_nothing_can_be_written_while_reading(database: Database) -> None:
    async with database.reading() as session:
        session.add(user())
        with pytest.raises(DBAPIError, match=r"read-?only"):
            await session.flush()


async def test_no_change_of_an_open_transaction_is_seen_by_others(database: Database) -> None:
    async with database.transaction() as tx:
        tx.add(user())
        await tx.flush()
        assert await names(database) == []


async def test_a_reading_block_sees_one_snapshot(database: Database) -> None:
    async def count(session: ReadSession) -> int:
        return await session.scalar(select(func.count()).select_from(User)) or 0

    async with database.reading() as session:
        before = await count(session)
        async with database.transaction() as tx:
            tx.add(user())
        assert await count(session) == before


async def test_two_concurrent_writers_wait_for_each_other(database: Database) -> None:
    """Both read before they write, which is what makes a deferred transaction of SQLite's fail."""
    async with database.transaction() as tx:
        tx.add(LoginAttempts(username="ada", failures=0, last_failed_at=now()))

    async def count_up() -> None:
        async with database.transaction() as tx:
            row = (await tx.scalars(select(LoginAttempts).with_for_update())).one()
            row.failures += 1

    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(count_up)
    async with database.reading() as session:
        assert await session.scalar(select(LoginAttempts.failures)) == 20


async def test_writers_of_two_processes_wait_for_each_other(database_url: str) -> None:
    """Two Database objects share nothing but the database, as two processes do."""
    first, second = Database(database_url), Database(database_url)

    async def write(database: Database, name: str) -> None:
        async with database.transaction() as tx:
            await tx.scalar(select(func.count()).select_from(User))
            tx.add(user(name))

    async with anyio.create_task_group() as tasks:
        for number in range(10):
            tasks.start_soon(write, first, f"first{number}")
            tasks.start_soon(write, second, f"second{number}")
    assert len(await names(first)) == 20
    await first.close()
    await second.close()


async def test_a_cancelled_transaction_is_undone_and_gives_its_connection_back(database: Database) -> None:
    inside = anyio.Event()

    async def write() -> None:
        async with database.transaction() as tx:
            tx.add(user())
            await tx.flush()
            inside.set()
            await anyio.sleep_forever()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(write)
        await inside.wait()
        tasks.cancel_scope.cancel()
    assert database.checked_out == 0
    assert await names(database) == []


async def test_a_cancellation_during_the_commit_lets_it_finish(database: Database) -> None:
    with anyio.CancelScope() as scope:
        async with database.transaction() as tx:
            tx.add(user())
            await tx.flush()
            scope.cancel()
    assert database.checked_out == 0
    assert await names(database) == ["ada"]


async def test_no_connection_is_lost_wherever_a_cancellation_strikes(database_url: str) -> None:
    """Cancels at every number of turns of the event loop, from the opening of the first connection on."""
    for turns in range(0, 60, 3):
        database = Database(database_url, pool_size=2, wait_seconds=20)

        async def work(database: Database = database, name: str = f"user{turns}") -> None:
            async with database.reading() as session:
                await session.scalar(select(func.count()).select_from(User))
            async with database.transaction() as tx:
                tx.add(user(name + random.randbytes(4).hex()))

        async with anyio.create_task_group() as tasks:
            for _ in range(4):
                tasks.start_soon(work)
            for _ in range(turns):
                await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()
        assert database.checked_out == 0
        await work()
        await database.close()


async def test_a_failed_connection_does_not_keep_those_who_wait() -> None:
    database = Database("postgresql://ollagraph@127.0.0.1:1/ollagraph", pool_size=1)
    refused: list[int] = []

    async def write(number: int) -> None:
        with pytest.raises(DatabaseUnavailable, match="cannot be reached"):
            async with database.transaction():
                raise AssertionError("connected to nothing")
        refused.append(number)

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            for number in range(3):
                tasks.start_soon(write, number)
    assert sorted(refused) == [0, 1, 2]
    await database.close()


async def test_a_file_that_cannot_be_opened_is_a_database_that_cannot_be_reached(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'folder.db'}")
    (tmp_path / "folder.db").mkdir()  # afterwards: one that is there already is refused by its URL
    with pytest.raises(DatabaseUnavailable, match="cannot be reached"):
        await database.ping()
    await database.close()


async def test_a_statement_of_sqlites_that_is_cancelled_leaves_no_task_and_no_thread_behind(sqlite_url: str) -> None:
    tasks, threads = asyncio.all_tasks(), set(threading.enumerate())
    database = Database(sqlite_url)
    running = anyio.Event()

    async def read() -> None:
        async with database.reading() as session:
            running.set()
            await session.execute(SLOW)

    async with anyio.create_task_group() as group:
        group.start_soon(read)
        await running.wait()
        await anyio.lowlevel.checkpoint()  # the statement is on its way now
        group.cancel_scope.cancel()
    assert database.checked_out == 0
    await database.close()
    assert asyncio.all_tasks() == tasks
    assert {thread for thread in set(threading.enumerate()) - threads if "_connection_worker" in thread.name} == set()


async def test_opening_a_block_when_cancelled_reads_and_writes_nothing(database: Database) -> None:
    with anyio.CancelScope() as scope:
        scope.cancel()
        async with database.transaction() as tx:
            tx.add(user())
    assert await names(database) == []


async def test_waiting_for_a_connection_has_an_end(database_url: str) -> None:
    database = Database(database_url, pool_size=1, wait_seconds=0.01)
    async with database.transaction():
        with pytest.raises(DatabaseUnavailable, match=r"No database connection became free within 0\.01 s"):
            async with database.transaction():
                raise AssertionError("there was a second connection")
    await database.close()


async def test_checked_out_counts_the_open_blocks(database: Database) -> None:
    async with database.reading(), database.transaction():
        assert database.checked_out == 2
    assert database.checked_out == 0


async def test_a_ping_gives_the_seconds_it_took(database: Database) -> None:
    assert await database.ping() > 0


async def test_a_ping_of_a_database_that_does_not_answer_fails_without_telling_its_password() -> None:
    database = Database("postgresql://ollagraph:hunter2@127.0.0.1:1/ollagraph")
    with pytest.raises(DatabaseUnavailable) as caught:
        await database.ping()
    assert str(caught.value) == "The database cannot be reached: nothing listens at its address."
    await database.close()


async def test_a_moment_comes_back_as_the_same_moment_in_utc(database: Database) -> None:
    at = datetime(2026, 2, 3, 4, 5, 6, 789012, tzinfo=timezone(timedelta(hours=5, minutes=30)))
    async with database.transaction() as tx:
        tx.add(User(username="ada", password_hash="!", created_at=at))
    async with database.reading() as session:
        found = await session.scalar(select(User.created_at))
    assert found == at
    assert found is not None
    assert found.tzinfo is UTC


async def test_a_moment_without_a_zone_is_refused(database: Database) -> None:
    with pytest.raises(StatementError, match="without a zone"):
        async with database.transaction() as tx:
            tx.add(User(username="ada", password_hash="!", created_at=datetime(2026, 2, 3)))


async def test_moments_are_compared_as_moments(database: Database) -> None:
    at = datetime(2026, 2, 3, 23, 30, tzinfo=timezone(timedelta(hours=-8)))
    async with database.transaction() as tx:
        tx.add(User(username="ada", password_hash="!", created_at=at))
    async with database.reading() as session:
        later = select(User.username).where(User.created_at > datetime(2026, 2, 4, tzinfo=UTC))
        assert await session.scalar(later) == "ada"


async def test_a_reference_to_nothing_is_refused(database: Database) -> None:
    with pytest.raises(IntegrityError):
        async with database.transaction() as tx:
            tx.add(ApiKey(user_id=new_id(), name="x", prefix="x", secret_hash="x", scopes=[]))


async def test_nothing_of_the_ledger_goes_with_the_user_and_all_else_does(database: Database) -> None:
    """Whatever deletes the row: the gateway itself keeps it, without a name."""
    async with database.transaction() as tx:
        ada = user()
        tx.add(ada)
        await tx.flush()
        key = ApiKey(user_id=ada.id, name="laptop", prefix="olg_", secret_hash="0" * 64, scopes=["models:read"])
        tx.add(key)
        await tx.flush()
        tx.add(
            UsageRecord(
                generation_id=key.id,
                user_id=ada.id,
                api_key_id=key.id,
                model="m",
                prompt_tokens=1,
                completion_tokens=1,
                source="backend",
                at=now(),
            )
        )
        tx.add(Generation(user_id=ada.id, api_key_id=key.id, model="m", backend="b", state="x", on_disconnect="x"))
    with pytest.raises(IntegrityError):
        async with database.transaction() as tx:
            await tx.execute(text("DELETE FROM users"))
    async with database.transaction() as tx:
        await tx.execute(text("DELETE FROM usage"))
        await tx.execute(text("DELETE FROM users"))
    async with database.reading() as session:
        for table in (ApiKey, Generation):
            assert await session.scalar(select(func.count()).select_from(table)) == 0


async def test_sqlite_runs_in_wal_mode(sqlite_url: str) -> None:
    database = Database(sqlite_url)
    async with database.reading() as session:
        assert await session.scalar(text("PRAGMA journal_mode")) == "wal"
    await database.close()


async def test_a_new_sqlite_file_that_another_process_writes_to_is_waited_for(tmp_path: Path) -> None:
    """Without waiting on our side: SQLite refuses at once to turn WAL on while somebody writes."""
    other = sqlite3.connect(tmp_path / "new.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    database = Database(f"sqlite:///{tmp_path / 'new.db'}")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(database.ping)
        await anyio.sleep(0.1)  # nothing tells when it was refused; were it not yet, the test would pass all the same
        other.execute("COMMIT")
    other.close()
    await database.close()


async def test_many_processes_may_open_a_new_sqlite_file_at_once(tmp_path: Path) -> None:
    databases = [Database(f"sqlite:///{tmp_path / 'new.db'}") for _ in range(12)]
    async with anyio.create_task_group() as tasks:
        for database in databases:
            tasks.start_soon(database.ping)
    for database in databases:
        await database.close()


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("sqlite:////{folder}/a.db", "sqlite+aiosqlite:////{folder}/a.db"),
        ("sqlite+aiosqlite:////{folder}/a.db", "sqlite+aiosqlite:////{folder}/a.db"),
        ("postgres://u:p@h/d", "postgresql+asyncpg://u:p@h/d"),
        ("postgresql://u:p@h:5433/d", "postgresql+asyncpg://u:p@h:5433/d"),
        ("postgresql+asyncpg://u:p@h/d", "postgresql+asyncpg://u:p@h/d"),
        ("postgresql://u@h/d?sslmode=verify-full", "postgresql+asyncpg://u@h/d?ssl=verify-full"),
    ],
)
def test_the_usual_urls_are_understood(given: str, used: str, tmp_path: Path) -> None:
    folder = str(tmp_path).lstrip("/")
    url = parse_database_url(given.format(folder=folder))
    assert url.render_as_string(hide_password=False) == used.format(folder=folder)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("", "cannot be read"),
        ("ollagraph.db", "cannot be read"),
        ("postgresql://u:p@h:port/d", "cannot be read"),
        ("mysql://u:hunter2@h/d", "no database called 'mysql'"),
        ("sqlite://", "in memory"),
        ("sqlite:///:memory:", "in memory"),
        ("sqlite://data/ollagraph.db", "three slashes"),
        ("sqlite:///a.db?mode=ro", "no options"),
        ("sqlite:////no/such/folder/a.db", "'/no/such/folder' for the SQLite database does not exist"),
        ("postgresql://u:hunter2@h/d?sslmod=require", "unknown options: sslmod. It may hold"),
    ],
)
def test_every_other_url_is_refused_with_a_reason(given: str, said: str) -> None:
    with pytest.raises(DatabaseUrlError, match=said) as caught:
        Database(given)
    assert "hunter2" not in str(caught.value)


def test_the_password_is_not_shown() -> None:
    assert "hunter2" not in repr(Database("postgresql://u:hunter2@h/d"))
