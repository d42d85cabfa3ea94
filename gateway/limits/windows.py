"""The windows of time in which limits count."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo


class LimitWindow(StrEnum):
    """How long what was used counts."""

    MINUTE = "MINUTE"
    DAY = "DAY"
    MONTH = "MONTH"


@dataclass(frozen=True, slots=True)
class Span:
    """From `start` up to and without `end`, both with a zone; without an end, what runs at once.

    `following_end` is the end of the window after this one, None where no window of the calendar is meant.
    """

    start: datetime
    end: datetime | None
    following_end: datetime | None = None


def span(window: LimitWindow | None, at: datetime, zone: ZoneInfo) -> Span:
    """Give the window that would be open at `at`.

    A minute begins with what is counted first in it, so that no two minutes side by side let twice as much through
    within a moment of each other. Days and months are those of the calendar: a day of 23 or 25 hours is one day.
    """
    if window is None:
        return Span(at, None)
    if window is LimitWindow.MINUTE:
        return Span(at, at + timedelta(minutes=1))
    today = at.astimezone(zone).date()
    if window is LimitWindow.DAY:
        return Span(*(_midnight(today + timedelta(days=number), zone) for number in range(3)))
    first = today.replace(day=1)
    return Span(*(_midnight((first + timedelta(days=31 * number)).replace(day=1), zone) for number in range(3)))


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    return datetime.combine(day, time.min, zone).astimezone(UTC)
