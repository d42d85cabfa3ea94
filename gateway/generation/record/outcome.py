"""How a generation ended and how long it took: as it was here, and as its row or its last event tells of it."""

import time
from dataclasses import dataclass
from enum import StrEnum

from auth.principal import ContentPolicy
from db.clock import now
from db.tables import Generation, GenerationAttempt
from gateway.errors import ErrorCode, GatewayError
from gateway.failures import RecordedError
from gateway.streams import (
    NO_USAGE,
    Cancelled,
    CancelReason,
    Completed,
    End,
    Failed,
    FinishReason,
    TokenUsage,
    UsageSource,
    UsageSources,
)

_CANCELLED = "cancelled"
"""The finish reason that gateways before 1.0 wrote for what was cancelled."""

NOT_KEPT = "The content policy of this generation keeps no message; the code tells the reason."


LARGEST_MS = 2**31 - 1
"""What a column, and an Int of GraphQL, can hold: 24 days. A generation may have waited longer for a gateway."""


@dataclass(frozen=True, slots=True)
class Timings:
    """Milliseconds from the request's acceptance; None where it never came to that."""

    queued_ms: int | None
    load_ms: int | None
    time_to_first_token_ms: int | None
    total_ms: int
    last_token_ms: int | None = None
    eval_ms: int | None = None
    """Not from then on: how long the backend says that it generated."""
    prompt_ms: int | None = None
    """Not from then on either: how long the backend says that it read the prompt."""
    longest_gap_ms: int | None = None
    """Not from then on either: the longest silence between two parts of the answer."""


class Stopwatch:
    """Runs from its making; each mark is set once, but the last token's.

    For a generation that another gateway began, `age` is how many seconds ago that was.
    """

    def __init__(self, age: float = 0) -> None:
        self._started = time.perf_counter() - age
        self._turn_ms: int | None = None
        self._first_token_at: float | None = None
        self._last_token_at = 0.0
        self._longest_gap: float | None = None

    def turn_came(self) -> int:
        """Note that the queue is behind, and return the milliseconds spent in it."""
        self._turn_ms = self._elapsed_ms()
        return self._turn_ms

    def token_came(self) -> None:
        """Note that something was generated; the first call and the last one count."""
        before, self._last_token_at = self._last_token_at, time.perf_counter()
        if self._first_token_at is None:
            self._first_token_at = self._last_token_at
        elif self._longest_gap is None or self._last_token_at - before > self._longest_gap:
            self._longest_gap = self._last_token_at - before

    def timings(self, load_ms: int | None, eval_ms: int | None, prompt_ms: int | None) -> Timings:
        """Give all marks, the total being now. The arguments are what the backend tells of itself."""
        total_ms = self._elapsed_ms()
        first = last = gap = None
        if self._first_token_at is not None:
            first = milliseconds(self._first_token_at - self._started)
            last = milliseconds(self._last_token_at - self._started)
            gap = None if self._longest_gap is None else milliseconds(self._longest_gap)
        return Timings(self._turn_ms, load_ms, first, total_ms, last, eval_ms, prompt_ms, gap)

    def _elapsed_ms(self) -> int:
        return milliseconds(time.perf_counter() - self._started)


def milliseconds(seconds: float) -> int:
    """Give whole milliseconds, as many as can be told. Clocks that went back make no negative time."""
    return max(0, min(round(seconds * 1000), LARGEST_MS))


SOURCE_COLUMNS = tuple(f"{name}_source" for name in UsageSources._fields)


class State(StrEnum):
    """Where a generation stands."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    CANCELLED = "CANCELLED"
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a generation ended: with one of a finish reason, an error, and why it was cancelled."""

    finish_reason: FinishReason | None
    error: GatewayError | None
    usage: TokenUsage
    timings: Timings
    cancel_reason: CancelReason | None = None

    @property
    def state(self) -> State:
        """The terminal state that this outcome stands for."""
        if self.error is not None:
            return State.FAILED
        return State.COMPLETED if self.cancel_reason is None else State.CANCELLED


def told_in_the_log(outcome: Outcome) -> str:
    """Give all of it but the error's message: a model server may repeat there what it was asked."""
    reason = outcome.error.code if outcome.error else outcome.cancel_reason or outcome.finish_reason
    return f"{outcome.state}, {reason}, {outcome.usage}, {outcome.timings}"


def log_fields(row: Generation, outcome: Outcome) -> dict[str, str | int | None]:
    """Give what the log's one line of a generation tells. `end` is why it ended: the code alone, as above."""
    reason = outcome.error.code if outcome.error else outcome.cancel_reason or outcome.finish_reason
    fields: dict[str, str | int | None] = {
        "generation": str(row.id),
        "user": str(row.user_id),
        "model": row.model,
        "backend": row.backend,
        "state": outcome.state.value,
        "end": reason and reason.value,
        "prompt_tokens": outcome.usage.prompt_tokens,
        "completion_tokens": outcome.usage.completion_tokens,
        "queued_ms": outcome.timings.queued_ms,
        "first_token_ms": outcome.timings.time_to_first_token_ms,
        "ms": outcome.timings.total_ms,
    }
    return {name: value for name, value in fields.items() if value is not None}


