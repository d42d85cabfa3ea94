"""Sums that are kept ahead say what the ledger's rows say, however rows come into them, on both databases."""

import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import anyio
import pytest
from sqlalchemy import func, select

from auth.principal import Principal
from auth.scopes import ALL_SCOPES
from db import migrations, queries
from db.clock import new_id, now
from db.engine import Database
from db.queries import Month
from db.queries.usage.waiting import mark_rolled_up
from db.tables import UsageKey, UsageRecord, User
from gateway.errors import InvalidInput
from gateway.usage import (
    Granularity,
    Rollups,
    Usage,
    UsageDimension,
    UsageFilter,
    UsageReport,
    UsageRequest,
    UsageUpkeep,
)
from gateway.usage.histograms import Measure, bin_of, middle_of
from gateway.usage.months import month_of

START = datetime(2026, 2, 20, tzinfo=UTC)
SEED = 17  # others were tried: the databases are too slow for many
DAYS = 56  # a whole month, with the day on which clocks in Europe go forward
ZONES = [
    "UTC",
    "Europe/Berlin",
    "Asia/Kolkata",
    "America/St_Johns",
    "Asia/Kathmandu",
    "Pacific/Kiritimati",
    "Pacific/Niue",
]
SINGLE = [[dimension] for dimension in UsageDimension]
ASKED = [[], *SINGLE, [UsageDimension.MODEL, UsageDimension.USER], [UsageDimension.TAG, UsageDimension.MODEL]]


class Undone(Exception):
    """A transaction is undone at its end."""


def some_row(
    rng: random.Random, users: Sequence[UUID], keys: Sequence[UUID], groups: Sequence[str], begin: datetime
) -> UsageRecord:
    state = rng.choice(["COMPLETED", "COMPLETED", "CANCELLED", "FAILED"])
    user = rng.randrange(len(users))
    priced = rng.random() < 0.6
    return UsageRecord(
        generation_id=new_id(),
        user_id=users[user],
        api_key_id=rng.choice([None, keys[user]]),
        model=rng.choice(["a", "B"]),
        backend=rng.choice(["x", "y"]),
        state=state,
        finish_reason=rng.choice(["stop", "length"]) if state == "COMPLETED" else None,
        tags={name: rng.choice(["", "1"]) for name in rng.sample(["t", "u"], rng.randrange(3))} or None,
        end_user=rng.choice([None, "eve", "\x01"]),
        group_ids=rng.sample(list(groups), rng.randrange(3)) or None,
        prompt_tokens=rng.choice([1, 2**31 - 1]),
        completion_tokens=rng.randrange(1000),
        cached_tokens=rng.choice([None, 7]),
        thinking_tokens=rng.choice([None, 3]),
        source="BACKEND",
        at=begin + timedelta(microseconds=rng.randrange(DAYS * 86_400_000_000)),
        time_to_first_token_ms=rng.choice([None, rng.randrange(5_000)]),
        last_token_ms=5_000,
        total_ms=rng.randrange(5_000, 9_000),
        eval_ms=rng.choice([None, rng.randrange(9_000)]),
        cost_nano=rng.choice([1, 10**9 + 1, 2**62]) if priced else None,
        currency=rng.choice(["EUR", "USD"]) if priced else None,
        rolled_up=False,
    )


async def fill(database: Database, rng: random.Random, number: int, begin: datetime = START) -> Principal:
    users = [User(id=new_id(), username=name, password_hash="!") for name in ("ada", "bob")]
    keys, groups = [new_id(), new_id()], [str(new_id()) for _ in range(3)]
    rows = [some_row(rng, [user.id for user in users], keys, groups, begin) for _ in range(number)]
    async with database.transaction() as tx:
        tx.add_all(users)
        await tx.flush()
        tx.add_all(rows)
    return Principal(users[0].id, "ada", ALL_SCOPES)


