"""Writes how generations ended: in order, once, and after the database was away too."""

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

import anyio

from db import queries
from db.engine import Database, DatabaseUnavailable, WriteSession
from db.tables import Generation
from gateway.failures import RecordedError
from gateway.generation.hooks import Recorded
from gateway.generation.meter import bounded
from gateway.generation.record import (
    LARGEST_MS,
    LedgerEntry,
    Timings,
    attempt_columns,
    error_columns,
    source_columns,
    told_in_the_log,
    usage_columns,
)
from gateway.latch import Latch
from gateway.limits import Limits, PriceList, Prices, Used
from gateway.streams import KeptUsage
from gateway.usage import UsageFeed

logger = logging.getLogger(__name__)

MOST_AT_ONCE = 100
"""Ends in one transaction; others want to write too."""

RETRY_SECONDS = 0.5

PATIENCE_SECONDS = 5
"""How long the end of a stream waits for a database that neither answers nor fails."""


_ROW = tuple(column.key for column in Generation.__table__.columns)


class Ledger:
    """The one writer of ends.

    Each `write` returns when its end is in the database; ends that come together share a transaction. While the
    database is away it returns at once, and the ends wait here, in order. `recorded` are told what is written, and
    `kept_usage` forgets it.
    """

    def __init__(
        self,
        database: Database,
        limits: Limits,
        prices: Prices,
        usage_feed: UsageFeed,
        recorded: Sequence[Recorded] = (),
        kept_usage: KeptUsage | None = None,
    ) -> None:
        self._database = database
        self._limits = limits
        self._prices = prices
        self._usage_feed = usage_feed
        self._recorded = recorded
        self._kept_usage = kept_usage
        self._waiting: deque[LedgerEntry] = deque()
        self._came = Latch()
        self._empty = Latch()
        self._away = False

    @property
    def behind(self) -> int:
        """How many ends wait for the database to come back; 0 while it is there."""
        return len(self._waiting) if self._away else 0

    @property
    def length(self) -> int:
        """How many ends wait to be written."""
        return len(self._waiting)

    def waiting(self, generation_id: UUID) -> Generation | None:
        """Give the row of an ended generation as it will be, while it waits for the database to come back.

        It has no cost yet: the prices are in the database.
        """
        entry = self.waiting_entry(generation_id)
        if entry is None:
            return None
        row = Generation(**{name: getattr(entry.generation, name) for name in _ROW})
        for name, value in (_columns(entry) | {"finished_at": entry.at}).items():
            setattr(row, name, value)
        return row

    def waiting_entry(self, generation_id: UUID) -> LedgerEntry | None:
        """Give the end of a generation, while it waits for the database to come back."""
        waiting = self._waiting if self._away else ()
        return next((entry for entry in waiting if entry.generation.id == generation_id), None)

    async def write(self, entry: LedgerEntry) -> None:
        """Hand over an end. Never raises but when it is cancelled, and then the end is written all the same."""
        self._waiting.append(entry)
        self._came.set()
        if not self._away:
            patience = asyncio.get_running_loop().call_later(PATIENCE_SECONDS, entry.settled.set)
            try:
                await entry.settled.wait()
            finally:
                patience.cancel()

    async def run(self) -> None:
        """Write until cancelled. To be started in the application's task group."""
        while True:
            if not self._waiting:
                self._empty.set()
                self._came.clear()
                await self._came.wait()
                self._empty.clear()
            elif not await self._write_next():
                await anyio.sleep(RETRY_SECONDS)

    async def close(self, seconds: float) -> None:
        """Wait until everything is written, but no longer than that; what is not goes to the log, with all numbers."""
        with anyio.move_on_after(seconds, shield=True):
            while self._waiting:
                await self._empty.wait()
        for entry in self._waiting:
            told = told_in_the_log(entry.outcome)
            logger.error("the end of generation %s is not in the database: %s", entry.generation.id, told)
        if self._waiting and self._kept_usage is not None:
            self._kept_usage.keep()

    async def _write_next(self) -> bool:
        """Write the oldest ends. False when the database is away."""
        batch = [self._waiting[index] for index in range(min(MOST_AT_ONCE, len(self._waiting)))]
        try:
            await self._write(batch)
        except Exception as error:
            if not is_outage(error):
                return await self._write_one_by_one(batch)
            self._postpone(error)
            return False
        return True

    def _settle(self, count: int) -> None:
        """Give the oldest ends are written."""
        if self._away:
            logger.warning("the database is back: %d ends that waited for it are being written", len(self._waiting))
            self._away = False
        for _ in range(count):
            entry = self._waiting.popleft()
            entry.settled.set()
            if self._kept_usage is not None:
                self._kept_usage.forget(entry.generation.id)

    def _postpone(self, error: Exception) -> None:
        if not self._away:
            logger.error("the database is away (%s); ends of generations wait for it", type(error).__name__)
        self._away = True
        for entry in self._waiting:
            entry.settled.set()

    async def _write(self, entries: Sequence[LedgerEntry]) -> None:
        """Write the oldest ends, all or none. In one order everywhere, so that no two writers wait for each other."""
        entries = sorted(entries, key=lambda entry: entry.generation.id)

        async def write(tx: WriteSession) -> tuple[list[dict[str, Any]], bool]:
            prices = await self._prices.known(tx, min(entry.at for entry in entries))
            rows = await _write_entries(tx, entries, prices)
            return rows, await self._limits.settle(tx, [Used.of(row) for row in rows])

        written, settled = await self._database.transact(write)
        self._usage_feed.note(written)
        ended = {entry.generation.id: entry for entry in entries}
        told = [(ended[row["generation_id"]], row) for row in written]
        for tell in self._recorded:
            tell(told)
        if settled:
            self._limits.freed()
        self._settle(len(entries))

    async def _write_one_by_one(self, entries: Sequence[LedgerEntry]) -> bool:
        """Write each by itself: the database refuses one of them, and the others must not suffer. False: it is away.

        What is refused is written once more without the text that only this generation has: one without an end would
        be under way for ever.
        """
        for entry in entries:
            for tried in (entry, _bare(entry)):
                try:
                    await self._write([tried])
                    break
                except Exception as error:
                    if is_outage(error):
                        self._postpone(error)
                        return False
                    number, told = entry.generation.id, told_in_the_log(tried.outcome)
                    logger.exception("the end of generation %s cannot be written: %s", number, told)
            else:
                self._settle(1)
        return True