def terminal_event(sequence: int, outcome: Outcome) -> End:
    """Give the last event of a generation that ended so."""
    error, usage = outcome.error, outcome.usage
    if error is not None:
        return Failed(sequence, error.code, error.message, error.retryable, usage, error.retry_after_ms)
    if outcome.cancel_reason is not None or outcome.finish_reason is None:
        return Cancelled(sequence, outcome.cancel_reason or CancelReason.REQUESTED, usage)
    return Completed(sequence, outcome.finish_reason, usage)


def outcome_told(row: Generation, end: End) -> Outcome:
    """Give the outcome that a terminal event told of, where the database has not heard of it."""
    timings = timings_so_far(row)
    if isinstance(end, Completed):
        return Outcome(end.finish_reason, None, end.usage, timings)
    if isinstance(end, Cancelled):
        return Outcome(None, None, end.usage, timings, end.reason)
    return Outcome(None, RecordedError(end.code, end.message, end.retry_after_ms), end.usage, timings)


def outcome_recorded(row: Generation) -> Outcome:
    """Give the outcome that the row of an ended generation tells of."""
    reason, cancelled = finish_recorded(row), cancel_recorded(row)
    error = None
    if reason is None and cancelled is None:
        error = error_recorded(row) or RecordedError(ErrorCode.INTERNAL_ERROR, "")
    return Outcome(reason, error, usage_recorded(row) or NO_USAGE, timings_so_far(row), cancelled)


def finish_recorded(row: Generation) -> FinishReason | None:
    """Give why a generation ended by itself; None where it did not, or has not."""
    return None if row.finish_reason in (None, _CANCELLED) else FinishReason(row.finish_reason)


def cancel_recorded(row: Generation) -> CancelReason | None:
    """Give why a generation was cancelled; None where it was not. Gateways before 1.0 noted no reason."""
    if row.cancel_reason is not None:
        return CancelReason(row.cancel_reason)
    return CancelReason.REQUESTED if row.finish_reason == _CANCELLED else None


def error_recorded(row: Generation | GenerationAttempt) -> RecordedError | None:
    """Give why a generation, or one attempt of it, failed; None where it did not."""
    if row.error_code is None:
        return None
    return RecordedError(ErrorCode(row.error_code), row.error_message or "", row.error_retry_after_ms)


def timings_so_far(row: Generation) -> Timings:
    """Give the timings of a generation of which nothing but its row is known."""
    return Timings(row.queued_ms, None, None, milliseconds((now() - row.created_at).total_seconds()))


def usage_recorded(row: Generation | GenerationAttempt) -> TokenUsage | None:
    """Give the usage that was noted in a row last; None where none was."""
    if row.prompt_tokens is None or row.completion_tokens is None or row.usage_source is None:
        return None
    return TokenUsage(
        row.prompt_tokens, row.completion_tokens, row.cached_tokens, _sources_recorded(row), row.thinking_tokens
    )


def _sources_recorded(row: Generation | GenerationAttempt) -> UsageSources:
    if row.prompt_source is None or row.completion_source is None:  # a gateway of an older version wrote it
        source = UsageSource(row.usage_source or "")
        return UsageSources.of_weakest(source, row.prompt_tokens or 0, row.cached_tokens, row.thinking_tokens)
    told = [None if source is None else UsageSource(source) for source in (row.cached_source, row.thinking_source)]
    return UsageSources(UsageSource(row.prompt_source), UsageSource(row.completion_source), *told)


def usage_columns(usage: TokenUsage | None) -> dict[str, object]:
    """Give the columns that `usage_recorded` reads."""
    return {
        "prompt_tokens": usage.prompt_tokens if usage else None,
        "completion_tokens": usage.completion_tokens if usage else None,
        "cached_tokens": usage.cached_tokens if usage else None,
        "thinking_tokens": usage.thinking_tokens if usage else None,
        "usage_source": usage.source if usage else None,
        **source_columns(usage),
    }


def source_columns(usage: TokenUsage | None) -> dict[str, object]:
    """Give the columns that tell where each number is from, of a generation and of the ledger."""
    sources = (None,) * 4 if usage is None else usage.sources
    return dict(zip(SOURCE_COLUMNS, sources, strict=True))


def error_columns(error: GatewayError | None, content_policy: str) -> dict[str, object]:
    """Give the columns that `error_recorded` reads. A model server's message may repeat what it was asked."""
    keeps = content_policy != ContentPolicy.NOTHING
    return {
        "error_code": error.code if error else None,
        "error_message": None if error is None else _storable(error.message) if keeps else NOT_KEPT,
        "error_retry_after_ms": error.retry_after_ms if error else None,
    }


def _storable(text: str) -> str:
    """Give a text that both databases take: no NUL (PostgreSQL), no half of a surrogate pair, no more than fits."""
    return text[:500].replace("\0", "").encode(errors="replace").decode()
