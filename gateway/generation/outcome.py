"""How a generation ended: as it ended here, and as its row or its last event tells of it."""

from dataclasses import dataclass
from enum import StrEnum

from db.clock import now
from db.tables import Generation
from gateway.errors import ErrorCode, GatewayError, RecordedError
from gateway.generation.timings import Timings, milliseconds
from gateway.streams import NO_USAGE, Completed, Failed, FinishReason, TokenUsage, UsageSource


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


def terminal_event(sequence: int, outcome: Outcome) -> Completed | Failed:
    """The last event of a generation that ended so."""
    error, usage = outcome.error, outcome.usage
    if error is not None:
        return Failed(sequence, error.code, error.message, error.retryable, usage)
    return Completed(sequence, outcome.finish_reason or FinishReason.CANCELLED, usage)


def outcome_told(row: Generation, end: Completed | Failed) -> Outcome:
    """Give the outcome that a terminal event told of, where the database has not heard of it."""
    if isinstance(end, Completed):
        return Outcome(end.finish_reason, None, end.usage, timings_so_far(row))
    return Outcome(None, RecordedError(end.code, end.message), end.usage, timings_so_far(row))


def outcome_recorded(row: Generation) -> Outcome:
    """Give the outcome that the row of an ended generation tells of."""
    if row.finish_reason is not None:
        return Outcome(FinishReason(row.finish_reason), None, usage_recorded(row), timings_so_far(row))
    error = RecordedError(ErrorCode(row.error_code or ErrorCode.INTERNAL_ERROR), row.error_message or "")
    return Outcome(None, error, usage_recorded(row), timings_so_far(row))


def timings_so_far(row: Generation) -> Timings:
    """Give the timings of a generation of which nothing but its row is known."""
    return Timings(row.queued_ms, None, None, milliseconds((now() - row.created_at).total_seconds()))


def usage_recorded(row: Generation) -> TokenUsage:
    """Give the usage that was noted in a row last."""
    if row.prompt_tokens is None or row.completion_tokens is None or row.usage_source is None:
        return NO_USAGE
    return TokenUsage(row.prompt_tokens, row.completion_tokens, row.cached_tokens, UsageSource(row.usage_source))
