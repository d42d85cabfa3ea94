"""Reads usage: from the sums where they answer exactly, and from the ledger's rows where they do not."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from db import queries
from db.engine import ReadSession
from db.queries import BucketRun, Month, Segment, Span, UsageChoice, UsageGroup, UsageValues
from gateway.errors import InvalidInput
from gateway.usage.calendar import runs
from gateway.usage.groupings import HOUR, QUARTER, Grouping, grouping_for
from gateway.usage.histograms import Measure, measured
from gateway.usage.plan import plan

MAX_ROWS = 50_000
"""Rows of one report, of all its pages: each page is cut from all of them."""

MAX_BINS = 500_000
"""Counts, or rows, that the percentiles of one report are read from."""

MAX_SUMS = 2_500_000
"""Sums that one statement looks for, one for each key and part of a bucket, which takes some seconds."""

SUMS_OF_A_HISTOGRAM = 100
"""How many sums a histogram counts as: about as many bins it has."""

MAX_READ = 500_000
"""Rows of the ledger that are read where no sum answers, which takes some seconds."""

LONG = timedelta(days=8)
"""Buckets that are shorter are read by days."""

Groups = dict[tuple[int, UsageValues], UsageGroup]
"""Sums by bucket and values of the dimensions."""

Histograms = dict[tuple[int, UsageValues], dict[Measure, Counter[int]]]


_KEPT = (
    "sums are kept by user, key, model, backend and finish together, by one tag or end user with the user, and by one "
    "group alone; percentiles by one of model, backend, user, key and group."
)


class TooManyRows(InvalidInput):
    """A report has more rows than one may have, its percentiles have too many counts, or it needs too many details."""


@dataclass(frozen=True, slots=True)
class UsageReader:
    """Reads within one snapshot, so that all that one reader tells agrees. `kept_since` is when rows begin."""

    session: ReadSession
    kept_since: datetime | None

    async def sums(self, choice: UsageChoice, bounds: Sequence[datetime]) -> Groups:
        """Sum up by buckets between bounds, and dimensions. Raises InvalidInput for too many groups, or rows gone."""
        grouping, cut, whole = grouping_for(choice), runs(list(bounds)), (bounds[0], bounds[-1])
        if grouping is None or await self._shares(grouping, choice, whole):
            await self._check_rows(choice, whole)
            return self._merged(await self._rows(choice, [whole], cut, None))
        planned = plan(bounds, QUARTER, await self._months(bounds))
        await self._check_sums(grouping, choice, len(planned.segments))
        self._check_kept(planned.edges)
        limit = _limit(MAX_ROWS)
        found = await queries.usage.rollups.sums(self.session, grouping.name, choice, planned.segments, limit=limit)
        found += await self._rows(choice, planned.edges, cut, True)
        found += await self._rows(choice, [whole], cut, False)
        return self._merged(found)

    async def histograms(self, choice: UsageChoice, bounds: Sequence[datetime]) -> Histograms:
        """Count by bins, by buckets between bounds, and dimensions. Raises InvalidInput as `sums` does."""
        grouping, cut, whole = grouping_for(choice, binned=True), runs(list(bounds)), (bounds[0], bounds[-1])
        found: Histograms = defaultdict(lambda: defaultdict(Counter[int]))
        if grouping is None:
            await self._check_rows(choice, whole)
            await self._add_rows(found, choice, [whole], cut, None)
            return found
        planned = plan(bounds, HOUR, await self._months(bounds))
        await self._check_sums(grouping, choice, len(planned.segments) * SUMS_OF_A_HISTOGRAM)
        self._check_kept(planned.edges)
        limit = _limit(MAX_BINS)
        bins = await queries.usage.rollups.bins(self.session, grouping.name, choice, planned.segments, limit=limit)
        _check_bins(len(bins))
        for each in bins:
            found[each.bucket, each.values][Measure(each.measure)][each.bin] += each.generations
        await self._add_rows(found, choice, planned.edges, cut, True)
        await self._add_rows(found, choice, [whole], cut, False)
        return found

    async def _months(self, bounds: Sequence[datetime]) -> Sequence[Month]:
        """Give the months that are summed up, where a bucket is long enough for any."""
        if all(end - start < LONG for start, end in pairwise(bounds)):
            return ()
        low, high = (int(moment.timestamp()) for moment in (bounds[0], bounds[-1]))
        return await queries.usage.months.valid(self.session, low, high)

    async def _rows(
        self, choice: UsageChoice, spans: Sequence[Span], cut: Sequence[BucketRun], rolled_up: bool | None
    ) -> list[UsageGroup]:
        if not spans:
            return []
        return await queries.usage.ledger.sums(
            self.session, choice, spans, runs=cut, rolled_up=rolled_up, limit=_limit(MAX_ROWS)
        )

    async def _add_rows(
        self,
        found: Histograms,
        choice: UsageChoice,
        spans: Sequence[Span],
        cut: Sequence[BucketRun],
        rolled_up: bool | None,
    ) -> None:
        if not spans:
            return
        rows = await queries.usage.ledger.times(
            self.session, choice, spans, runs=cut, rolled_up=rolled_up, limit=_limit(MAX_BINS)
        )
        _check_bins(len(rows))
        for row in rows:
            times = row.eval_ms, row.time_to_first_token_ms, row.last_token_ms, row.total_ms
            for measure, number in measured(row.completion_tokens, *times).items():
                found[row.bucket, row.values][measure][number] += 1

    async def _shares(self, grouping: Grouping, choice: UsageChoice, span: Span) -> bool:
        """Tell whether some values of the time share one series, so that the rows alone tell them apart."""
        if not grouping.open:
            return False
        low, high = (int(moment.timestamp()) for moment in span)
        within = Segment(QUARTER, low - QUARTER, high + 1, 0, 1)
        return await queries.usage.rollups.has_others(self.session, grouping.name, choice, within)

    async def _check_sums(self, grouping: Grouping, choice: UsageChoice, for_each: int) -> None:
        """Refuse what looks for too many sums. Raises InvalidInput."""
        if await queries.usage.rollups.count_wanted(self.session, grouping.name, choice) * for_each > MAX_SUMS:
            raise TooManyRows(
                "input",
                f"needs more than {MAX_SUMS:,} sums: shorten the time, take a longer granularity, filter, or group by "
                "less.",
            )

    async def _check_rows(self, choice: UsageChoice, span: Span) -> None:
        """Refuse what only rows answer, where some were removed or there are too many. Raises InvalidInput."""
        self._check_kept([span])
        users = (choice.chosen or {}).get("user_id")
        if await queries.usage.ledger.has_more(self.session, span, users, MAX_READ):
            raise TooManyRows(
                "input",
                f"needs the details of more than {MAX_READ:,} generations. Shorten the time, filter by userIds, or "
                f"group and filter by less: {_KEPT}",
            )

    def _check_kept(self, spans: Sequence[Span]) -> None:
        """Refuse what needs rows that were removed. Raises InvalidInput."""
        if self.kept_since is not None and any(start < self.kept_since for start, _ in spans):
            raise InvalidInput(
                "input",
                f"needs details from before {self.kept_since.isoformat()}, which have been deleted. Let the time "
                "begin and end with a quarter of an hour (with percentiles: an hour) of UTC, and group and filter by "
                f"less: {_KEPT}",
            )

    def _merged(self, groups: Sequence[UsageGroup]) -> Groups:
        """Add up what is of one group: of several currencies, or partly of sums and partly of rows."""
        parts: dict[tuple[int, UsageValues], list[UsageGroup]] = defaultdict(list)
        for group in groups:
            parts[group.bucket, group.values].append(group)
        if len(parts) > MAX_ROWS or len(groups) >= _limit(MAX_ROWS):
            raise TooManyRows(
                "input", f"the report has more than {MAX_ROWS:,} rows: shorten the time, or group by less."
            )
        return {
            place: some[0] if len(some) == 1 else UsageGroup(*place, queries.usage.added(each.sums for each in some))
            for place, some in parts.items()
        }


def _limit(most: int) -> int:
    """Give how many groups one statement gives at most: a group has a row for each currency."""
    return 3 * most + 1


def _check_bins(number: int) -> None:
    if number >= _limit(MAX_BINS):
        raise TooManyRows(
            "input", "has too many generations or rows for percentiles: shorten the time, or group or filter by less."
        )
