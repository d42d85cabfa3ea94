"""What was used, in all and by time and dimensions."""

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import cached_property
from typing import cast
from uuid import UUID

import orjson

from auth.principal import Principal
from auth.scopes import Scope
from db import queries
from db.clock import now
from db.engine import Database
from db.queries import UsageGroup
from db.queries import UsageSums as UsageSums
from gateway.errors import Forbidden, InvalidInput
from gateway.usage.calendar import Granularity, boundaries, runs, time_zone

DEFAULT_RANGE = timedelta(days=30)
MAX_RANGE = timedelta(days=366)

MAX_ROWS = 50_000
"""Rows of one report, of all its pages: each page is cut from all of them."""

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


_COLUMNS: Mapping[UsageDimension, Sequence[str]] = {
    UsageDimension.MODEL: ("model",),
    UsageDimension.API_KEY: ("api_key_id",),
    UsageDimension.USER: ("user_id",),
    UsageDimension.BACKEND: ("backend",),
    UsageDimension.FINISH: ("state", "finish_reason"),
    UsageDimension.TAG: queries.usage.TAG,
    UsageDimension.END_USER: ("end_user",),
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
    names and values: a generation must have one of the values for each of the names.
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


@dataclass(frozen=True, slots=True)
class UsageRequest:
    """What is asked: `end` is not part of the time; without a `start` it is 30 days, without an `end` up to now."""

    start: datetime | None = None
    end: datetime | None = None
    time_zone: str = "UTC"
    granularity: Granularity = Granularity.DAY
    group_by: Sequence[UsageDimension] = ()
    filter: UsageFilter = field(default_factory=UsageFilter)


@dataclass(frozen=True, slots=True)
class UsageRow:
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


_Key = list[int | str]
"""What rows are sorted by."""

_SORTED_BY = [*queries.usage.DIMENSIONS, *queries.usage.TAG]
"""The dimensions by which equal rows are sorted, None first. None of them is ever "", but for the value of a tag."""


@dataclass(frozen=True, slots=True)
class UsagePage:
    """Some rows of a report, each with its cursor."""

    rows: Sequence[tuple[str, UsageRow]]
    has_more: bool


@dataclass(frozen=True)
class UsageReport:
    """Usage from `start` up to and without `end`, of one statement, so that all its numbers agree."""

    start: datetime
    end: datetime
    rows: Sequence[UsageRow]
    once: UsageSums | None = None
    """The sums where a generation may count in several rows; None where it counts in one."""

    @cached_property
    def totals(self) -> UsageSums:
        """Add up everything, each generation once."""
        if self.once is not None:
            return self.once
        names = UsageSums.__slots__
        return UsageSums(**{name: sum(getattr(row.sums, name) for row in self.rows) for name in names})

    def page(self, order: UsageOrder, first: int, after: str | None) -> UsagePage:
        """Give so many rows after a cursor, which need not be there any more. Raises InvalidInput for no cursor."""
        keyed = sorted(((_key(row, order), row) for row in self.rows), key=lambda pair: pair[0])
        begin = 0 if after is None else bisect_right(keyed, _read_cursor(after, order), key=lambda pair: pair[0])
        rows = [(_cursor(key, order), row) for key, row in keyed[begin : begin + first]]
        return UsagePage(rows, has_more=len(keyed) > begin + first)


class Usage:
    """The ledger's reader."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def report(self, principal: Principal, request: UsageRequest) -> UsageReport:
        """Sum up the caller's own usage, or with the admin scope anyone's; by default of the last 30 days.

        Raises Forbidden; InvalidInput for a range that is reversed or too long, a zone that there is not, and a report
        that is too long.
        """
        chosen = _chosen(principal, request)
        start, end = _range(request)
        bounds = boundaries(start, end, time_zone(request.time_zone, "input.timeZone"), request.granularity)
        dimensions = [name for dimension in dict.fromkeys(request.group_by) for name in _COLUMNS[dimension]]
        async with self._database.reading() as session:
            found = await queries.usage.usage_groups(
                session,
                start,
                end,
                runs=runs(bounds),
                dimensions=dimensions,
                chosen=chosen,
                tags=request.filter.tags,
                limit=MAX_ROWS + 1,
            )
        if len(found.groups) > MAX_ROWS:
            raise InvalidInput(
                "input", f"the report has more than {MAX_ROWS:,} rows: shorten the time, or group by less."
            )
        return UsageReport(start, end, [_row(group, bounds) for group in found.groups], found.once)


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


def _row(group: UsageGroup, bounds: Sequence[datetime]) -> UsageRow:
    start, end = bounds[group.bucket], bounds[group.bucket + 1]
    return UsageRow(start, end, group.sums, **cast("dict[str, None]", group.values))


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
