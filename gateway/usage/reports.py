"""What was used, in all and by time and dimensions."""

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from bisect import bisect_right
from collections import Counter
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Any, NamedTuple, cast
from uuid import UUID
from zoneinfo import ZoneInfo

import orjson

from auth.principal import Principal
from auth.scopes import Scope
from db import queries
from db.clock import now
from db.engine import Database
from db.queries import UsageChoice, UsageGroup
from db.queries import UsageSums as UsageSums
from gateway.errors import Forbidden, InvalidInput
from gateway.time_zones import stored_zone, time_zone
from gateway.usage.calendar import Granularity, boundaries, period_before, quarter_before
from gateway.usage.groupings import multiplies
from gateway.usage.histograms import Measure, Percentiles, percentiles
from gateway.usage.names import UsageNames, names_of
from gateway.usage.reading import Groups, TooManyRows, UsageReader

DEFAULT_RANGE = timedelta(days=30)
MAX_RANGE = timedelta(days=366)

EXPORTED_AT_ONCE = 64
"""Buckets of an export that are read at once, or fewer, where they have many rows."""

EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
LATEST = datetime(9000, 1, 1, tzinfo=UTC)
"""Years in which every time zone can be reckoned with; nothing was used outside them."""


class UsageDimension(StrEnum):
    """What rows can be grouped by."""

    MODEL = "MODEL"
    API_KEY = "API_KEY"
    USER = "USER"
    BACKEND = "BACKEND"
    FINISH = "FINISH"
    TAG = "TAG"
    END_USER = "END_USER"
    GROUP = "GROUP"


_COLUMNS: Mapping[UsageDimension, Sequence[str]] = {
    UsageDimension.MODEL: ("model",),
    UsageDimension.API_KEY: ("api_key_id",),
    UsageDimension.USER: ("user_id",),
    UsageDimension.BACKEND: ("backend",),
    UsageDimension.FINISH: ("state", "finish_reason"),
    UsageDimension.TAG: queries.usage.TAG,
    UsageDimension.END_USER: ("end_user",),
    UsageDimension.GROUP: (queries.usage.GROUP,),
}


class UsageOrder(StrEnum):
    """What comes first. Rows that are equal in it come by time, then by their dimensions."""

    OLDEST_FIRST = "OLDEST_FIRST"
    NEWEST_FIRST = "NEWEST_FIRST"
    MOST_GENERATIONS = "MOST_GENERATIONS"
    MOST_TOKENS = "MOST_TOKENS"


@dataclass(frozen=True, slots=True)
class UsageFilter:
    """Which generations count; None takes all.

    `user_ids` None is the caller alone, unless `all_users` is set. Other users are for administrators only. `tags` are
    names and values: a generation must have one of the values for each of the names. `group_ids` are groups, in one of
    which the user must have been.
    """

    models: Sequence[str] | None = None
    api_key_ids: Sequence[UUID] | None = None
    user_ids: Sequence[UUID] | None = None
    all_users: bool = False
    backends: Sequence[str] | None = None
    states: Sequence[str] | None = None
    finish_reasons: Sequence[str] | None = None
    tags: Sequence[tuple[str, str]] | None = None
    end_users: Sequence[str] | None = None
    group_ids: Sequence[UUID] | None = None


@dataclass(frozen=True, slots=True)
class UsageRequest:
    """What is asked: `end` is not part of the time; without a `start` it is 30 days, without an `end` up to now.

    `time_zone` None is the caller's own.
    `percentiles`, and a comparison with the period before, cost more statements.
    """

    start: datetime | None = None
    end: datetime | None = None
    time_zone: str | None = None
    granularity: Granularity = Granularity.DAY
    group_by: Sequence[UsageDimension] = ()
    filter: UsageFilter = field(default_factory=UsageFilter)
    percentiles: bool = False
    previous: bool = False


Times = Mapping[Measure, Percentiles]
"""How fast generations were; a measure that is known of none of them is not there."""


