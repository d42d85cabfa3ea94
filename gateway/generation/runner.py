"""The generations that this gateway runs, from their place in the queue to their recorded end."""

import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from enum import Enum
from functools import partial
from uuid import UUID

import anyio
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint

from auth.principal import ContentPolicy
from db import queries, tables
from db.clock import now
from db.engine import Database, WriteSession
from db.tables import Generation
from gateway import streams
from gateway.blobs import Blobs
from gateway.catalog import Model
from gateway.errors import DatabaseDown, StreamExpired, StreamLogUnavailable
from gateway.generation.admission import Admission
from gateway.generation.estimates import Estimates
from gateway.generation.hooks import NO_HOOKS, GenerationHooks, Recorded
from gateway.generation.job import Job
from gateway.generation.ledger import Ledger, is_outage
from gateway.generation.record import LedgerEntry, Outcome, PackedInput, State, kept_for, log_fields, timings_so_far
from gateway.generation.routing import Route, Router
from gateway.generation.run import Gate, Run, Services
from gateway.streams import NO_USAGE, CancelReason, End, KeptUsage, StreamLog, StreamOwner, StreamOwnership
from gateway.tasks import spawn

logger = logging.getLogger(__name__)

LAST_EVENT_SECONDS = 2
"""How long a gateway that stops waits for its viewers to take the last event."""

STORES_SECONDS = 5
"""How long it waits for a store to take an end, since the last one that was taken."""


@dataclass(frozen=True, slots=True)
class GenerationObserver:
    """Whoever wants to know of the generations that run here.

    `recorded` are told the ends that are on record. `around` is entered for each, from its place in the queue to its
    end, and `ended` told in it how that was.
    """

    recorded: Sequence[Recorded] = ()
    around: Callable[[Generation], AbstractContextManager[None]] | None = None
    ended: Callable[[Generation, Outcome], None] | None = None


UNOBSERVED = GenerationObserver()


class Phase(Enum):
    """How far a gateway is on its way to its end. DRAINING: viewers are sent away; STOPPING: nothing is begun."""

    SERVING = "serving"
    DRAINING = "draining"
    STOPPING = "stopping"