async def roll_up(database: Database, rng: random.Random) -> None:
    """Add rows in transactions of any size, some of which are undone; leave some rows for reports to read."""
    rollups = Rollups()
    async with database.reading() as session:
        rows = [dict(row) for row in (await session.execute(select(UsageRecord.__table__))).mappings()]
    rng.shuffle(rows)
    rows = rows[len(rows) // 10 :]
    while rows:
        some, rows = rows[:9], rows[9:]
        try:
            async with database.transaction() as tx:
                await rollups.add(tx, some)
                await mark_rolled_up(tx, [row["generation_id"] for row in some])
                if rng.random() < 0.2:
                    raise Undone
            rollups.committed()
        except Undone:
            rows += some


async def valid_months(database: Database) -> list[Month]:
    async with database.reading() as session:
        return await queries.usage.months.valid(session, 0, int(now().timestamp()))


def told(report: UsageReport) -> dict[Any, Any]:
    names = ("start", "model", "api_key_id", "user_id", "backend", "state", "finish_reason", "end_user")
    names += ("tag_name", "tag_value", "group_id")
    rows = {tuple(getattr(row, name) for name in names): (row.sums, row.times, row.previous) for row in report.rows}
    assert len(rows) == len(report.rows)
    return {"rows": rows, "totals": report.totals, "times": report.times, "previous": report.previous}


def some_request(rng: random.Random, by: Sequence[UsageDimension]) -> UsageRequest:
    begin = START + timedelta(days=rng.randrange(DAYS // 2), seconds=rng.choice([0, 3_600, 5_400, 12_345]))
    end = begin + timedelta(days=rng.randrange(1, DAYS // 2), seconds=rng.choice([0, 0, 1, 45_000]))
    chosen: dict[str, Any] = {"all_users": True}
    if rng.random() < 0.5:
        chosen |= rng.choice(
            [
                {"all_users": False},
                {"models": ["a"]},
                {"states": ["FAILED"]},
                {"tags": [("t", "1")]},
                {"end_users": ["\x01"]},
            ]
        )
    return UsageRequest(
        begin,
        end,
        rng.choice(ZONES),
        rng.choice(list(Granularity)),
        by,
        UsageFilter(**chosen),
        percentiles=True,
        previous=True,
    )


async def test_reports_from_sums_and_from_rows_are_the_same(database: Database):
    rng = random.Random(SEED)
    principal = await fill(database, rng, 200)
    usage = Usage(database)
    asked = [some_request(rng, by) for by in ASKED]
    months = UsageRequest(START - timedelta(days=49), START + timedelta(days=100), "Asia/Kathmandu", Granularity.MONTH)
    asked += [replace(months, group_by=by, filter=UsageFilter(all_users=True), percentiles=True) for by in ASKED]
    # no sum is there yet: everything is read from the rows
    from_rows = [told(await usage.report(principal, request)) for request in asked]
    upkeep = UsageUpkeep(database, 0)
    await roll_up(database, rng)
    # sums of days; months of them; days with what came late, for which no month counts any more; months made anew
    for work, months in ((None, 0), (upkeep.make_months, 3), (upkeep.catch_up, 0), (upkeep.make_months, 3)):
        if work is not None:
            await work()
        assert len(await valid_months(database)) == months
        for request, rows in zip(asked, from_rows, strict=True):
            assert told(await usage.report(principal, request)) == rows
    async with database.reading() as session:
        assert await session.scalar(select(func.count()).where(~UsageRecord.rolled_up)) == 0


async def test_sums_stay_when_rows_are_removed_and_what_needs_rows_says_so(database: Database):
    principal = await fill(database, random.Random(3), 60)
    upkeep, usage = UsageUpkeep(database, (now() - START).total_seconds() - 12 * 86_400), Usage(database)
    request = UsageRequest(
        START,
        START + timedelta(days=DAYS),
        "Asia/Kolkata",
        Granularity.DAY,
        [UsageDimension.MODEL],
        UsageFilter(all_users=True),
    )
    before = told(await usage.report(principal, request))
    assert await upkeep.purge() == 0  # rows that no sum has yet stay
    await upkeep.catch_up()
    assert 0 < await upkeep.purge() < 60
    assert told(await usage.report(principal, request)) == before
    odd = UsageRequest(START + timedelta(seconds=1), request.end, filter=request.filter)
    both = UsageRequest(START, request.end, group_by=[UsageDimension.TAG, UsageDimension.MODEL], filter=request.filter)
    for refused in (odd, both):
        with pytest.raises(InvalidInput, match="have been deleted"):
            await usage.report(principal, refused)


async def test_months_are_made_of_what_an_older_gateway_has_summed_up(database: Database):
    principal = await fill(database, random.Random(4), 60)
    upkeep, usage = UsageUpkeep(database, 0), Usage(database)
    request = UsageRequest(
        START, START + timedelta(days=DAYS), granularity=Granularity.NONE, filter=UsageFilter(all_users=True)
    )
    before = told(await usage.report(principal, request))
    await upkeep.catch_up()
    assert await upkeep.make_months() == 3
    await migrations.downgrade(database, "0022")
    await migrations.upgrade(database)
    assert await valid_months(database) == []
    assert told(await usage.report(principal, request)) == before
    assert await upkeep.make_months() == 3
    assert await upkeep.make_months() == 0
    assert told(await usage.report(principal, request)) == before


async def test_the_month_that_is_not_over_has_the_days_that_are(database: Database):
    begin = now() - timedelta(days=50)
    principal = await fill(database, random.Random(6), 60, begin)
    upkeep, usage = UsageUpkeep(database, 0), Usage(database)
    asked = [
        UsageRequest(begin, now(), zone, granularity, [UsageDimension.USER], UsageFilter(all_users=True))
        for zone in ZONES
        for granularity in (Granularity.MONTH, Granularity.NONE)
    ]
    before = [told(await usage.report(principal, request)) for request in asked]
    await upkeep.catch_up()
    await upkeep.make_months()
    assert (await valid_months(database))[-1].until <= now().timestamp()
    assert [told(await usage.report(principal, request)) for request in asked] == before


async def test_a_month_that_two_gateways_make_at_once_has_all_its_days(database: Database):
    principal = await fill(database, random.Random(5), 60)
    upkeep, usage = UsageUpkeep(database, 0), Usage(database)
    request = UsageRequest(START, START + timedelta(days=DAYS), "UTC", Granularity.MONTH, [UsageDimension.USER])
    request = replace(request, filter=UsageFilter(all_users=True))
    before = told(await usage.report(principal, request))
    await upkeep.catch_up()
    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(UsageUpkeep(database, 0).make_months)
    await upkeep.make_months()
    assert len(await valid_months(database)) == 3
    assert told(await usage.report(principal, request)) == before


async def test_a_report_that_needs_too_many_sums_is_refused_before_they_are_read(
    database: Database, monkeypatch: pytest.MonkeyPatch
):
    principal, usage = await fill(database, random.Random(7), 60), Usage(database)
    await UsageUpkeep(database, 0).catch_up()
    end = START + timedelta(days=DAYS)
    request = UsageRequest(START, end, filter=UsageFilter(all_users=True))
    async with database.reading() as session:
        keys = len((await session.scalars(select(UsageKey.id).where(UsageKey.grouping == "TOTAL"))).all())
    monkeypatch.setattr("gateway.usage.reading.MAX_SUMS", keys * DAYS)
    assert (await usage.report(principal, request)).totals.generations == 60
    half_an_hour_off, percentiles = replace(request, time_zone="Asia/Kolkata"), replace(request, percentiles=True)
    for refused in (half_an_hour_off, percentiles, replace(request, granularity=Granularity.HOUR)):
        with pytest.raises(InvalidInput, match=f"needs more than {keys * DAYS:,} sums: shorten"):
            await usage.report(principal, refused)
    assert sum([row.sums.generations async for rows in usage.export(principal, half_an_hour_off) for row in rows]) == 60


async def test_who_made_a_month_first_writes_no_more_once_another_has_begun(database: Database):
    """It may know fewer days, and would write its sums over those of more, which are noted to be whole."""
    await fill(database, random.Random(8), 60)
    await UsageUpkeep(database, 0).catch_up()
    first, month = new_id(), month_of(int(START.timestamp()))
    async with database.transaction() as tx:
        await queries.usage.months.begin(tx, month, first)
        assert await queries.usage.months.is_maker(tx, month, first)
    await UsageUpkeep(database, 0).make_months()
    assert month in await valid_months(database)
    async with database.transaction() as tx:
        assert not await queries.usage.months.is_maker(tx, month, first)


async def test_the_values_that_callers_make_up_get_a_limited_number_of_series(
    database: Database, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("gateway.usage.rollups.MOST_VALUES", 3)
    user = User(username="ada", password_hash="!")
    async with database.transaction() as tx:
        tx.add(user)
        await tx.flush()
        tx.add_all(
            UsageRecord(
                generation_id=new_id(),
                user_id=user.id,
                model="m",
                end_user=f"user {number % 7}",
                prompt_tokens=1,
                completion_tokens=number,
                source="BACKEND",
                at=START,
            )
            for number in range(20)
        )
    by = [UsageDimension.END_USER]
    request = UsageRequest(START, START + timedelta(days=1), group_by=by)
    principal, usage = Principal(user.id, "ada", ALL_SCOPES), Usage(database)
    before = told(await usage.report(principal, request))
    await UsageUpkeep(database, 0).catch_up()
    assert told(await usage.report(principal, request)) == before
    async with database.reading() as session:
        keys = (await session.scalars(select(UsageKey.end_user).where(UsageKey.grouping == "END_USER"))).all()
    assert len(keys) == 4


@pytest.mark.parametrize("number", [0, 1, 31, 32, 33, 63, 64, 1_000, 123_456, 2**31 - 1])
def test_what_is_read_from_a_bin_is_near_what_is_in_it(number: int):
    assert abs(middle_of(bin_of(number)) - number) <= number / 32


def test_bins_are_in_the_order_of_their_numbers():
    bins = [bin_of(number) for number in range(100_000)]
    assert bins == sorted(bins)
    assert len(set(bins)) == bins[-1] + 1


def test_a_measure_keeps_its_number():
    """It is in the database."""
    assert {measure.name: measure.value for measure in Measure} == {"TIME_TO_FIRST_TOKEN": 1, "TOKENS_PER_SECOND": 2}
