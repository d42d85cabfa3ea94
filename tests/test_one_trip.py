"""Transactions in one trip to the database: what is kept, what is undone, and what is refused."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import aiosqlite
import anyio
import pytest
from anyio import to_thread
from sqlalchemy import select

from db.engine import Database, DatabaseUnavailable, WriteSession
from db.tables import User
from tests.test_database import SLOW, names, user


async def test_a_transaction_in_one_trip_is_kept_and_gives_its_result(database: Database) -> None:
    async def work(tx: WriteSession) -> int:
        tx.add(user())
        await tx.flush()
        return len((await tx.scalars(select(User))).all())

    assert await database.transact(work) == 1
    assert await names(database) == ["ada"]
    assert database.checked_out == 0


async def test_one_that_is_refused_is_undone_alone(database: Database) -> None:
    async def work(tx: WriteSession, name: str) -> None:
        tx.add(user(name))
        await tx.flush()
        if name == "eve":
            raise ZeroDivisionError

    async def begin(name: str) -> None:
        try:
            await database.transact(lambda tx: work(tx, name))
        except ZeroDivisionError:
            refused.append(name)

    refused: list[str] = []
    async with anyio.create_task_group() as tasks:
        for name in ("ada", "eve", "zoe"):
            tasks.start_soon(begin, name)
    assert (refused, await names(database)) == (["eve"], ["ada", "zoe"])
    assert database.checked_out == 0


async def test_one_that_is_cancelled_comes_to_its_end(sqlite_url: str) -> None:
    database, began, scope = Database(sqlite_url), threading.Event(), anyio.CancelScope()

    async def work(tx: WriteSession) -> None:
        began.set()
        tx.add(user())
        await tx.execute(SLOW)

    async def write() -> None:
        with scope:
            await database.transact(work)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(write)
        await to_thread.run_sync(began.wait)
        scope.cancel()
    assert await names(database) == ["ada"]
    await database.close()


async def test_all_of_it_runs_in_one_thread_that_is_not_the_loops(sqlite_url: str) -> None:
    threads: list[int] = []

    async def work(tx: WriteSession) -> None:
        for name in ("ada", "zoe"):
            tx.add(user(name))
            await tx.flush()
            threads.append(threading.get_ident())

    database = Database(sqlite_url)
    await database.transact(work)
    assert len(set(threads)) == 1
    assert threading.get_ident() not in threads
    await database.close()


async def test_it_may_await_nothing_but_statements_on_sqlite(sqlite_url: str) -> None:
    async def work(tx: WriteSession) -> None:
        tx.add(user())
        await tx.flush()
        await asyncio.sleep(0)

    database = Database(sqlite_url)
    with pytest.raises(RuntimeError, match="may await nothing but its statements"):
        await database.transact(work)
    assert await names(database) == []
    await database.close()


async def test_a_new_connection_of_sqlite_takes_no_trips_for_functions(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    trips, take = list[str](), aiosqlite.Connection._execute

    async def note(connection: aiosqlite.Connection, do: Any, *arguments: Any, **options: Any) -> Any:
        trips.append(do.__name__)
        return await take(connection, do, *arguments, **options)

    monkeypatch.setattr(aiosqlite.Connection, "_execute", note)
    database = Database(sqlite_url)
    async with database.reading() as session:
        assert await session.scalar(select(User.id)) is None
    await database.close()
    assert "executescript" in trips
    assert "create_function" not in trips


async def test_what_was_refused_for_want_of_a_connection_is_not_written_later(tmp_path: Path) -> None:
    file, ran = tmp_path / "x.db", list[str]()
    database = Database(f"sqlite:///{file}")
    file.mkdir()  # in its place

    async def write(name: str) -> None:
        async def work(_: WriteSession) -> None:
            ran.append(name)

        await database.transact(work)

    with pytest.raises(DatabaseUnavailable):
        await write("first")
    file.rmdir()
    await write("second")
    assert ran == ["second"]
    assert database.checked_out == 0
    await database.close()
