"""Work that waits for SQLite's writer together: one commit, and each piece kept or undone by itself."""

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

import anyio
import pytest
from anyio import to_thread
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from db.engine import Database, DatabaseUnavailable, WriteSession
from tests.support.polling import settled
from tests.test_database import SLOW, names, user

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@asynccontextmanager
async def busy(database: Database) -> AsyncIterator[None]:
    """Whoever comes within the block waits until its end."""
    async with database.transaction():
        yield
        await settled()


async def add(tx: WriteSession, name: str) -> str:
    tx.add(user(name))
    await tx.flush()
    return name


async def test_what_waits_together_is_committed_together(database: Database) -> None:
    found: list[str] = []

    async def write(name: str) -> None:
        found.append(await database.transact(lambda tx: add(tx, name)))

    async with anyio.create_task_group() as tasks:
        async with busy(database):
            for number in range(10):
                tasks.start_soon(write, f"u{number}")
    assert database.written == 2  # that which they waited for, and theirs
    assert sorted(found) == sorted(await names(database)) == [f"u{number}" for number in range(10)]


async def test_what_is_refused_is_undone_alone(database: Database) -> None:
    kept, refused = list[str](), list[str]()

    async def write(name: str, refuse: type[Exception] | None) -> None:
        async def work(tx: WriteSession) -> str:
            await add(tx, name)
            if refuse is IntegrityError:
                await add(tx, name)
            elif refuse is not None:
                raise refuse
            return name

        try:
            kept.append(await database.transact(work))
        except (IntegrityError, ZeroDivisionError):
            refused.append(name)

    random = Random(7)
    for round_ in range(8):
        async with anyio.create_task_group() as tasks:
            async with busy(database):
                for number in range(6):
                    why = random.choice([None, None, IntegrityError, ZeroDivisionError])
                    tasks.start_soon(write, f"u{round_}-{number}", why)
    assert len(kept) + len(refused) == 48
    assert min(len(kept), len(refused)) > 0
    assert sorted(await names(database)) == sorted(kept)


async def test_a_database_that_cannot_commit_fails_each_of_them(database: Database) -> None:
    errors: list[DatabaseUnavailable] = []

    async def fill(tx: WriteSession) -> None:
        await tx.execute(text("PRAGMA max_page_count = 1"))  # no less than it has
        for number in range(10_000):
            await add(tx, f"full{number}")

    async def write(number: int) -> None:
        try:
            await database.transact(fill if number == 3 else lambda tx: add(tx, f"u{number}"))
        except DatabaseUnavailable as error:
            errors.append(error)

    async with anyio.create_task_group() as tasks:
        async with busy(database):
            for number in range(6):
                tasks.start_soon(write, number)
    assert [str(error) for error in errors] == ["The database takes no writes: its disk is full."] * 6
    assert len(set(map(id, errors))) == 6
    assert await names(database) == []
    assert database.checked_out == 0


async def test_who_leaves_the_line_leaves_the_others_in_it(database: Database) -> None:
    scopes = [anyio.CancelScope() for _ in range(4)]

    async def write(number: int) -> None:
        with scopes[number]:
            await database.transact(lambda tx: add(tx, f"u{number}"))

    async with anyio.create_task_group() as tasks:
        async with busy(database):
            for number in range(4):
                tasks.start_soon(write, number)
            await settled()
            scopes[0].cancel()
            scopes[2].cancel()
    assert sorted(await names(database)) == ["u1", "u3"]


async def test_who_is_cancelled_while_another_writes_for_them_comes_back_when_it_is_kept(database: Database) -> None:
    begun, scope, seen = threading.Event(), anyio.CancelScope(), list[list[str]]()

    async def slow(tx: WriteSession) -> None:
        begun.set()
        await tx.execute(SLOW)
        await add(tx, "slow")

    async def follow() -> None:
        try:
            with scope:
                await database.transact(lambda tx: add(tx, "follows"))
        finally:
            seen.append(await names(database))

    async with anyio.create_task_group() as tasks:
        async with busy(database):
            tasks.start_soon(database.transact, slow)
            tasks.start_soon(follow)
        await to_thread.run_sync(begun.wait)
        scope.cancel()
    assert seen == [["follows", "slow"]]
