"""Limits hold at any concurrency, whatever ends a generation, and nothing that is reserved stays reserved."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from functools import partial
from uuid import UUID
from zoneinfo import ZoneInfo

import anyio
import pytest
from sqlalchemy import delete, func, select, text, update

from db import queries
from db.clock import new_id, now
from db.engine import Database
from db.tables import Generation, LimitCounter, Reservation, User
from gateway.limits import (
    Asking,
    ExceptionKind,
    LimitDimension,
    LimitReached,
    Limits,
    LimitWindow,
    Measure,
    Needs,
    QuotaExceeded,
    RateLimited,
    Used,
)
from gateway.limits.windows import span
from tests.support.databases import on_postgresql
from tests.support.generations import set_limit
from tests.support.polling import pause, settled

ALICE = Asking(new_id(), "developer", model="llama3")
BOB = Asking(new_id(), "user", model="llama3")


async def begin(database: Database, limits: Limits, asking: Asking, tokens: int = 1) -> UUID:
    """Reserve what a generation needs, as its start does. Raises LimitReached."""
    generation_id, claims = new_id(), await limits.claims(asking, Needs(tokens))
    async with database.transaction() as tx:
        await limits.reserve(tx, generation_id, claims)
    return generation_id


async def end(database: Database, limits: Limits, *used: Used) -> None:
    async with database.transaction() as tx:
        await limits.settle(tx, used)
    limits.freed()


async def reserved(database: Database) -> int:
    async with database.reading() as session:
        count = await session.scalar(select(func.count()).select_from(Reservation))
        of_counters = await session.scalar(select(func.sum(LimitCounter.reserved)))
    assert count is not None
    return count + int(of_counters or 0)


async def add_generation(database: Database, generation_id: UUID) -> None:
    """A row that waits, of a user who is there."""
    user = User(id=new_id(), username=f"u{generation_id.hex}"[:64], password_hash="!")
    columns = {"model": "m", "backend": "b", "state": "QUEUED", "on_disconnect": "CONTINUE"}
    async with database.transaction() as tx:
        tx.add(user)
        await tx.flush()
        tx.add(Generation(id=generation_id, user_id=user.id, fence=1, **columns))


@pytest.fixture
async def others(database_url: str) -> AsyncIterator[list[tuple[Database, Limits]]]:
    """Gateways that share a database."""
    databases = [Database(database_url) for _ in range(3)]
    yield [(database, Limits(database, identity_max_age=0)) for database in databases]
    for database in databases:
        await database.close()


async def admitted(gateways: list[tuple[Database, Limits]], asking: Asking, times: int, tokens: int = 1) -> int:
    """Ask so often at once, the gateways taking turns, and count what was let in."""
    let_in: list[UUID] = []

    async def ask(database: Database, limits: Limits) -> None:
        try:
            let_in.append(await begin(database, limits, asking, tokens))
        except LimitReached:
            pass

    async with anyio.create_task_group() as tasks:
        for number in range(times):
            tasks.start_soon(ask, *gateways[number % len(gateways)])
    return len(let_in)


async def test_of_many_requests_at_once_as_many_are_let_in_as_may_be(
    database: Database, others: list[tuple[Database, Limits]]
):
    await set_limit(database, 4, Measure.REQUESTS, LimitWindow.MINUTE)
    assert await admitted(others, ALICE, 20) == 4


async def test_of_many_tokens_at_once_no_more_are_reserved_than_may_be(
    database: Database, others: list[tuple[Database, Limits]]
):
    await set_limit(database, 400)
    assert await admitted(others, ALICE, 20, tokens=99) == 4
    with pytest.raises(QuotaExceeded) as caught:
        await begin(*others[0], ALICE, 5)
    assert caught.value.limit.reserved == 396
    assert await begin(*others[0], ALICE, 4)


async def test_what_is_used_takes_the_place_of_what_was_reserved(database: Database):
    await set_limit(database, 100)
    limits = Limits(database)
    first = await begin(database, limits, ALICE, 100)
    with pytest.raises(QuotaExceeded):
        await begin(database, limits, ALICE, 1)
    await end(database, limits, Used(first, 40))
    assert await reserved(database) == 0
    [status] = await limits.statuses(ALICE)
    assert (status.used, status.reserved, status.remaining) == (40, 0, 60)
    await begin(database, limits, ALICE, 60)


async def test_an_end_is_settled_once(database: Database):
    await set_limit(database, 100)
    limits = Limits(database)
    first = await begin(database, limits, ALICE, 50)
    await end(database, limits, Used(first, 40))
    await end(database, limits, Used(first, 40))
    assert (await limits.statuses(ALICE))[0].used == 40


async def test_ends_that_are_written_together_are_all_counted(database: Database):
    await set_limit(database, 100)
    limits = Limits(database)
    begun = [await begin(database, limits, ALICE, 20) for _ in range(5)]
    await end(database, limits, *(Used(it, 7) for it in begun))
    [status] = await limits.statuses(ALICE)
    assert (status.used, status.reserved) == (35, 0)


async def test_what_runs_at_once_is_free_again_with_its_end(database: Database):
    await set_limit(database, 2, Measure.PARALLEL, None, LimitDimension.USER)
    limits = Limits(database)
    begun = [await begin(database, limits, ALICE) for _ in range(2)]
    with pytest.raises(RateLimited, match="Try again when one has ended") as caught:
        await begin(database, limits, ALICE)
    assert (caught.value.limit.resets_at, caught.value.retry_after_ms) == (None, 1000)
    assert await begin(database, limits, BOB)
    await end(database, limits, Used(begun[0], 5))
    assert await begin(database, limits, ALICE)


async def test_where_one_limit_is_full_nothing_is_taken_from_the_others(database: Database):
    await set_limit(database, 1000, name="wide")
    await set_limit(database, 10, name="narrow")
    limits = Limits(database)
    await begin(database, limits, ALICE, 10)
    with pytest.raises(QuotaExceeded) as caught:
        await begin(database, limits, ALICE, 1)
    assert caught.value.limit.name == "narrow"
    assert {status.name: status.reserved for status in await limits.statuses(ALICE)} == {"wide": 10, "narrow": 10}


async def test_of_several_full_limits_the_one_that_resets_last_is_told(database: Database):
    await set_limit(database, 1, Measure.REQUESTS, LimitWindow.MINUTE, name="minute")
    await set_limit(database, 1, Measure.REQUESTS, LimitWindow.MONTH, name="month")
    limits = Limits(database)
    await begin(database, limits, ALICE)
    with pytest.raises(QuotaExceeded) as caught:
        await begin(database, limits, ALICE)
    assert caught.value.limit.name == "month"


async def test_what_is_more_than_the_whole_limit_is_refused_for_good(database: Database):
    await set_limit(database, 10)
    with pytest.raises(QuotaExceeded, match="more than the limit") as caught:
        await begin(database, Limits(database), ALICE, 11)
    assert (caught.value.retryable, caught.value.retry_after_ms) == (False, None)


@pytest.mark.parametrize("at_its_end", [False, True])
async def test_a_window_that_is_over_begins_anew(database: Database, at_its_end: bool):
    await set_limit(database, 1, Measure.REQUESTS, LimitWindow.MINUTE)
    limits = Limits(database)
    first = await begin(database, limits, ALICE)
    async with database.transaction() as tx:
        over = now() if at_its_end else now() - timedelta(hours=1)
        await tx.execute(update(LimitCounter).values(window_end=over))
    await begin(database, limits, ALICE)
    await end(database, limits, Used(first, 3))  # of the window before: it takes nothing from this one
    [status] = await limits.statuses(ALICE)
    assert (status.used, status.reserved) == (0, 1)


async def test_a_minute_begins_with_the_first_request(database: Database):
    await set_limit(database, 1, Measure.REQUESTS, LimitWindow.MINUTE)
    limits, since = Limits(database), now()
    await begin(database, limits, ALICE)
    with pytest.raises(RateLimited) as caught:
        await begin(database, limits, ALICE)
    resets_at = caught.value.limit.resets_at
    assert resets_at is not None
    assert since + timedelta(minutes=1) <= resets_at <= now() + timedelta(minutes=1)
    assert 0 < (caught.value.retry_after_ms or 0) <= 60_000


async def test_each_has_a_counter_of_its_own(database: Database):
    await set_limit(database, 1, Measure.REQUESTS, LimitWindow.DAY, LimitDimension.USER, LimitDimension.MODEL)
    limits = Limits(database)
    await begin(database, limits, ALICE)
    await begin(database, limits, BOB)
    await begin(database, limits, Asking(ALICE.user_id, "developer", model="qwen3"))
    with pytest.raises(QuotaExceeded) as caught:
        await begin(database, limits, ALICE)
    scope = {LimitDimension.USER: str(ALICE.user_id), LimitDimension.MODEL: "llama3"}
    assert dict(caught.value.limit.scope) == scope


async def test_a_group_of_several_counts_for_each(database: Database):
    first, second = new_id(), new_id()
    await set_limit(database, 2, Measure.REQUESTS, LimitWindow.DAY, LimitDimension.GROUP)
    limits = Limits(database)
    both = Asking(ALICE.user_id, "developer", frozenset({first, second}))
    await begin(database, limits, both)
    await begin(database, limits, Asking(BOB.user_id, "developer", frozenset({first})))
    with pytest.raises(QuotaExceeded) as caught:
        await begin(database, limits, both)
    assert caught.value.limit.scope[LimitDimension.GROUP] == str(first)


@pytest.mark.parametrize(
    ("exceptions", "allowed"),
    [
        ({}, 1),
        ({(ExceptionKind.ROLE, "developer"): 2}, 2),
        ({(ExceptionKind.ROLE, "developer"): 2, (ExceptionKind.USER, str(ALICE.user_id)): 3}, 3),
        ({(ExceptionKind.USER, str(ALICE.user_id)): None}, None),
        ({(ExceptionKind.USER, str(BOB.user_id)): 3}, 1),
    ],
)
async def test_exceptions_allow_another_amount(
    sqlite_url: str, exceptions: dict[tuple[ExceptionKind, str], int | None], allowed: int | None
):
    database = Database(sqlite_url)
    await set_limit(database, 1, Measure.REQUESTS, LimitWindow.DAY, LimitDimension.USER, exceptions=exceptions)
    let_in = await admitted([(database, Limits(database))], ALICE, 5)
    await database.close()
    assert let_in == (5 if allowed is None else allowed)


async def test_a_limit_that_another_gateway_has_removed_fails_nothing(database: Database):
    limit_id = await set_limit(database, 100)
    limits = Limits(database, identity_max_age=60)
    await limits.rules()
    async with database.transaction() as tx:
        await queries.limit.remove(tx, limit_id)
    await begin(database, limits, ALICE, 5)
    await limits.purge()
    assert await reserved(database) == 0


async def test_nothing_is_limited_where_limits_are_off(sqlite_url: str):
    database = Database(sqlite_url)
    await set_limit(database, 0)
    await begin(database, Limits(database, enabled=False), ALICE, 1000)
    await database.close()


async def test_who_waits_is_let_in_when_there_is_room(database: Database, others: list[tuple[Database, Limits]]):
    await set_limit(database, 1, Measure.PARALLEL, None)
    limits = Limits(database)
    first = await begin(database, limits, ALICE)
    with pytest.raises(RateLimited) as caught:
        await begin(database, limits, ALICE)
    waiting = new_id()
    await add_generation(database, waiting)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(limits.wait_and_reserve, waiting, 1, partial(limits.claims, ALICE, Needs(1)), caught.value)
        await settled()
        await end(*others[0], Used(first, 1))
    assert (await limits.statuses(ALICE))[0].reserved == 1


def test_days_are_those_of_the_time_zone():
    at = datetime(2026, 3, 29, 12, tzinfo=UTC)
    day = span(LimitWindow.DAY, at, ZoneInfo("Europe/Berlin"))  # the clock is set forward: 23 hours
    assert day.start == datetime(2026, 3, 28, 23, tzinfo=UTC)
    assert day.end == datetime(2026, 3, 29, 22, tzinfo=UTC)
    month = span(LimitWindow.MONTH, datetime(2026, 12, 31, 23, 30, tzinfo=UTC), ZoneInfo("Europe/Berlin"))
    assert (month.start, month.end) == (datetime(2026, 12, 31, 23, tzinfo=UTC), datetime(2027, 1, 31, 23, tzinfo=UTC))


@on_postgresql
async def test_a_limit_is_removed_while_more_is_reserved_of_it(database: Database, database_url: str):
    await set_limit(database, 1000)
    limits, other = Limits(database), Database(database_url)
    generation_id = await begin(database, limits, ALICE, tokens=10)
    [rule] = await limits.rules()
    async with anyio.create_task_group() as tasks:
        async with other.transaction() as tx:
            await tx.execute(delete(Reservation))  # with which a removal begins
            tasks.start_soon(limits.reserve_again, ALICE, generation_id, Needs(20))
            with anyio.fail_after(30):
                while await database_is_idle(database):
                    await pause()
            await queries.limit.remove(tx, rule.id)
    assert await reserved(database) == 0
    await other.close()


async def database_is_idle(database: Database) -> bool:
    """Tell whether nobody waits for a lock."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    async with database.reading() as session:
        return not await session.scalar(text(waiting))
