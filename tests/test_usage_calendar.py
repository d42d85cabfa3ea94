"""Hours, days, weeks and months of any time zone, as a plain computation in Python has them, on both databases."""

import os
import random
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from auth.principal import Principal
from auth.scopes import ALL_SCOPES
from db.clock import new_id
from db.engine import Database
from db.tables import UsageRecord, User
from gateway.usage import Granularity, Usage, UsageDimension, UsageRequest
from gateway.usage.calendar import boundaries

ZONES = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Asia/Kolkata",  # half an hour
    "Asia/Kathmandu",  # three quarters
    "Australia/Lord_Howe",  # half an hour of summer time
    "America/Havana",  # midnight comes twice in autumn, and not at all in spring
    "Africa/Cairo",
    "America/Santiago",
    "Africa/Casablanca",  # four changes a year
    "Pacific/Chatham",
    "America/Nuuk",
    "Etc/GMT+12",
    "Pacific/Kiritimati",
]
EDGES = [timedelta(0), timedelta(microseconds=-1), timedelta(microseconds=-499), timedelta(microseconds=1)]
YEAR = (datetime(2024, 7, 1, 3, 4, 5, 678_901, tzinfo=UTC), datetime(2025, 7, 1, tzinfo=UTC))
YEAR_HALF = timedelta(days=183)


def hour(at: datetime, zone: ZoneInfo) -> object:
    """Of an hour that comes twice, which of them; where the clock is set back by half an hour, it is one long hour."""
    wall = at.astimezone(zone)
    ahead = ((wall.utcoffset() or timedelta(0)) - least_offset(zone)) // timedelta(hours=1)
    return (wall.year, wall.month, wall.day, wall.hour), ahead


@cache
def least_offset(zone: ZoneInfo) -> timedelta:
    return min(moment.astimezone(zone).utcoffset() or timedelta(0) for moment in (*YEAR, YEAR[0] + YEAR_HALF))


def day(at: datetime, zone: ZoneInfo) -> object:
    return at.astimezone(zone).date()


def week(at: datetime, zone: ZoneInfo) -> object:
    return at.astimezone(zone).isocalendar()[:2]


def month(at: datetime, zone: ZoneInfo) -> object:
    wall = at.astimezone(zone)
    return wall.year, wall.month


def always(at: datetime, zone: ZoneInfo) -> object:
    return None


PLAINLY: dict[Granularity, Callable[[datetime, ZoneInfo], object]] = {
    Granularity.HOUR: hour,
    Granularity.DAY: day,
    Granularity.WEEK: week,
    Granularity.MONTH: month,
    Granularity.NONE: always,
}


def moments(rng: random.Random) -> list[datetime]:
    """Moments all over the year, many of them at the beginning of a bucket or just before it."""
    start, end = YEAR
    found = [start + rng.random() * (end - start) for _ in range(60)]
    for name in ZONES:
        for granularity in (Granularity.DAY, Granularity.HOUR):
            bounds = boundaries(start, end, ZoneInfo(name), granularity)[1:-1]
            odd = [
                begin for begin, until in pairwise(bounds) if until - begin not in (timedelta(1), timedelta(hours=1))
            ]
            chosen = [*odd, *(begin + (until - begin) for begin, until in pairwise(bounds) if begin in odd)]
            found += [at + rng.choice(EDGES) for at in [*chosen, *rng.sample(bounds, 4)]]
    return [at for at in found if start <= at < end]


async def some_usage(database: Database, rng: random.Random) -> tuple[Principal, list[UsageRecord]]:
    user = User(id=new_id(), username="ada", password_hash="!")
    rows = [
        UsageRecord(
            generation_id=new_id(),
            user_id=user.id,
            model=rng.choice(["a", "B"]),
            prompt_tokens=rng.choice([0, 1, 2**31 - 1]),
            completion_tokens=rng.randrange(1000),
            cached_tokens=rng.choice([None, 3]),
            source="BACKEND",
            backend="b",
            state=rng.choice(["COMPLETED", "FAILED"]),
            at=at,
        )
        for at in moments(rng)
    ]
    async with database.transaction() as tx:
        tx.add(user)
        await tx.flush()
        tx.add_all(rows)
    return Principal(user.id, user.username, ALL_SCOPES), rows


