"""The generations that this gateway runs: begun here, or taken over from a gateway that is no more."""

import logging
from collections.abc import Mapping, Sequence
from datetime import timedelta
from uuid import UUID

import anyio
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint

from db import queries
from db.clock import now
from db.engine import Database
from db.tables import Generation
from gateway import streams
from gateway.catalog import Catalog, Line, Model, Ticket
from gateway.errors import DatabaseDown, GatewayError, Interrupted, Overloaded, StreamExpired, StreamLogUnavailable
from gateway.generation.continuation import Losses
from gateway.generation.estimates import Estimates
from gateway.generation.ledger import Ending, Ledger, Transcribed, is_outage
from gateway.generation.orphans import Adopted, continuable, nothing_saved, orphan_timings, outcome_in, outcome_of
from gateway.generation.run import Job, Outcome, Route, Run, terminal_event
from gateway.streams import NO_USAGE, Completed, Failed, FinishReason, Saved, Source, StreamLog, StreamMoved, TokenUsage
from gateway.tasks import spawn

logger = logging.getLogger(__name__)

REROUTE_SECONDS = 60.0
"""How long a generation that lost its model server waits for one that can go on, and may be asked again."""

RETRY_SECONDS = 0.5

LAST_WORD_SECONDS = 2
"""How long a gateway that stops waits for its viewers to take the last event."""


