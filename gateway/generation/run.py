"""One generation in progress: it waits for its slot, reads the backend eagerly and writes the stream.

ARCHITECTURE.md has the picture of its states.
"""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import anyio
from anyio.lowlevel import checkpoint_if_cancelled

from backends.errors import BackendError, BackendProtocolError, BackendResting, BackendUnsupported, MalformedToolCall
from backends.protocol import ChatRequest, FinishChunk
from backends.protocol import FinishReason as BackendFinishReason
from db.clock import now
from db.tables import Generation
from gateway.blobs import Blobs
from gateway.catalog import Breaker
from gateway.errors import GatewayError, Interrupted, ShuttingDown
from gateway.failures import BackendFailure
from gateway.generation.continuation import Losses, PartialAnswer, continuation, is_refusal
from gateway.generation.estimates import Estimates
from gateway.generation.hooks import GenerationHooks
from gateway.generation.job import Job
from gateway.generation.meter import Meter, added
from gateway.generation.record import Attempt, Attempts, Outcome, Stopwatch, attempts_until, terminal_event
from gateway.generation.request import OnDisconnect
from gateway.generation.routing import Route
from gateway.generation.writer import Deltas, Writer
from gateway.latch import Latch
from gateway.streams import (
    NO_USAGE,
    CancelReason,
    End,
    Event,
    FinishReason,
    KeptUsage,
    LossReason,
    Queued,
    QueueReason,
    Resumed,
    SavedStream,
    Started,
    StreamLog,
    TokenUsage,
)

logger = logging.getLogger(__name__)

_CUT = (BackendFinishReason.LENGTH, BackendFinishReason.CONTENT_FILTER, BackendFinishReason.REPETITION)
"""Ends in the middle of what was being said, be it of a tool call."""


Reroute = Callable[[Generation, Route, Losses], Awaitable[bool]]
"""Changes the route to a backend that takes requests, has a place and need not be left alone; False where none does."""

Reserve = Callable[["Run"], Awaitable[None]]
"""Reserves what a prompt needs that is read again; raises LimitReached, DatabaseDown."""


@dataclass(frozen=True, slots=True)
class Services:
    """What all runs of a gateway use. `unwatched` is told of a run that its last viewer has left."""

    log: StreamLog
    reroute: Reroute
    breaker: Callable[[Route], Breaker]
    unwatched: Callable[["Run"], None]
    estimates: Estimates
    blobs: Blobs
    kept_usage: KeptUsage | None
    reserve: Reserve
    hooks: GenerationHooks


Gate = Callable[["Run"], Awaitable[None]]  # returns when the generation may go on; raises LimitReached


