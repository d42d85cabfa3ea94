"""What was used, as totals and by day, model and key."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TypeVar
from uuid import UUID

from auth.principal import Principal
from auth.scopes import Scope
from db import queries
from db.clock import now
from db.engine import Database
from db.queries import UsageBucket
from gateway.errors import Forbidden, InvalidInput

DEFAULT_RANGE = timedelta(days=30)
MAX_RANGE = timedelta(days=366)

_EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)

_Key = TypeVar("_Key", date, str, tuple[bool, str])


@dataclass(frozen=True, slots=True)
class UsageTotals:
    """Sums over some generations. `cached_tokens` are part of `prompt_tokens`."""

    generations: int
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int


@dataclass(frozen=True, slots=True)
class UsageReport:
    """A user's usage from `start` up to and without `end`. One query, so all its numbers agree."""

    start: datetime
    end: datetime
    buckets: Sequence[UsageBucket]

    @property
    def total(self) -> UsageTotals:
        """Everything in the range."""
        return totals(self.buckets)

    @property
    def days(self) -> dict[date, Sequence[UsageBucket]]:
        """The UTC days on which something was used, in order."""
        return grouped(self.buckets, lambda bucket: bucket.day)


def totals(buckets: Iterable[UsageBucket]) -> UsageTotals:
    """Add up."""
    rows = list(buckets)
    return UsageTotals(
        generations=sum(row.generations for row in rows),
        prompt_tokens=sum(row.prompt_tokens for row in rows),
        completion_tokens=sum(row.completion_tokens for row in rows),
        cached_tokens=sum(row.cached_tokens for row in rows),
    )


def by_model(buckets: Iterable[UsageBucket]) -> dict[str, Sequence[UsageBucket]]:
    """The buckets of each model, by name."""
    return grouped(buckets, lambda bucket: bucket.model)


def by_key(buckets: Iterable[UsageBucket]) -> dict[UUID | None, Sequence[UsageBucket]]:
    """The buckets of each API key, oldest key first; None, which is no key but a signed-in session, last."""
    groups = grouped(buckets, lambda bucket: (bucket.api_key_id is None, str(bucket.api_key_id)))
    return {rows[0].api_key_id: rows for rows in groups.values()}


def grouped(buckets: Iterable[UsageBucket], key: Callable[[UsageBucket], _Key]) -> dict[_Key, Sequence[UsageBucket]]:
    """The buckets by a key, in the key's order."""
    groups: defaultdict[_Key, list[UsageBucket]] = defaultdict(list)
    for bucket in buckets:
        groups[key(bucket)].append(bucket)
    return {name: groups[name] for name in sorted(groups)}


class Usage:
    """The ledger's reader."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def report(
        self, principal: Principal, user_id: UUID | None, start: datetime | None, end: datetime | None
    ) -> UsageReport:
        """The caller's own usage, or with the admin scope anyone's; by default of the last 30 days.

        Raises Forbidden, or InvalidInput for a range that is reversed or longer than a year.
        """
        wanted = principal.user_id if user_id is None else user_id
        if wanted != principal.user_id and not principal.has(Scope.ADMIN):
            raise Forbidden("Only an administrator may see the usage of others.")
        end = end or now() + timedelta(seconds=1)
        start = start or max(end, _EARLIEST) - DEFAULT_RANGE
        if start >= end:
            raise InvalidInput("from", "must be before to.")
        if end - start > MAX_RANGE:
            raise InvalidInput("from", f"the range may have at most {MAX_RANGE.days} days.")
        async with self._database.reading() as session:
            return UsageReport(start, end, await queries.usage.usage_buckets(session, wanted, start, end))
