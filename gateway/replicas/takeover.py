"""Takes what a dead gateway left behind to its one end: goes on with it here, or ends it as failed."""

import logging
from dataclasses import replace

import anyio

from db.clock import now
from db.tables import Generation
from gateway.catalog import Catalog
from gateway.errors import GatewayError, Interrupted, StreamLogUnavailable
from gateway.generation import (
    Job,
    Ledger,
    LedgerEntry,
    OnBackendLoss,
    Outcome,
    Run,
    Runner,
    attempts_until,
    continuable,
    kept_for,
    outcome_recorded,
    outcome_told,
    terminal_event,
    timings_so_far,
    usage_recorded,
)
from gateway.streams import (
    NO_USAGE,
    CancelReason,
    SavedStream,
    StreamLog,
    StreamMoved,
    StreamOwner,
    StreamOwnership,
    TokenUsage,
)

logger = logging.getLogger(__name__)

MOST_AT_ONCE = 50

RETRY_SECONDS = 0.5


class _TakenOver:
    """What a generation has used: what is saved of it, and once it runs here what that adds."""

    def __init__(self, row: Generation, noted: TokenUsage) -> None:
        self._noted = noted
        self.saved = _nothing_saved(noted)
        self.run: Run | None = None

    def found(self, saved: SavedStream) -> None:
        """Take what the log has, with the usage that was noted elsewhere where that is more: it came later."""
        more = self._noted.completion_tokens > saved.usage.completion_tokens
        self.saved = replace(saved, usage=self._noted) if more else saved

    def usage(self) -> TokenUsage:
        return self.run.usage() if self.run is not None else self.saved.usage


class Takeover:
    """Takes over generations, whose rows are this gateway's by now, and tells viewers of ends that nobody told."""

    def __init__(
        self, *, runner: Runner, catalog: Catalog, log: StreamLog, ownership: StreamOwnership, ledger: Ledger
    ) -> None:
        self._runner = runner
        self._catalog = catalog
        self._log = log
        self._ownership = ownership
        self._ledger = ledger
        self._limiter = anyio.CapacityLimiter(MOST_AT_ONCE)

    async def take_over(self, row: Generation) -> None:
        """Go on with a generation, or end it as failed."""
        async with self._limiter:
            if await self._has_it_all_the_time(row):
                return
            taken = _TakenOver(row, self._noted(row))
            try:
                saved = await self._claim(row, taken)
                if saved is None:
                    await self._abort(row, taken.saved, unknown=True)
                else:
                    taken.found(saved)
                    await self._finish(row, taken)
            except StreamMoved:
                return
            except Exception:
                logger.exception("generation %s cannot be taken over", row.id)
                await self._abort(row, taken.saved)

    async def tell_end(self, row: Generation) -> None:
        """Tell viewers of the end that a dead gateway had recorded, where it had not told it.

        Not where some of its text was in that gateway's memory alone: the end would make what is left look whole.
        """
        if row.detached_at is not None:
            return
        async with self._limiter:
            try:
                saved = await self._ownership.claim(row.id, StreamOwner(row.fence + 1))
            except (StreamMoved, StreamLogUnavailable):
                return
            if saved is None or saved.end is not None:
                return
            await self._log.append(row.id, [terminal_event(saved.last_sequence + 1, outcome_recorded(row))])

    async def cancel_abandoned(self) -> None:
        """Cancel what ends with its last viewer, and was watched at a dead gateway alone."""
        for run in self._runner.runs:
            if run.cancels_on_disconnect and not run.is_watched:
                alive, died = await self._ownership.followers(run.generation_id)
                if died and not alive and not run.is_watched:
                    run.cancel(CancelReason.VIEWERS_LEFT)

    async def _has_it_all_the_time(self, row: Generation) -> bool:
        """Tell whether the others only took this gateway for dead for a while, and nobody has had it meanwhile.

        Where another gateway has, what runs here is no longer the generation.
        """
        run = self._runner.get(row.id)
        if run is None:
            return False
        if not run.released and row.fence == run.job.row.fence + 1:
            run.raise_fence(row.fence)
            await self._ownership.raise_fence(row.id, row.fence)
            return True
        run.release()
        await run.stopped.wait()
        return False

    async def _claim(self, row: Generation, taken: _TakenOver) -> SavedStream | None:
        while True:
            try:
                own = StreamOwner(row.fence, taken.usage)
                return await self._ownership.claim(row.id, own, detached=row.detached_at is not None)
            except StreamLogUnavailable:
                await anyio.sleep(RETRY_SECONDS)

    async def _finish(self, row: Generation, taken: _TakenOver) -> None:
        saved = taken.saved
        if saved.end is not None:
            await self._ledger.write(self._entry(row, outcome_told(row, saved.end)))
        elif (job := job_of(row, saved)) is None or not await self._go_on(job, taken):
            await self._abort(row, saved)

    async def _go_on(self, job: Job, taken: _TakenOver) -> bool:
        """Run it here, where the model is served and there is a place. The slot is waited for in the queue."""
        try:
            taken.run = self._runner.resume(job, await self._catalog.find(job.row.model))
        except GatewayError as error:
            logger.warning("generation %s cannot go on: %s", job.row.id, error)
            return False
        logger.warning("generation %s goes on here: its gateway is gone", job.row.id)
        return True

    async def _abort(self, row: Generation, saved: SavedStream, *, unknown: bool = False) -> None:
        """End it; where the log knows nothing of it, whoever finds no text must find the end on record first."""
        reason = CancelReason.REQUESTED if saved.cancelled else None
        error = None if reason else Interrupted()
        outcome = Outcome(None, error, saved.usage, timings_so_far(row), reason)
        await self._ledger.write(self._entry(row, outcome))
        logger.warning("generation %s was ended: its gateway is gone", row.id)
        try:
            if unknown:
                await self._log.open(row.id, StreamOwner(row.fence), saved.dropped)
            await self._log.append(row.id, [terminal_event(saved.last_sequence + 1, outcome)])
        except Exception:
            logger.exception("the viewers of generation %s are not told of its end", row.id)

    def _noted(self, row: Generation) -> TokenUsage:
        """Give what its last gateway noted of it, in its row or, on this machine, in a file: the latest."""
        in_row = usage_recorded(row) or NO_USAGE
        in_file = NO_USAGE if self._runner.kept_usage is None else self._runner.kept_usage.left(row.id)
        return max(in_row, in_file, key=lambda usage: usage.completion_tokens)

    def _entry(self, row: Generation, outcome: Outcome) -> LedgerEntry:
        """Give the end of a generation whose gateway is dead: of its attempts only the first is known.

        What it was asked is kept as long as this gateway keeps it.
        """
        at, kept = now(), kept_for(self._runner.retention(row))
        return LedgerEntry(row, outcome, at, kept, attempts_until(row, at, outcome.usage, outcome.error))


def job_of(row: Generation, saved: SavedStream) -> Job | None:
    """Give the job to go on with; None where it must not, or cannot."""
    if saved.waits_for_limit:
        return None
    if row.on_backend_loss != OnBackendLoss.CONTINUE or not saved.request or saved.cancelled or not saved.is_whole:
        return None
    request = continuable(saved.request, saved.events)
    return None if request is None else Job(row, request, saved)


def _nothing_saved(noted: TokenUsage) -> SavedStream:
    """Give what is left where the log has nothing. It may have had something: who reads on misses the beginning."""
    return SavedStream([], noted, dropped=1)