def is_outage(error: BaseException) -> bool:
    """Tell whether an error means that the database cannot do its work now, and not that it refused what was asked."""
    return isinstance(error, DatabaseUnavailable | OSError)


def _bare(entry: LedgerEntry) -> LedgerEntry:
    """Give the same end without any text of the answer, and with numbers that every column takes."""
    outcome, error = entry.outcome, None
    if outcome.error is not None:
        error = RecordedError(
            outcome.error.code, "Why this generation failed could not be stored; the gateway's log says it."
        )
    timings = Timings(None, None, None, min(outcome.timings.total_ms, LARGEST_MS))
    outcome = replace(outcome, error=error, usage=bounded(outcome.usage), timings=timings)
    expiry = None if entry.transcript is None else replace(entry.transcript, events=None)
    return replace(entry, outcome=outcome, transcript=expiry, attempts=())


_COST = ("cost_nano", "currency")
"""What the row of a generation has of its row in the ledger, which may be removed before."""


async def _write_entries(tx: WriteSession, entries: Sequence[LedgerEntry], prices: PriceList) -> list[dict[str, Any]]:
    """Write ends; gives the rows of the ledger of those that were written.

    One may have an end already, where a commit worked although its answer was lost.
    """
    ended: list[LedgerEntry] = []
    usage: list[dict[str, Any]] = []
    for entry in entries:
        row = _usage_columns(entry, prices)
        columns = _columns(entry) | {name: row[name] for name in _COST} | {"finished_at": entry.at}
        if await queries.generation.mark_ended(tx, entry.generation.id, entry.generation.fence, columns):
            ended.append(entry)
            usage.append(row)
    attempts = [
        attempt_columns(entry.generation, number, attempt)
        for entry in ended
        for number, attempt in enumerate(entry.attempts, 1)
    ]
    await queries.generation.add_ends(tx, usage, attempts)
    for entry in ended:
        if entry.transcript is not None:
            kept = entry.transcript
            await queries.transcript.keep_end(tx, entry.generation.id, kept.events, kept.expires_at)
    return usage


def _usage_columns(entry: LedgerEntry, prices: PriceList) -> dict[str, Any]:
    """Give the row of the ledger, with the cost at the price of the end."""
    generation, outcome, timings = entry.generation, entry.outcome, entry.outcome.timings
    cost = prices.cost(
        generation.model,
        entry.at,
        prompt_tokens=outcome.usage.prompt_tokens,
        cached_tokens=outcome.usage.cached_tokens,
        completion_tokens=outcome.usage.completion_tokens,
    )
    return {
        "cost_nano": cost and cost.nano,
        "currency": cost and cost.price.currency,
        "price_id": cost and cost.price.id,
        "generation_id": generation.id,
        "user_id": generation.user_id,
        "api_key_id": generation.api_key_id,
        "model": generation.model,
        "tags": generation.tags,
        "end_user": generation.end_user,
        "prompt_tokens": outcome.usage.prompt_tokens,
        "completion_tokens": outcome.usage.completion_tokens,
        "cached_tokens": outcome.usage.cached_tokens,
        "thinking_tokens": outcome.usage.thinking_tokens,
        "source": outcome.usage.source,
        **source_columns(outcome.usage),
        "at": entry.at,
        "backend": generation.backend,
        "state": outcome.state,
        "finish_reason": outcome.finish_reason,
        "cancel_reason": outcome.cancel_reason,
        "error_code": outcome.error.code if outcome.error else None,
        "group_ids": generation.group_ids,
        "queued_ms": timings.queued_ms,
        "time_to_first_token_ms": timings.time_to_first_token_ms,
        "last_token_ms": timings.last_token_ms,
        "eval_ms": timings.eval_ms,
        "total_ms": timings.total_ms,
        "rolled_up": False,  # `UsageUpkeep` adds it to the sums, many at once; until then reports read the row
    }


def _columns(entry: LedgerEntry) -> dict[str, object]:
    """Give the columns that tell how a generation ended."""
    outcome, timings = entry.outcome, entry.outcome.timings
    return {
        "state": outcome.state,
        "finish_reason": outcome.finish_reason,
        "cancel_reason": outcome.cancel_reason,
        **error_columns(outcome.error, entry.generation.content_policy),
        **usage_columns(outcome.usage),
        "queued_ms": timings.queued_ms,
        "load_ms": timings.load_ms,
        "prompt_ms": timings.prompt_ms,
        "time_to_first_token_ms": timings.time_to_first_token_ms,
        "last_token_ms": timings.last_token_ms,
        "eval_ms": timings.eval_ms,
        "total_ms": timings.total_ms,
    }