class Run:
    """A generation that has not ended.

    `execute` takes it to its end and never raises, but when it is cancelled from outside; then `outcome` tells
    how it ended, and `write_end`, which never raises either, tells the viewers. Where `released` is set there is no end
    to write: another gateway has it, or will; nor where it was `withdrawn`.

    One that `asks_ahead` asks its backend while its row is on its way into the database. One with a `gate` waits there
    for a limit first, and then has a place in the queue of its backend.
    """

    def __init__(
        self, job: Job, route: Route, services: Services, *, asks_ahead: bool, gate: Gate | None = None
    ) -> None:
        self.generation_id = job.row.id
        self.job = job
        self.route = route
        self.finished = Latch()  # its viewers can know the end
        self.stopped = Latch()  # it does nothing any more
        self.released = False
        self.withdrawn = False
        self._services = services
        self._writer = Writer(services.log, job.row.id, services.hooks.observer(job.row))
        self._asks_ahead = asks_ahead
        self._gate = gate
        self._viewers = 0
        self._unwatched = Latch()
        self._scope = anyio.CancelScope()
        self._must_wait = route.ticket.position > 0  # as its row says; the turn may come before the task begins
        self._error: GatewayError | None = None
        self._cancel_reason: CancelReason | None = None
        self._finish: FinishChunk | None = None
        self._asking = job.request
        self._answered = False
        self._meter = Meter(job.request)
        self._spent = NO_USAGE
        self._attempts = Attempts()
        self._losses = Losses()
        self._lost: BackendError | None = None
        self._stopwatch = Stopwatch((now() - job.row.created_at).total_seconds() if job.saved else 0)
        self._deltas = Deltas(logprobs=job.request.logprobs)
        self._partial = PartialAnswer() if job.continues else None
        if job.saved is not None:
            self._restore(job.saved)

    @property
    def cancels_on_disconnect(self) -> bool:
        """Whether it ends with its last viewer."""
        return self.job.row.on_disconnect == OnDisconnect.CANCEL

    @property
    def is_watched(self) -> bool:
        """Whether somebody watches it here."""
        return self._viewers > 0

    def attempts(self) -> list[Attempt]:
        """Give the backends that were asked so far."""
        return self._attempts.all()

    @property
    def asking(self) -> ChatRequest:
        """What its backend is asked: the request, or what is left of it."""
        return self._asking

    def usage(self) -> TokenUsage:
        """Give what it has used so far, over all model servers and gateways."""
        return added(self._spent, self._meter.usage())

    def cancel(self, reason: CancelReason) -> None:
        """End it: nobody wants it any more. The first reason counts."""
        self._cancel_reason = self._cancel_reason or reason
        self._scope.cancel()

    def shut_down(self) -> None:
        """Give the gateway can no longer run it."""
        self._error = ShuttingDown()
        self._scope.cancel()

    def release(self) -> None:
        """Stop without an end: another gateway runs it from here on."""
        self.released = True
        self._scope.cancel()

    def withdraw(self) -> None:
        """Stop as if it had never been: it has no row in the database, and nothing of it was shown."""
        self.withdrawn = True
        self._scope.cancel()
        self._writer.shown.set()

    async def show(self) -> None:
        """Show what it has said so far, and what it will say: its row is in the database."""
        try:
            await self._writer.show()
        except Exception:
            self._fail_unexpectedly()
            self._scope.cancel()

    async def until_shown(self) -> None:
        """Return when its row is in the database, or will never be."""
        await self._writer.shown.wait()

    def raise_fence(self, fence: int) -> None:
        """Go on under a newer right to write."""
        self.job.row.fence = fence

    def viewer_came(self) -> None:
        """Count one viewer more."""
        self._viewers += 1
        self._unwatched.clear()

    def viewer_left(self) -> None:
        """Count one viewer less; what follows from that is not decided here."""
        self._viewers -= 1
        if self._viewers == 0:
            self._unwatched.set()
            self._services.unwatched(self)

    async def wait_until_unwatched(self) -> None:
        """Return when nobody watches."""
        if self._viewers:
            await self._unwatched.wait()

    async def execute(self, turn_came: Callable[[Generation, int], Awaitable[None]]) -> None:
        """Take the generation to its end. `turn_came` is told the milliseconds in the queue, if it had to wait."""
        with self._scope:
            try:
                await self._wait_for_turn(turn_came)
                await self._answer()
            except BackendError as error:
                self._error = BackendFailure(error)
            except GatewayError as error:  # a blob of the prompt is gone, a limit is reached, a guard refuses
                self._error = error
            except Exception:
                self._fail_unexpectedly()

    def _fail_unexpectedly(self) -> None:
        logger.exception("generation %s failed", self.generation_id)
        self._finish = None  # its text came in the same read, and is not in the log
        self._error = GatewayError("The gateway failed on this generation; its log says why.")

    def outcome(self) -> Outcome:
        """Tell how it ended."""
        finish, error, cancelled = self._finish, self._error, self._cancel_reason
        if finish is not None:
            error = cancelled = None
        elif error is not None:
            cancelled = None
        elif cancelled is None:
            error = ShuttingDown()
        reason = None if finish is None else FinishReason(finish.reason.value)
        self._attempts.end(self._meter.usage(), error)
        told = (self._meter.eval_ms, self._meter.prompt_ms)
        eval_ms, prompt_ms = told if self._spent == NO_USAGE else (None, None)  # of one part they tell nothing
        timings = self._stopwatch.timings(finish.load_ms if finish else None, eval_ms, prompt_ms)
        return Outcome(reason, error, self.usage(), timings, cancelled)

    def terminal(self, outcome: Outcome) -> End:
        """Give the event that tells its viewers of the end."""
        return terminal_event(self._next, outcome)

    async def write_end(self, event: End) -> None:
        """Append the one terminal event."""
        try:
            await self._append(event)
        except Exception:
            logger.exception("the end of generation %s is not in the stream log", self.generation_id)
        finally:
            self.finished.set()

    def _restore(self, saved: SavedStream) -> None:
        self._attempts = Attempts(attempts_until(self.job.row, now(), saved.usage, Interrupted()))
        self._spent = saved.usage
        self._writer.go_on(saved.last_sequence)
        self._deltas.go_on(saved.events)
        if self._partial is not None:
            self._partial.add(saved.events)
            self._asking = continuation(self.job.request, self._partial) or self.job.request
            self._meter = Meter(self._asking)

    async def _wait_for_turn(self, turn_came: Callable[[Generation, int], Awaitable[None]]) -> None:
        begun = self.job.saved is not None and self.job.saved.has_started
        if not self._asks_ahead:
            await self.until_shown()
        if self._gate is not None:
            await self._append(Queued(self._next, self.route.ticket.position, QueueReason.LIMIT))
            await self._gate(self)
        if self.route.ticket.position and not self.job.continues:  # nobody waits for a slot only to be sent away
            self._services.breaker(self.route).check((self.job.row.user_id, self.job.row.model))
        while (ticket := self.route.ticket).position:
            if not begun:
                await self._append(Queued(self._next, ticket.position))
            await ticket.moved()
        queued_ms = self._stopwatch.turn_came()
        if begun or self._spent != NO_USAGE:  # what died may have asked before it told of it
            await self._services.reserve(self)
        if begun:
            await self._append(Resumed(self._next, LossReason.GATEWAY_LOST, self.route.model.backend.name))
            return
        if self._must_wait:
            await turn_came(self.job.row, queued_ms)
        started = Started(self._next, queued_ms, self.route.model.backend.name)
        if self._writer.shown.is_set():
            await self._append(started)
        else:
            self._writer.hold(started)

    async def _answer(self) -> None:
        """Read the answer, going on at another backend where one is lost and the generation may continue."""
        while True:
            try:
                await self._read_backend()
                return
            except BackendError as error:
                if is_refusal(error, answered=self._answered, said=self._meter.counted > 0):
                    self._meter.refused()
                self._attempts.end(self._meter.usage(), BackendFailure(error))
                if isinstance(error, BackendUnsupported) and self._lost is not None:
                    raise self._lost from error  # no server there can go on where another one was lost
                if not await self._went_on(error):
                    raise
                if self._finish is not None:
                    return

    async def _went_on(self, error: BackendError) -> bool:
        """Tell whether there is somebody else to ask for the rest."""
        backend = self.route.model.backend.name
        rest: ChatRequest | None = self._asking
        if not isinstance(error, BackendResting):  # that was not asked, so nothing is lost
            if self._partial is None or not self._losses.add(backend, error, said=self._meter.counted > 0):
                return False
            if self._partial.fills(self.job.request):
                self._finish = FinishChunk(BackendFinishReason.LENGTH)  # all but the word of it had come
                return True
            rest = continuation(self.job.request, self._partial)
        if rest is None or not await self._services.reroute(self.job.row, self.route, self._losses):
            return False
        backend = self.route.model.backend.name
        logger.warning("generation %s goes on at backend %s: %s", self.generation_id, backend, type(error).__name__)
        self._lost = error
        self._spent = self.usage()
        self._asking, self._answered, self._meter = rest, False, Meter(rest)
        await self._services.reserve(self)
        await self._append(Resumed(self._next, LossReason.BACKEND_LOST, backend))
        return True

    async def _read_backend(self) -> None:
        """Ask the backend, with the bytes of blobs in the request: they are held for as long as it answers."""
        await checkpoint_if_cancelled()  # what is cancelled before it is asked costs nothing
        async with self._services.blobs.filled(self._asking, self.job.row.user_id) as request:
            with self._services.breaker(self.route).attempt((self.job.row.user_id, self.job.row.model)) as begun:
                await self._read_answer(replace(request, model=self.route.model.upstream_name), begun)

    async def _read_answer(self, request: ChatRequest, begun: Callable[[], None]) -> None:
        model, kept_usage = self.route.model, self._services.kept_usage
        filtered = await self._services.hooks.output_filter(self.job.row, self._partial.text if self._partial else "")
        self._attempts.begin(model.backend.name)
        self._meter.asked(self._services.estimates.of(model.backend.name, model.upstream_name))
        try:
            async with model.backend.generate(request, self._on_loading) as batches:
                self._answered = True
                async for chunks in batches:
                    begun()
                    self._meter.add(chunks)
                    if kept_usage is not None:
                        kept_usage.note(self.generation_id, self.usage())
                    if filtered is not None:
                        chunks = await filtered.feed(chunks)
                    events, finish = self._deltas.events(self._next, chunks)
                    self._finish = finish or self._finish
                    if events:
                        self._stopwatch.token_came()
                        await self._append(*events)
        except BackendError as error:
            if self._finish is None:
                raise
            logger.info("generation %s: behind the end of its answer: %s", self.generation_id, type(error).__name__)
        finally:
            self._meter.end()
        if self._finish is None:
            raise BackendProtocolError("The model server ended the answer without saying why.")
        if self._deltas.malformed is not None and self._finish.reason not in _CUT:
            self._finish = None
            raise MalformedToolCall(self._deltas.malformed)

    async def _on_loading(self, loading: bool) -> None:
        """Tell the viewers; a prompt that waits for its model has not been read, and costs nothing."""
        if loading:
            self._meter.refused()
            await self._append(Queued(self._next, 0, QueueReason.LOADING))
        else:
            self._meter.asked()

    async def _append(self, *events: Event) -> None:
        await self._writer.append(events)
        if self._partial is not None:
            self._partial.add(events)

    @property
    def _next(self) -> int:
        return self._writer.next
