"""How a report is put together: of sums over days and over shorter times, and at its ends of the ledger's rows.

The ends of a bucket of a day or more are moved to the nearest midnight of UTC, and what lies between is corrected with
the shorter sums. In Berlin's summer a day begins at 22:00 UTC:

              22:00 00:00               22:00 00:00
    bucket      ├─────────────────────────┤
    UTC day           ├─────────────────────────┤     one sum of a day
    corrected   ├added┤                   ├taken┤     sixteen sums of quarters of an hour, not ninety-six

Days that are most of a month are read as the month, without its other days.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from db.queries import Month, Segment, Span
from gateway.usage.groupings import DAY, MONTH

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is read for a report: sums, and the times of which rows are read, since no sum begins or ends there."""

    segments: Sequence[Segment]
    edges: Sequence[Span]


def plan(bounds: Sequence[datetime], seconds: int, months: Sequence[Month] = ()) -> Plan:
    """Plan for buckets between bounds, with sums over these months, over days, and over so many seconds."""
    segments: list[Segment] = []
    edges: list[Span] = []
    for bucket, (start, end) in enumerate(pairwise(bounds)):
        low, high = -(-(start - _EPOCH) // timedelta(seconds=seconds)), (end - _EPOCH) // timedelta(seconds=seconds)
        if low >= high:
            edges.append((start, end))
            continue
        first, last = _moment(low * seconds), _moment(high * seconds)
        edges += [span for span in ((start, first), (last, end)) if span[0] < span[1]]
        segments += _segments(bucket, low * seconds, high * seconds, seconds, months)
    return Plan(segments, _joined(edges))


def _segments(bucket: int, low: int, high: int, seconds: int, months: Sequence[Month]) -> Iterator[Segment]:
    """Divide a bucket that begins and ends where sums do."""
    first, last = _nearest_day(low), _nearest_day(high)
    if first >= last:
        yield Segment(seconds, low, high, bucket, 1)
        return
    yield from _days(bucket, first, last, months)
    if low != first:
        yield Segment(seconds, min(low, first), max(low, first), bucket, 1 if low < first else -1)
    if high != last:
        yield Segment(seconds, min(high, last), max(high, last), bucket, 1 if high > last else -1)


def _days(bucket: int, first: int, last: int, months: Sequence[Month]) -> Iterator[Segment]:
    """Divide days into months, days that they lack (or days that they have too many), and the days between."""
    for start, until in months:
        low, high = max(first, start), min(last, until)
        if 2 * (high - low) <= until - start:
            continue
        yield Segment(MONTH, start, start + 1, bucket, 1)
        others = ((first, low, 1), (start, low, -1), (high, until, -1))
        yield from (Segment(DAY, begin, end, bucket, sign) for begin, end, sign in others if begin < end)
        first = high
    if first < last:
        yield Segment(DAY, first, last, bucket, 1)


def _nearest_day(at: int) -> int:
    return (at + DAY // 2) // DAY * DAY


def _joined(spans: Sequence[Span]) -> list[Span]:
    """Make one of spans that follow upon each other."""
    found: list[Span] = []
    for start, end in spans:
        if found and found[-1][1] == start:
            found[-1] = found[-1][0], end
        else:
            found.append((start, end))
    return found


def _moment(epoch: int) -> datetime:
    return _EPOCH + timedelta(seconds=epoch)
