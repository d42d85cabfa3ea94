"""Which backends a generation asked, one after the other, and what came of each."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from db.clock import now
from db.tables import Generation, GenerationAttempt
from gateway.errors import ErrorCode, GatewayError, RecordedError
from gateway.generation.meter import bounded
from gateway.streams import TokenUsage, UsageSource


@dataclass(frozen=True, slots=True)
class Attempt:
    """One asking of a backend; under way while it has no `finished_at`. `error` is why it failed, where it did."""

    backend: str
    started_at: datetime
    finished_at: datetime | None = None
    usage: TokenUsage | None = None
    error: GatewayError | None = None


class Attempts:
    """The attempts of one generation, in their order."""

    def __init__(self, earlier: Sequence[Attempt] = ()) -> None:
        self._attempts = list(earlier)

    def begin(self, backend: str) -> None:
        """Note that a backend is asked now."""
        self._attempts.append(Attempt(backend, now()))

    def end(self, usage: TokenUsage, error: GatewayError | None) -> None:
        """Note how the attempt under way ended; nothing where there is none."""
        if self._attempts and self._attempts[-1].finished_at is None:
            self._attempts[-1] = replace(self._attempts[-1], finished_at=now(), usage=usage, error=error)

    def all(self) -> list[Attempt]:
        """Give all of them, the one under way too."""
        return list(self._attempts)


def first_attempt(row: Generation) -> list[Attempt]:
    """Give the attempt that the row of an unfinished generation tells of; none where it has not begun."""
    return [] if row.started_at is None else [Attempt(row.backend, row.started_at)]


def attempts_until(row: Generation, at: datetime, usage: TokenUsage, error: GatewayError | None) -> list[Attempt]:
    """Give the attempt of which nothing but the row is known, as it ended."""
    return [replace(attempt, finished_at=at, usage=usage, error=error) for attempt in first_attempt(row)]


def attempt_recorded(row: GenerationAttempt) -> Attempt:
    """Give the attempt of a row."""
    usage = error = None
    if row.prompt_tokens is not None and row.completion_tokens is not None and row.usage_source is not None:
        source = UsageSource(row.usage_source)
        usage = TokenUsage(row.prompt_tokens, row.completion_tokens, row.cached_tokens, source)
    if row.error_code is not None:
        error = RecordedError(ErrorCode(row.error_code), row.error_message or "", row.error_retry_after_ms)
    return Attempt(row.backend, row.started_at, row.finished_at, usage, error)


def attempt_row(generation: Generation, number: int, attempt: Attempt) -> GenerationAttempt:
    """Give the row of an attempt."""
    usage = None if attempt.usage is None else bounded(attempt.usage)
    return GenerationAttempt(
        generation_id=generation.id,
        number=number,
        backend=attempt.backend,
        started_at=attempt.started_at,
        finished_at=attempt.finished_at,
        prompt_tokens=usage.prompt_tokens if usage else None,
        completion_tokens=usage.completion_tokens if usage else None,
        cached_tokens=usage.cached_tokens if usage else None,
        usage_source=usage.source if usage else None,
        error_code=attempt.error.code if attempt.error else None,
        error_message=storable(attempt.error.message) if attempt.error else None,
        error_retry_after_ms=attempt.error.retry_after_ms if attempt.error else None,
    )


def storable(text: str) -> str:
    """Give a text that both databases take: no NUL (PostgreSQL), no half of a surrogate pair, no more than fits."""
    return text[:500].replace("\0", "").encode(errors="replace").decode()
