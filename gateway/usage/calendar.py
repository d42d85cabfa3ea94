"""How time is cut into hours, days, weeks and months of a time zone.

A time zone's offset from UTC changes now and then, so that a day may have 23 or 25 hours, and the clock may jump over
midnight or strike it twice. What is cut is therefore real time, piece by piece of one offset. A bucket begins at the
moment when the local clock first shows a time that belongs to it, and ends when the next one begins.
"""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import pairwise
from zoneinfo import ZoneInfo

from db.queries import BucketRun


class Granularity(StrEnum):
    """How long a bucket is."""

    HOUR = "HOUR"
    DAY = "DAY"
    WEEK = "WEEK"
    MONTH = "MONTH"
    NONE = "NONE"


def boundaries(start: datetime, end: datetime, zone: ZoneInfo, granularity: Granularity) -> list[datetime]:
    """Give the moments in UTC at which buckets begin, from `start` on, and behind them `end`."""
    found = [start]
    latest: datetime | None = None
    hourly = granularity is Granularity.HOUR
    floor, following = _UNITS[granularity]
    for begin, until, offset in _pieces(start, end, zone):
        wall = begin.replace(tzinfo=None) + offset
        unit = floor(wall)
        if latest is not None and (unit > latest or (hourly and (unit != latest or unit == wall))):
            found.append(begin)
        latest = unit if hourly or latest is None else max(unit, latest)
        while (at := ((unit := following(unit)) - offset).replace(tzinfo=UTC)) < until:
            if hourly or unit > latest:  # else the clock was set back over midnight, and the day has begun already
                found.append(at)
                latest = unit
    return [*found, end]


def runs(bounds: list[datetime]) -> list[BucketRun]:
    """Describe buckets to the database: a year has few runs of days of one length, and 366 days."""
    found: list[BucketRun] = []
    for number, (begin, end) in enumerate(pairwise(bounds)):
        whole = not begin.microsecond and not end.microsecond
        seconds = int((end - begin).total_seconds()) if whole else None
        if seconds is None or not found or found[-1].seconds != seconds:
            found.append(BucketRun(begin, seconds, number))
    return found


def quarter_before(at: datetime) -> datetime:
    """Give the quarter of an hour of UTC in which a moment lies."""
    return at - timedelta(minutes=at.minute % 15, seconds=at.second, microseconds=at.microsecond)


def period_before(start: datetime, end: datetime, zone: ZoneInfo) -> datetime:
    """Give the start of the period that ends at `start`: as many months if those are whole, else as long on the wall.

    March is compared with February, and a day on which the clock is changed with the whole day before.
    """
    first, last = (moment.astimezone(zone).replace(tzinfo=None) for moment in (start, end))
    if first == _month(first) and last == _month(last):
        months = 12 * (last.year - first.year) + last.month - first.month
        place = 12 * first.year + first.month - 1 - months
        before = first.replace(year=place // 12, month=place % 12 + 1)
    else:
        before = first - (last - first)
    found = before.replace(tzinfo=zone).astimezone(UTC)
    return found if found < start else start - (end - start)


def _pieces(start: datetime, end: datetime, zone: ZoneInfo) -> Iterator[tuple[datetime, datetime, timedelta]]:
    """Cut a time where the offset of the zone changes. No zone changes it twice within a day."""
    begin, offset = start, _offset(start, zone)
    at = start
    while at < end:
        probe = min(at + timedelta(days=1), end)
        if (changed := _offset(probe, zone)) != offset and (change := _change(at, probe, zone)) < end:
            yield begin, change, offset
            begin, offset = change, changed
        at = probe
    yield begin, end, offset


def _change(before: datetime, after: datetime, zone: ZoneInfo) -> datetime:
    """Find the moment of a change between two; all changes come at whole seconds."""
    before, old = before.replace(microsecond=0), _offset(before, zone)
    low, high = 0, -int((before - after) // timedelta(seconds=1))  # rounded up
    while high - low > 1:
        middle = (low + high) // 2
        if _offset(before + timedelta(seconds=middle), zone) == old:
            low = middle
        else:
            high = middle
    return before + timedelta(seconds=high)


def _offset(at: datetime, zone: ZoneInfo) -> timedelta:
    return at.astimezone(zone).utcoffset() or timedelta(0)


def _hour(wall: datetime) -> datetime:
    return wall.replace(minute=0, second=0, microsecond=0)


def _day(wall: datetime) -> datetime:
    return _hour(wall).replace(hour=0)


def _week(wall: datetime) -> datetime:
    """Begin on Monday, as ISO 8601 has it."""
    return _day(wall) - timedelta(days=wall.weekday())


def _month(wall: datetime) -> datetime:
    return _day(wall).replace(day=1)


_UNITS: dict[Granularity, tuple[Callable[[datetime], datetime], Callable[[datetime], datetime]]] = {
    Granularity.HOUR: (_hour, lambda unit: unit + timedelta(hours=1)),
    Granularity.DAY: (_day, lambda unit: unit + timedelta(days=1)),
    Granularity.WEEK: (_week, lambda unit: unit + timedelta(weeks=1)),
    Granularity.MONTH: (_month, lambda unit: _month(unit + timedelta(days=31))),
    Granularity.NONE: (lambda wall: datetime.min, lambda unit: datetime.max - timedelta(days=2)),
}
"""The beginning of the unit that holds a time on the wall, and the beginning of the following unit."""