class Runner:
    """Runs generations in the task group of the whole application.

    It owns each from `start` to its end::

        start ── ticket of the queue ── run ── task ── row, and the request if it is kept (transaction 1) ── stream
        task  ── Run.execute ── ticket given back ── text flushed ── row and usage (transaction 2) ── terminal event

    The task asks the backend while transaction 1 is under way: the first token comes earlier by as much as that takes.
    Nothing is shown, and no end written, before it is through; where it fails, the request is cancelled.

    `kept_usage` outlives this process, for whoever has to end what it left behind.
    `text_retention` is how many seconds the database keeps what was asked and answered after the end; 0: not at all.
    """

    def __init__(
        self,
        *,
        database: Database,
        log: StreamLog,
        ownership: StreamOwnership,
        ledger: Ledger,
        router: Router,
        blobs: Blobs,
        admission: Admission,
        tasks: TaskGroup,
        replica_id: UUID,
        text_retention: float = 0,
        kept_usage: KeptUsage | None = None,
        hooks: GenerationHooks = NO_HOOKS,
        observer: GenerationObserver = UNOBSERVED,
    ) -> None:
        self.replica_id = replica_id
        self.phase = Phase.SERVING
        self.text_retention = text_retention
        self.kept_usage = kept_usage
        self._database = database
        self._log = log
        self._ownership = ownership
        self._ledger = ledger
        self._router = router
        self._admission = admission
        self._tasks = tasks
        self._observer = observer
        self._runs: dict[UUID, Run] = {}
        self.estimates = Estimates()
        self._services = Services(
            log=log,
            reroute=router.reroute,
            breaker=router.breaker,
            unwatched=self.unwatched,
            estimates=self.estimates,
            blobs=blobs,
            kept_usage=kept_usage,
            reserve=self._reserve,
            hooks=hooks,
        )

    @property
    def runs(self) -> Sequence[Run]:
        """All that have not ended."""
        return list(self._runs.values())

    def get(self, generation_id: UUID) -> Run | None:
        """Give the run of a generation, if it is here and has not ended."""
        return self._runs.get(generation_id)

    async def start(
        self,
        job: Job,
        model: Model,
        also: Callable[[WriteSession], Awaitable[None]],
        *,
        may_ask_ahead: bool = True,
        gate: Gate | None = None,
    ) -> None:
        """Take a place in the queue, write the row, and `also` what belongs into the same transaction; then run it.

        Raises Overloaded, and what the database raises. A caller who leaves meanwhile leaves either nothing or a
        generation that runs. Where nobody can tell whether the row was written, it gets an end all the same.
        `may_ask_ahead` is whether the backend may be asked before the row is there, though that may be refused. With a
        `gate` it waits for a limit first, in no backend's queue, and the gate calls `unpark`.
        """
        row, enter = job.row, self._router.enter if gate is None else self._router.park
        run = self._admit(job, enter(model, row.user_id), may_ask_ahead, gate)
        waits = run.route.ticket.position > 0

        async def begin(tx: WriteSession) -> None:
            await queries.generation.add(tx, row)
            if job.kept is not None:
                tx.add(_request_row(row, job.kept))
            await also(tx)

        row.state, row.started_at = (State.QUEUED, None) if waits else (State.RUNNING, row.created_at)
        with anyio.CancelScope(shield=True):
            spawn(self._tasks, f"generation {row.id}", self._run, run)
            await checkpoint()  # the request first: the database's thread would take the interpreter from it
            try:
                await self._database.transact(begin)
            except BaseException as error:
                run.withdraw()
                self._forget(run)
                if is_outage(error):
                    outcome = Outcome(None, DatabaseDown(), NO_USAGE, timings_so_far(row))
                    entry = LedgerEntry(row, outcome, now(), kept_for(self.retention(row, job.text_retention)))
                    spawn(self._tasks, f"end of generation {row.id}", self._ledger.write, entry)
                raise
            try:
                await self._log.open(row.id, StreamOwner(row.fence, run.usage, job.encoded))
            finally:
                await run.show()

    async def unpark(self, run: Run) -> None:
        """Take a place in the queue of the backend of a generation that waited for a limit, as soon as there is one."""
        await self._router.unpark(run.route, run.job.row.user_id)

    def resume(self, job: Job, model: Model) -> Run:
        """Go on with a generation that another gateway began, and whose row and stream are there. Raises Overloaded."""
        run = self._admit(job, self._router.enter(model, job.row.user_id))
        spawn(self._tasks, f"generation {run.generation_id}", self._run, run)
        return run

    def drain(self) -> None:
        """Take viewers who leave from now on for sent away: they come back at another gateway."""
        if self.phase is Phase.SERVING:
            self.phase = Phase.DRAINING

    async def stop(self, drain_seconds: float, *, hand_over: bool) -> None:
        """Take no new work, give what runs `drain_seconds` to finish, and end the rest as failed.

        What may continue is left to other gateways, where there are any: `hand_over`. Then nobody can reach this one
        any more, and what its last callers begin is taken. Returns when the viewers have got the end too, or were
        too slow to take it.
        """
        self.phase = Phase.DRAINING if hand_over else Phase.STOPPING
        done: list[Run] = []
        with anyio.move_on_after(drain_seconds):
            while self._runs:
                run = next(iter(self._runs.values()))
                await run.finished.wait()
                done.append(run)
                await checkpoint()
        self.phase = Phase.STOPPING
        runs = self.runs
        released = [run for run in runs if hand_over and run.job.continues and not run.finished.is_set()]
        for run in runs:
            if run in released:
                run.release()
            else:
                run.shut_down()
        if not await self._have_finished(runs):
            self._leave_behind()
            await self._have_finished(runs)
        if handed_over := [run for run in released if run.released]:
            await _hand_over(self._database, self._ownership, handed_over)
        with anyio.move_on_after(LAST_EVENT_SECONDS):
            for run in [*done, *runs]:
                if not run.released:
                    await run.wait_until_unwatched()

    async def _have_finished(self, runs: Sequence[Run]) -> bool:
        """Wait for their ends. False where none came for some time: neither the log nor the database takes them."""
        for run in runs:
            left = len(self._runs)
            while not run.finished.is_set():
                with anyio.move_on_after(STORES_SECONDS) as late:
                    await run.finished.wait()
                if late.cancelled_caught and len(self._runs) == left:
                    return False
                left = len(self._runs)
        return True

    def _leave_behind(self) -> None:
        """Give up on what cannot be told of its end: whoever comes next finds it as if this gateway had been killed."""
        logger.error("%d generations are left without an end: no store takes it", len(self._runs))
        for run in self.runs:
            run.release()
        if self.kept_usage is not None:
            self.kept_usage.keep()
        self._ownership.leave()

    def unwatched(self, run: Run) -> None:
        """Cancel a generation that ends with its last viewer, who has left; but not while viewers are sent away."""

        async def cancel_unless_followed() -> None:
            alive, _ = await self._ownership.followers(run.generation_id)
            if not alive and not run.is_watched and self.phase is Phase.SERVING:
                run.cancel(CancelReason.VIEWERS_LEFT)

        if not run.cancels_on_disconnect or self.phase is not Phase.SERVING:
            return
        if not self._ownership.is_shared:
            run.cancel(CancelReason.VIEWERS_LEFT)
        else:
            spawn(self._tasks, f"look for viewers of generation {run.generation_id}", cancel_unless_followed)

    def _admit(self, job: Job, route: Route, may_ask_ahead: bool = False, gate: Gate | None = None) -> Run:
        """Count a generation among those that run here: from now on `stop` waits for it."""
        run = Run(
            job,
            route,
            self._services,
            # A database that fails would let models work for nobody.
            asks_ahead=may_ask_ahead and self._database.works and route.ticket.position == 0,
            gate=gate,
        )
        self._runs[run.generation_id] = run
        return run

    async def _reserve(self, run: Run) -> None:
        """Reserve what the prompt of a generation needs that another backend reads again."""
        await run.until_shown()  # what it reserved at its start is there with its row
        await self._admission.again(run.job.row, run.asking, run.route.model, self.estimates, run.usage())

    async def _run(self, run: Run) -> None:
        """Run one generation. Whatever happens, it ends in one record and one terminal event, or is released."""
        around = self._observer.around
        with nullcontext() if around is None else around(run.job.row):
            await self._run_to_its_end(run)

    async def _run_to_its_end(self, run: Run) -> None:
        try:
            await run.execute(partial(_note_turn, self._database))
        finally:
            run.route.ticket.release()
            with anyio.CancelScope(shield=True):
                await run.until_shown()  # an end finds the row that it belongs into
                if not run.withdrawn:
                    await self._end(run)
            self._forget(run)
            run.stopped.set()

    def _forget(self, run: Run) -> None:
        self._runs.pop(run.generation_id, None)
        if self.kept_usage is not None and (run.withdrawn or run.released):
            self.kept_usage.forget(run.generation_id)  # else the ledger does, as soon as the end is on record
        run.route.ticket.release()
        run.finished.set()

    async def _end(self, run: Run) -> None:
        """Write the end: first the text, then the row with the usage, then the event that tells of it.

        An end on record without its text could not be repaired, and whoever sees the event finds the usage.
        """
        try:
            await self._ownership.flush(run.generation_id)
        except Exception:
            logger.exception("the text of generation %s may not be whole in the stream log", run.generation_id)
        if run.released:
            return
        outcome = run.outcome()
        event = run.terminal(outcome)
        retention = self.retention(run.job.row, run.job.text_retention)
        events = await _transcript(self._log, run.generation_id, event) if retention else None
        kept = kept_for(retention, events)
        await self._ledger.write(LedgerEntry(run.job.row, outcome, now(), kept, run.attempts()))
        logger.info("generation ended", extra=log_fields(run.job.row, outcome))
        if self._observer.ended is not None:
            self._observer.ended(run.job.row, outcome)
        await run.write_end(event)

    def retention(self, row: Generation, least: float = 0) -> float:
        """Give for how many seconds the database keeps the text of a generation, `least` if it may keep any."""
        return 0 if row.content_policy == ContentPolicy.NOTHING else max(self.text_retention, least)