class Runner:
    """Runs generations in the task group of the whole application.

    `lines` holds the waiting line of each backend by its name; `text_retention` is how many seconds the database
    keeps the text of an ended generation, 0 for not at all.
    """

    def __init__(
        self,
        database: Database,
        catalog: Catalog,
        log: StreamLog,
        ledger: Ledger,
        lines: Mapping[str, Line],
        tasks: TaskGroup,
        replica_id: UUID,
        text_retention: float = 0,
    ) -> None:
        self.replica_id = replica_id
        self._database = database
        self._catalog = catalog
        self._log = log
        self._ledger = ledger
        self._lines = lines
        self._tasks = tasks
        self._text_retention = text_retention
        self._adoptions = anyio.CapacityLimiter(50)
        self._runs: dict[UUID, Run] = {}
        self._noted: dict[UUID, TokenUsage] = {}
        self._estimates = Estimates()
        self.draining = False
        self.stopping = False

    async def note_alive(self) -> None:
        """Write something small, to see that the database takes it. Raises DatabaseUnavailable."""
        async with self._database.transaction() as tx:
            await queries.replica.note_seen(tx, self.replica_id, now())

    def get(self, generation_id: UUID) -> Run | None:
        """The run of a generation, if it is here and has not ended."""
        return self._runs.get(generation_id)

    def ended(self, generation_id: UUID) -> Generation | None:
        """A generation that ended here while the database was away, as the database will have it."""
        return self._ledger.waiting(generation_id)

    def enter(self, model: Model, user_id: UUID) -> Route:
        """A place in the line of the model's backend. Raises Overloaded."""
        return Route(model, self._queue(model, user_id))

    def _queue(self, model: Model, user_id: UUID) -> Ticket:
        line = self._lines[model.backend.name]
        line.resize(model.backend.parallel)  # its server may have come, or another one in its place
        return line.enter(user_id)

    def admit(self, job: Job, route: Route) -> Run:
        """Count a generation among those that run here: from now on `stop` waits for it."""
        run = Run(job, route, self._log, self._reroute, self._unwatched, self._estimates)
        self._runs[run.generation_id] = run
        return run

    async def launch(self, run: Run) -> None:
        """Begin one that was admitted, and whose row is in the database: whatever happens here, it comes to an end."""
        try:
            await self._log.open(run.generation_id, Source(run.job.row.fence, run.usage, run.job.encoded))
        finally:
            self._begin(run)

    def forget(self, run: Run) -> None:
        """Take back one that was not begun: nobody knows of it."""
        del self._runs[run.generation_id]
        run.route.ticket.release()
        run.ended.set()

    def disown(self, run: Run) -> None:
        """Take back one of which nobody can tell whether its row was written: where it was, it gets an end."""
        self.forget(run)
        outcome = Outcome(None, DatabaseDown(), NO_USAGE, orphan_timings(run.job.row))
        spawn(self._tasks, f"end of generation {run.generation_id}", self._settle, run.job.row, outcome)

    async def adopt(self, row: Generation) -> None:
        """Take an orphan, which is this gateway's by now, to its one end: go on with it, or end it as failed."""
        async with self._adoptions:
            if await self._is_still_here(row):
                return
            source = Adopted(row)
            try:
                saved = await self._claim(row, source)
                if saved is None:
                    await self._abort(row, nothing_saved(row), unknown=True)
                else:
                    source.saved = saved
                    await self._finish(row, saved, source)
            except StreamMoved:
                return
            except Exception:
                logger.exception("generation %s cannot be taken over", row.id)
                await self._abort(row, source.saved)

    async def tell_end(self, row: Generation) -> None:
        """A gateway died: where it had recorded an end but not told it, the viewers are told now.

        Not where some of its text was in that gateway's memory alone: the end would make what is left look whole.
        """
        if row.detached_at is not None:
            return
        async with self._adoptions:
            try:
                saved = await self._log.claim(row.id, Source(row.fence + 1))
            except (StreamMoved, StreamLogUnavailable):
                return
            if saved is None or saved.end is not None:
                return
            await self._log.append(row.id, [terminal_event(saved.last_sequence + 1, outcome_in(row))])

    async def stop(self, drain_seconds: float, *, hand_over: bool) -> None:
        """Take no new work, give what runs `drain_seconds` to finish, and end the rest as failed.

        What may continue is left to other gateways, where there are any: `hand_over`. Then nobody can reach this one
        any more, and what its last callers begin is taken. Returns when the viewers have got the end too, or were
        too slow to take it.
        """
        self.draining, self.stopping = True, not hand_over
        finished: list[Run] = []
        with anyio.move_on_after(drain_seconds):
            while self._runs:
                run = next(iter(self._runs.values()))
                await run.ended.wait()
                finished.append(run)
                await checkpoint()
        self.stopping = True
        runs = list(self._runs.values())
        left = [run for run in runs if hand_over and run.job.continues and not run.ended.is_set()]
        for run in runs:
            if run in left:
                run.leave()
            else:
                run.shut_down()
        for run in runs:
            await run.ended.wait()
        await self._offer([run for run in left if run.left])
        with anyio.move_on_after(LAST_WORD_SECONDS):
            for run in [*finished, *runs]:
                if not run.left:
                    await run.wait_until_unwatched()

    def cancel(self, generation_id: UUID) -> None:
        """Another gateway was asked to."""
        if run := self._runs.get(generation_id):
            run.cancel()

    def lost(self, generation_id: UUID) -> None:
        """Another gateway has taken it over."""
        if run := self._runs.get(generation_id):
            run.leave()

    def unfollowed(self, generation_id: UUID) -> None:
        """The viewers of another gateway have left."""
        run = self._runs.get(generation_id)
        if run is not None and not run.is_watched:
            self._unwatched(run)

    async def look_for_abandoned(self) -> None:
        """A gateway has died: what only its viewers watched, and ends with its last viewer, ends."""
        for run in list(self._runs.values()):
            if run.cancels_on_disconnect and not run.is_watched:
                alive, died = await self._log.followers(run.generation_id)
                if died and not alive and not run.is_watched:
                    run.cancel()

    def unnoted_usage(self) -> list[dict[str, object]]:
        """What running generations have used since this was asked last, as columns."""
        rows: list[dict[str, object]] = []
        noted: dict[UUID, TokenUsage] = {}
        for generation_id, run in self._runs.items():
            usage = noted[generation_id] = run.usage()
            if usage != self._noted.get(generation_id, NO_USAGE):
                rows.append(
                    {
                        "row_id": generation_id,
                        "row_fence": run.job.row.fence,
                        "prompt_tokens": usage.prompt_tokens,
                        "completion_tokens": usage.completion_tokens,
                        "cached_tokens": usage.cached_tokens,
                        "usage_source": usage.source,
                    }
                )
        self._noted = noted
        return rows

    def _begin(self, run: Run) -> None:
        spawn(self._tasks, f"generation {run.generation_id}", self._run, run)

    async def _run(self, run: Run) -> None:
        """The task of one generation. Whatever happens, it ends in one record and one terminal event, or is left."""
        try:
            await run.execute(self._turn_came)
        finally:
            run.route.ticket.release()
            with anyio.CancelScope(shield=True):
                await self._end(run)
            del self._runs[run.generation_id]
            run.ended.set()
            run.gone.set()

    async def _end(self, run: Run) -> None:
        try:
            await self._log.flush(run.generation_id)  # an end on record without its text could not be mended
        except Exception:
            logger.exception("the text of generation %s may not be whole in the stream log", run.generation_id)
        if run.left:
            return
        outcome = run.outcome()
        event = run.terminal(outcome)
        await self._settle(run.job.row, outcome, await self._transcript(run, event))
        await run.write_end(event)

    async def _settle(self, row: Generation, outcome: Outcome, transcript: Transcribed | None = None) -> None:
        await self._ledger.write(Ending(row, outcome, now(), transcript))

    async def _transcript(self, run: Run, end: Completed | Failed) -> Transcribed | None:
        retention = max(self._text_retention, run.job.text_retention)
        if not retention:
            return None
        try:
            events = streams.encode_transcript([*await self._log.read(run.generation_id), end])
        except (StreamExpired, StreamLogUnavailable):
            return None
        except Exception:
            logger.exception("the text of generation %s cannot be kept", run.generation_id)
            return None
        return Transcribed(events, now() + timedelta(seconds=retention))

    async def _turn_came(self, row: Generation, queued_ms: int) -> None:
        """Tell the database. Where that fails, the answer comes all the same, and the row is right at the end."""
        try:
            async with self._database.transaction() as tx:
                await queries.generation.mark_running(tx, row.id, row.fence, now(), queued_ms)
        except Exception as error:
            if not is_outage(error):
                raise
            logger.warning("the database does not know that generation %s has begun", row.id)

    def _unwatched(self, run: Run) -> None:
        """Its last viewer here has left; when this gateway stops, they come back elsewhere."""
        if not run.cancels_on_disconnect or self.draining:
            return
        if not self._log.is_shared:
            run.cancel()
        else:
            spawn(self._tasks, f"look for viewers of generation {run.generation_id}", self._cancel_unless_watched, run)

    async def _cancel_unless_watched(self, run: Run) -> None:
        alive, _ = await self._log.followers(run.generation_id)
        if not alive and not run.is_watched and not self.draining:
            run.cancel()

    async def _reroute(self, job: Job, route: Route, losses: Losses) -> bool:
        """Find a backend that answers and has room, waiting a while for one. One just lost comes last."""
        delay = 0.05
        with anyio.move_on_after(REROUTE_SECONDS):
            while True:
                places = await self._catalog.serving(route.model)
                for model in sorted(places, key=lambda place: losses.pause(place.backend.name)):
                    if not losses.pause(model.backend.name) and self._change(route, model, job.row.user_id):
                        while route.ticket.position:
                            await route.ticket.moved()
                        return True
                await anyio.sleep(delay)
                delay = min(delay * 2, 1.0)
        logger.warning("generation %s has found no backend to go on", job.row.id)
        return False

    def _change(self, route: Route, model: Model, user_id: UUID) -> bool:
        if model.backend.name != route.model.backend.name:
            try:
                ticket = self._queue(model, user_id)
            except Overloaded:
                return False
            route.ticket.release()
            route.ticket = ticket
        route.model = model
        return True

    # --- what dead gateways left behind ----------------------------------------------------------------------

    async def _is_still_here(self, row: Generation) -> bool:
        """Whether it was this gateway's all the time, only that the others took this one for dead for a while.

        Where another gateway has had it since, what runs here is no longer the generation.
        """
        run = self._runs.get(row.id)
        if run is None:
            return False
        if not run.left and row.fence == run.job.row.fence + 1:
            run.job.row.fence = row.fence
            await self._log.raise_fence(row.id, row.fence)
            return True
        run.leave()
        await run.gone.wait()
        return False

    async def _claim(self, row: Generation, source: Adopted) -> Saved | None:
        while True:
            try:
                own = Source(row.fence, source.usage)
                return await self._log.claim(row.id, own, detached=row.detached_at is not None)
            except StreamLogUnavailable:
                await anyio.sleep(RETRY_SECONDS)

    async def _finish(self, row: Generation, saved: Saved, source: Adopted) -> None:
        if saved.end is not None:
            await self._settle(row, outcome_of(row, saved.end))
        elif (job := continuable(row, saved)) is None or not await self._go_on(job, source):
            await self._abort(row, saved)

    async def _go_on(self, job: Job, source: Adopted) -> bool:
        """Run it here, where the model is served and there is a place. The slot is waited for in line."""
        try:
            model = await self._catalog.find(job.row.model)
            run = self.admit(job, self.enter(model, job.row.user_id))
        except GatewayError as error:
            logger.warning("generation %s cannot go on: %s", job.row.id, error)
            return False
        source.run = run
        logger.warning("generation %s goes on here: its gateway is gone", job.row.id)
        self._begin(run)
        return True

    async def _abort(self, row: Generation, saved: Saved, *, unknown: bool = False) -> None:
        """End it; where the log knows nothing of it, whoever finds no text must find the end on record first."""
        reason = FinishReason.CANCELLED if saved.cancelled else None
        outcome = Outcome(reason, None if reason else Interrupted(), saved.usage, orphan_timings(row))
        await self._settle(row, outcome)
        logger.warning("generation %s was ended: its gateway is gone", row.id)
        try:
            if unknown:
                await self._log.open(row.id, Source(row.fence), saved.dropped)
            await self._log.append(row.id, [terminal_event(saved.last_sequence + 1, outcome)])
        except Exception:
            logger.exception("the viewers of generation %s are not told of its end", row.id)

    async def _offer(self, runs: Sequence[Run]) -> None:
        """Let other gateways take these over, now."""
        if not runs:
            return
        for run in runs:
            await self._log.leave(run.generation_id)
        try:
            async with self._database.transaction() as tx:
                for run in runs:
                    await queries.generation.offer(tx, run.generation_id, run.job.row.fence)
        except Exception as error:
            if not is_outage(error):
                raise
            logger.warning("%d generations are taken over only when this gateway is missed", len(runs))