@pytest.mark.parametrize("seed", range(int(os.environ.get("SEEDS", "1"))))
async def test_a_report_is_what_plain_python_makes_of_the_ledger(database: Database, seed: int):
    principal, rows = await some_usage(database, random.Random(seed))
    for name in ZONES:
        zone = ZoneInfo(name)
        for granularity, plainly in PLAINLY.items():
            request = UsageRequest(*YEAR, name, granularity, [UsageDimension.MODEL])
            report = await Usage(database).report(principal, request)
            wanted: Counter[object] = Counter()
            tokens: Counter[object] = Counter()
            for row in rows:
                unit = plainly(row.at, zone), row.model
                wanted[unit] += 1
                tokens[unit] += row.prompt_tokens
            found = {(plainly(row.start, zone), row.model): row.sums for row in report.rows}
            assert len(found) == len(report.rows), (name, granularity)
            assert {key: sums.generations for key, sums in found.items()} == wanted, (name, granularity)
            assert {key: sums.prompt_tokens for key, sums in found.items()} == tokens, (name, granularity)
            assert report.totals.generations == len(rows)
            assert report.totals.completed == sum(row.state == "COMPLETED" for row in rows)


@pytest.mark.parametrize("granularity", Granularity)
@pytest.mark.parametrize("name", ZONES)
def test_buckets_are_the_longest_times_of_one_unit(name: str, granularity: Granularity):
    """Each second before a boundary belongs to another unit than the boundary itself."""
    zone, plainly = ZoneInfo(name), PLAINLY[granularity]
    bounds = boundaries(*YEAR, zone, granularity)
    assert (bounds[0], bounds[-1]) == YEAR
    assert bounds == sorted(set(bounds))
    unit = plainly(bounds[0], zone)
    for begin, end in pairwise(bounds):
        assert plainly(end - timedelta(microseconds=1), zone) == unit, (begin, end)
        last, unit = unit, plainly(end, zone)
        assert end == YEAR[1] or unit != last, end


@pytest.mark.parametrize(
    ("name", "on", "hours"),
    [
        ("Europe/Berlin", datetime(2025, 3, 30), 23),
        ("Europe/Berlin", datetime(2025, 10, 26), 25),
        ("Australia/Lord_Howe", datetime(2025, 4, 6), 24.5),
        ("America/Santiago", datetime(2025, 9, 7), 23),
        ("America/Havana", datetime(2025, 11, 2), 25),
    ],
)
def test_a_day_is_as_long_as_its_clock_makes_it(name: str, on: datetime, hours: float):
    zone = ZoneInfo(name)
    around = [on.replace(tzinfo=UTC) + days * timedelta(days=1) for days in (-3, 4)]
    days = {(begin + timedelta(hours=2)).astimezone(zone).date(): end - begin for begin, end in pairwise(
        boundaries(around[0], around[1], zone, Granularity.DAY))}  # fmt: skip
    assert days[on.date()] == timedelta(hours=hours)


def test_a_day_that_its_clock_leaves_and_begins_again_begins_once():
    """In Newfoundland the clock went from 00:01 back to 23:01 of the day before, until 2011."""
    bounds = boundaries(
        datetime(2010, 11, 6, 12, tzinfo=UTC), datetime(2010, 11, 8, 12, tzinfo=UTC), ZoneInfo("America/St_Johns"),
        Granularity.DAY,
    )  # fmt: skip
    assert bounds[1:-1] == [datetime(2010, 11, 7, 2, 30, tzinfo=UTC), datetime(2010, 11, 8, 3, 30, tzinfo=UTC)]


def test_a_day_that_its_clock_skips_is_not_there():
    """Samoa had no 30 December in 2011."""
    bounds = boundaries(
        datetime(2011, 12, 29, 12, tzinfo=UTC), datetime(2011, 12, 31, 12, tzinfo=UTC), ZoneInfo("Pacific/Apia"),
        Granularity.DAY,
    )  # fmt: skip
    assert bounds[1:-1] == [datetime(2011, 12, 30, 10, tzinfo=UTC), datetime(2011, 12, 31, 10, tzinfo=UTC)]
