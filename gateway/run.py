"""One generation in progress: it waits its turn, reads the backend eagerly and writes the stream log.

QUEUED ── slot ── RUNNING ── the model finished ───── COMPLETED
   │                 │
   ├─────────────────┼── cancelled, viewers gone ──── CANCELLED
   └─────────────────┴── error, time-out, shutdown ── FAILED
"""

import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby
from uuid import UUID

import anyio
from anyio.lowlevel import checkpoint_if_cancelled

from backends.errors import BackendError, BackendProtocolError, BackendTimeout, TimeoutPhase
from backends.protocol import ChatRequest, Chunk, FinishChunk, TextChunk, ThinkingChunk, ToolCallChunk, UsageChunk
from gateway.catalog import Model
from gateway.errors import BackendFailure, GatewayError, ShuttingDown
from gateway.events import (
    Completed,
    Event,
    Failed,
    FinishReason,
    Queued,
    Started,
    TextDelta,
    ThinkingDelta,
    ToolCallRequested,
    utf16_length,
)
from gateway.metering import Meter, TokenUsage
from gateway.queue import Ticket
from gateway.requests import OnDisconnect
from gateway.streams import StreamLog
from gateway.timings import Stopwatch, Timings

logger = logging.getLogger(__name__)


class State(StrEnum):
    """Where a generation stands."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    CANCELLED = "CANCELLED"
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a generation ended: with a finish reason or an error, never both."""

    finish_reason: FinishReason | None
    error: GatewayError | None
    usage: TokenUsage
    timings: Timings

    @property
    def state(self) -> State:
        """The terminal state that this outcome stands for."""
        if self.error is not None:
            return State.FAILED
        return State.CANCELLED if self.finish_reason is FinishReason.CANCELLED else State.COMPLETED