class UsageRow(NamedTuple):
    """What was used from `start` up to and without `end`; dimensions that were not asked for are None."""

    start: datetime
    end: datetime
    sums: UsageSums
    model: str | None = None
    api_key_id: UUID | None = None
    user_id: UUID | None = None
    backend: str | None = None
    state: str | None = None
    finish_reason: str | None = None
    end_user: str | None = None
    tag_name: str | None = None
    tag_value: str | None = None
    group_id: UUID | None = None
    times: Times = MappingProxyType({})
    previous: UsageSums | None = None
    """What the same dimensions had in the period before, in the bucket of the same place; None if not asked for."""


_Key = list[int | str]
"""What rows are sorted by."""

_SORTED_BY = [*queries.usage.DIMENSIONS, *queries.usage.TAG, queries.usage.GROUP]
"""The dimensions by which equal rows are sorted, None first. None of them is ever "", but for the value of a tag."""


@dataclass(frozen=True, slots=True)
class UsagePage:
    """Some rows of a report, each with its cursor."""

    rows: Sequence[tuple[str, UsageRow]]
    has_more: bool


@dataclass(frozen=True, slots=True)
class EarlierPeriod:
    """What was used in the period before: as long by the clock on the wall, and as many months if those are whole."""

    start: datetime
    end: datetime
    totals: UsageSums


@dataclass(frozen=True, slots=True)
class UsageReport:
    """Usage from `start` up to and without `end`, of one snapshot, so that all its numbers agree.

    In `totals` each generation counts once, also where it is in several rows. `times` and `previous` only if asked for.
    """

    start: datetime
    end: datetime
    rows: Sequence[UsageRow]
    totals: UsageSums
    times: Times = field(default_factory=dict[Measure, Percentiles])
    previous: EarlierPeriod | None = None

    def page(self, order: UsageOrder, first: int, after: str | None) -> UsagePage:
        """Give so many rows after a cursor, which need not be there any more. Raises InvalidInput for no cursor."""
        keyed = sorted(((_key(row, order), row) for row in self.rows), key=lambda pair: pair[0])
        begin = 0 if after is None else bisect_right(keyed, _read_cursor(after, order), key=lambda pair: pair[0])
        rows = [(_cursor(key, order), row) for key, row in keyed[begin : begin + first]]
        return UsagePage(rows, has_more=len(keyed) > begin + first)