def _request_row(row: Generation, kept: PackedInput) -> tables.Transcript:
    return tables.Transcript(generation_id=row.id, request=kept.request, media=kept.media)


async def _transcript(log: StreamLog, generation_id: UUID, end: End) -> bytes | None:
    """Give the text for the database to keep; None where there is none any more."""
    try:
        return streams.encode_transcript([*await log.read(generation_id), end])
    except (StreamExpired, StreamLogUnavailable):
        return None
    except Exception:
        logger.exception("the text of generation %s cannot be kept", generation_id)
        return None


async def _note_turn(database: Database, row: Generation, queued_ms: int) -> None:
    """Note that a turn has come. Where that fails, the answer comes all the same, and the row is right at the end."""
    try:
        async with database.transaction() as tx:
            await queries.generation.mark_running(tx, row.id, row.fence, now(), queued_ms)
    except Exception as error:
        if not is_outage(error):
            raise
        logger.warning("the database does not know that generation %s has begun", row.id)


async def _hand_over(database: Database, ownership: StreamOwnership, runs: Sequence[Run]) -> None:
    """Let other gateways take these over, now."""
    for run in runs:
        await ownership.release(run.generation_id)
    try:
        async with database.transaction() as tx:
            for run in sorted(runs, key=lambda run: run.generation_id):
                await queries.generation.release(tx, run.generation_id, run.job.row.fence)
    except Exception as error:
        if not is_outage(error):
            raise
        logger.warning("%d generations are taken over only when this gateway is missed", len(runs))