class Run:
    """A generation that has not ended.

    `execute` takes it to its end and never raises, but when it is cancelled from outside; then `outcome` tells
    how it ended, and `write_end`, which never raises either, tells the viewers.
    """

    def __init__(
        self,
        generation_id: UUID,
        model: Model,
        request: ChatRequest,
        on_disconnect: OnDisconnect,
        ticket: Ticket,
        log: StreamLog,
    ) -> None:
        self.generation_id = generation_id
        self.ticket = ticket
        self.ended = anyio.Event()
        self._model = model
        self._request = request
        self._on_disconnect = on_disconnect
        self._log = log
        self._viewers = 0
        self._unwatched = anyio.Event()
        self._scope = anyio.CancelScope()
        self._must_wait = ticket.position > 0  # as its row says; the turn may come before the task begins
        self._error: GatewayError | None = None
        self._finish: FinishChunk | None = None
        self._answered = False
        self._meter = Meter(request)
        self._stopwatch = Stopwatch()
        self._sequence = 0
        self._text_offset = 0
        self._thinking_offset = 0

    def cancel(self) -> None:
        """Its user no longer wants it."""
        self._scope.cancel()

    def shut_down(self) -> None:
        """The gateway can no longer run it."""
        self._error = ShuttingDown()
        self._scope.cancel()

    def viewer_came(self) -> None:
        """One viewer more."""
        self._viewers += 1
        if self._unwatched.is_set():
            self._unwatched = anyio.Event()

    def viewer_left(self) -> None:
        """One viewer less; the last one takes the generation along, unless it shall continue."""
        self._viewers -= 1
        if self._viewers == 0:
            self._unwatched.set()
            if self._on_disconnect is OnDisconnect.CANCEL:
                self.cancel()

    async def wait_until_unwatched(self) -> None:
        """Return when nobody watches."""
        if self._viewers:
            await self._unwatched.wait()

    async def execute(self, turn_came: Callable[[UUID, int], Awaitable[None]]) -> None:
        """Take the generation to its end. `turn_came` is told the milliseconds in line, if it had to wait there."""
        with self._scope:
            try:
                await self._wait_for_turn(turn_came)
                await self._read_backend()
            except BackendError as error:
                if not self._answered and _is_refusal(error):
                    self._meter.refused()
                self._error = BackendFailure(error)
            except Exception:
                logger.exception("generation %s failed", self.generation_id)
                self._error = GatewayError("The gateway failed on this generation; its log says why.")

    def outcome(self) -> Outcome:
        """How it ended."""
        finish, error = self._finish, self._error
        reason = None
        if finish is not None:
            reason, error = FinishReason(finish.reason.value), None
        elif error is None and self._scope.cancel_called:
            reason = FinishReason.CANCELLED
        elif error is None:
            error = ShuttingDown()
        timings = self._stopwatch.timings(finish.load_ms if finish else None)
        return Outcome(reason, error, self._meter.usage(), timings)

    async def write_end(self, outcome: Outcome) -> None:
        """Append the one terminal event."""
        error, usage = outcome.error, outcome.usage
        try:
            if error is not None:
                await self._append(Failed(self._next, error.code, error.message, error.retryable, usage))
            elif outcome.finish_reason is not None:
                await self._append(Completed(self._next, outcome.finish_reason, usage))
        except Exception:
            logger.exception("the end of generation %s is not in the stream log", self.generation_id)
        finally:
            self.ended.set()

    async def _wait_for_turn(self, turn_came: Callable[[UUID, int], Awaitable[None]]) -> None:
        while self.ticket.position:
            await self._append(Queued(self._next, self.ticket.position))
            await self.ticket.moved()
        queued_ms = self._stopwatch.turn_came()
        if self._must_wait:
            await turn_came(self.generation_id, queued_ms)
        await self._append(Started(self._next, queued_ms))

    async def _read_backend(self) -> None:
        await checkpoint_if_cancelled()  # what is cancelled before it is asked costs nothing
        self._meter.asked()
        async with self._model.backend.generate(self._request) as batches:
            self._answered = True
            async for chunks in batches:
                self._meter.add(chunks)
                events = self._events(chunks)
                if events:
                    self._stopwatch.token_came()
                    await self._append(*events)
        if self._finish is None:
            raise BackendProtocolError("The model server ended the answer without saying why.")

    def _events(self, chunks: Sequence[Chunk]) -> list[Event]:
        """The chunks of one read, neighbours of one kind as one event: a burst costs what one token costs."""
        events: list[Event] = []
        first = self._next
        said = (chunk for chunk in chunks if not isinstance(chunk, UsageChunk))
        for kind, group in groupby(said, key=type):
            if kind is TextChunk:
                events.append(self._text(first + len(events), group))
            elif kind is ThinkingChunk:
                events.append(self._thinking(first + len(events), group))
            else:
                for chunk in group:
                    if isinstance(chunk, ToolCallChunk):
                        events.append(ToolCallRequested(first + len(events), chunk.call))
                    elif isinstance(chunk, FinishChunk):
                        self._finish = chunk
        return events

    def _text(self, sequence: int, chunks: Iterable[Chunk]) -> TextDelta:
        text, tokens = _joined(chunks)
        delta = TextDelta(sequence, text, self._text_offset, tokens)
        self._text_offset += utf16_length(text)
        return delta

    def _thinking(self, sequence: int, chunks: Iterable[Chunk]) -> ThinkingDelta:
        text, tokens = _joined(chunks)
        delta = ThinkingDelta(sequence, text, self._thinking_offset, tokens)
        self._thinking_offset += utf16_length(text)
        return delta

    async def _append(self, *events: Event) -> None:
        """A number is used up only when the log has taken its event, so the end fits after a failure of the log."""
        await self._log.append(self.generation_id, events)
        self._sequence += len(events)

    @property
    def _next(self) -> int:
        return self._sequence + 1


def _is_refusal(error: BackendError) -> bool:
    """Whether an error that came instead of an answer means that no work was done. One that is late did some."""
    return not isinstance(error, BackendTimeout) or error.phase is TimeoutPhase.CONNECT


def _joined(chunks: Iterable[Chunk]) -> tuple[str, int]:
    pieces = [chunk for chunk in chunks if isinstance(chunk, TextChunk | ThinkingChunk)]
    return "".join([piece.text for piece in pieces]), sum(piece.tokens for piece in pieces)