class Usage:
    """Tells what was used."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def report(self, principal: Principal, request: UsageRequest) -> UsageReport:
        """Sum up the caller's own usage, or with the admin scope anyone's; by default of the last 30 days.

        Raises Forbidden; InvalidInput for a range that is reversed or too long, a zone that there is not, a report that
        is too long, and one that needs rows of the ledger that were removed.
        """
        choice = _choice(principal, request)
        zone = _zone(principal, request)
        start, end = _range(request)
        async with self._database.reading() as session:
            reader = UsageReader(session, await queries.usage.waiting.kept_since(session))
            if request.start is None and reader.kept_since is not None and start < reader.kept_since:
                start = quarter_before(start)
            bounds = boundaries(start, end, zone, request.granularity)
            return await _report(reader, choice, request, bounds, zone)

    async def export(self, principal: Principal, request: UsageRequest) -> AsyncGenerator[Sequence[UsageRow]]:
        """Give the rows of a report of any length in portions, oldest first; raises as `report` does.

        Each portion is some buckets, read in a snapshot of its own: memory holds one, and no transaction is open while
        it is sent. One bucket may have as many rows as a report.
        """
        start, end = _range(request)
        bounds = boundaries(start, end, _zone(principal, request), request.granularity)
        place, portion = 0, EXPORTED_AT_ONCE
        while place < len(bounds) - 1:
            following = min(place + portion, len(bounds) - 1)
            part = replace(request, start=bounds[place], end=bounds[following])
            try:
                report = await self.report(principal, part)
            except TooManyRows:
                if portion == 1:
                    raise
                portion = max(1, portion // 4)
                continue
            yield sorted(report.rows, key=lambda row: _key(row, UsageOrder.OLDEST_FIRST))
            place = following

    async def names(self, principal: Principal, rows: Sequence[UsageRow]) -> UsageNames:
        """Give the names of the users, keys and groups of some rows, as far as the caller may see them."""
        async with self._database.reading() as session:
            return await names_of(
                session,
                principal,
                user_ids={row.user_id for row in rows},
                api_key_ids={row.api_key_id for row in rows},
                group_ids={row.group_id for row in rows},
            )


async def _report(
    reader: UsageReader, choice: UsageChoice, request: UsageRequest, bounds: list[datetime], zone: ZoneInfo
) -> UsageReport:
    whole, once = [bounds[0], bounds[-1]], replace(choice, dimensions=())
    several = multiplies(choice.dimensions)
    groups = await reader.sums(choice, bounds)
    times = await reader.histograms(choice, bounds) if request.percentiles else {}
    total_times = await reader.histograms(once, whole) if request.percentiles and several else times
    totals = (await reader.sums(once, whole)).values() if several else groups.values()
    previous, earlier = None, Groups()
    if request.previous:
        before = period_before(bounds[0], bounds[-1], zone)
        earlier_bounds = boundaries(before, bounds[0], zone, request.granularity)
        earlier = await reader.sums(choice, earlier_bounds)
        sums = (await reader.sums(once, [before, bounds[0]])).values() if several else earlier.values()
        previous = EarlierPeriod(before, bounds[0], queries.usage.added(group.sums for group in sums))
    nothing = UsageSums() if request.previous else None
    rows = [
        _row(
            group,
            choice.dimensions,
            bounds,
            _percentiles([times[place]]) if place in times else {},
            earlier[place].sums if place in earlier else nothing,
        )
        for place, group in groups.items()
    ]
    return UsageReport(
        bounds[0],
        bounds[-1],
        rows,
        queries.usage.added(group.sums for group in totals),
        _percentiles(total_times.values()),
        previous,
    )


def _percentiles(histograms: Iterable[Mapping[Measure, Counter[int]]]) -> Times:
    """Read percentiles of what several histograms have together."""
    together: dict[Measure, Counter[int]] = {}
    for histogram in histograms:
        for measure, bins in histogram.items():
            together.setdefault(measure, Counter()).update(bins)
    read = {measure: percentiles(bins, measure) for measure, bins in together.items()}
    return {measure: told for measure, told in read.items() if told is not None}


def _choice(principal: Principal, request: UsageRequest) -> UsageChoice:
    """Give what is summed up. Raises Forbidden where the caller may not see it, and InvalidInput."""
    wanted = request.filter
    return UsageChoice(
        [name for dimension in dict.fromkeys(request.group_by) for name in _COLUMNS[dimension]],
        _chosen(principal, request),
        None if wanted.tags is None else list(dict.fromkeys(wanted.tags)),
        None if wanted.group_ids is None else list(dict.fromkeys(map(str, wanted.group_ids))),
    )


def _chosen(principal: Principal, request: UsageRequest) -> dict[str, Sequence[object]]:
    """Give the values of columns that count. Raises Forbidden where the caller may not see them, and InvalidInput."""
    wanted = request.filter
    _check_texts(wanted)
    if wanted.all_users and wanted.user_ids is not None:
        raise InvalidInput("input.filter", "takes either userIds or allUsers.")
    user_ids = [principal.user_id] if wanted.user_ids is None else wanted.user_ids
    others = wanted.all_users or any(user_id != principal.user_id for user_id in user_ids)
    if (others or UsageDimension.USER in request.group_by) and not principal.has(Scope.USAGE_READ_ALL):
        raise Forbidden("The usage of other users needs the scope USAGE_READ_ALL.")
    columns: dict[str, Sequence[object] | None] = {
        "user_id": None if wanted.all_users else user_ids,
        "model": wanted.models,
        "api_key_id": wanted.api_key_ids,
        "backend": wanted.backends,
        "state": wanted.states,
        "finish_reason": wanted.finish_reasons,
        "end_user": wanted.end_users,
    }
    return {name: values for name, values in columns.items() if values is not None}


def _check_texts(wanted: UsageFilter) -> None:
    """Refuse a character that the ledger cannot have, and PostgreSQL cannot be asked for. Raises InvalidInput."""
    tags = ["".join(tag) for tag in wanted.tags or ()]
    lists = {"models": wanted.models, "backends": wanted.backends, "tags": tags, "endUsers": wanted.end_users}
    for name, texts in lists.items():
        for place, text in enumerate(texts or ()):
            if "\0" in text:
                raise InvalidInput(f"input.filter.{name}[{place}]", "may not hold the character U+0000.")


def _zone(principal: Principal, request: UsageRequest) -> ZoneInfo:
    """Give the zone that is meant. Raises InvalidInput."""
    if request.time_zone is None:
        return stored_zone(principal.time_zone)
    return time_zone(request.time_zone, "input.timeZone")


def _range(request: UsageRequest) -> tuple[datetime, datetime]:
    """Give the time that is meant. Raises InvalidInput."""
    end = request.end or now() + timedelta(seconds=1)
    start = request.start or max(end, EARLIEST + DEFAULT_RANGE) - DEFAULT_RANGE
    if start >= end:
        raise InvalidInput("input.from", "must be before to.")
    if end - start > MAX_RANGE:
        raise InvalidInput("input.from", f"the range may have at most {MAX_RANGE.days} days.")
    if start < EARLIEST or end > LATEST:
        raise InvalidInput("input.from", f"the range must be within the years {EARLIEST.year} to {LATEST.year - 1}.")
    return start, end


def _row(
    group: UsageGroup,
    dimensions: Sequence[str],
    bounds: Sequence[datetime],
    times: Times,
    previous: UsageSums | None,
) -> UsageRow:
    values: dict[str, Any] = dict(zip(dimensions, group.values, strict=True))
    if (group_id := values.get(queries.usage.GROUP)) is not None:
        values[queries.usage.GROUP] = UUID(group_id)
    start, end = bounds[group.bucket], bounds[group.bucket + 1]
    return UsageRow(start, end, group.sums, **values, times=times, previous=previous)


def _key(row: UsageRow, order: UsageOrder) -> _Key:
    """Give what the row is sorted by; no two rows of a report have the same."""
    seconds = int((row.start - EARLIEST) / timedelta(microseconds=1))
    names = ["" if (value := getattr(row, name)) is None else str(value) for name in _SORTED_BY]
    match order:
        case UsageOrder.OLDEST_FIRST:
            return [seconds, *names]
        case UsageOrder.NEWEST_FIRST:
            return [-seconds, *names]
        case UsageOrder.MOST_GENERATIONS:
            return [-row.sums.generations, seconds, *names]
        case UsageOrder.MOST_TOKENS:
            return [-row.sums.prompt_tokens - row.sums.completion_tokens, seconds, *names]


def _cursor(key: _Key, order: UsageOrder) -> str:
    return urlsafe_b64encode(orjson.dumps([order, *key])).decode()


def _read_cursor(cursor: str, order: UsageOrder) -> _Key:
    """Read a cursor. Raises InvalidInput for what is none, or one of another order."""
    try:
        given, *key = cast("list[object]", orjson.loads(urlsafe_b64decode(cursor)))
    except (ValueError, TypeError, binascii.Error):
        raise InvalidInput("after", "is not a cursor of this API.") from None
    numbers = 1 if order in {UsageOrder.OLDEST_FIRST, UsageOrder.NEWEST_FIRST} else 2
    kinds = [int] * numbers + [str] * len(_SORTED_BY)
    if given != order or [type(part) for part in key] != kinds:
        raise InvalidInput("after", "is not a cursor of a report in this order.")
    return cast("_Key", key)
