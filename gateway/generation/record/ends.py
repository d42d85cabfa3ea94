"""How a generation went, as it is put on record: the backends that it asked, and its end."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from db.clock import now
from db.tables import Generation, GenerationAttempt
from gateway.errors import GatewayError
from gateway.generation.meter import bounded
from gateway.generation.record.outcome import Outcome, error_columns, error_recorded, usage_columns, usage_recorded
from gateway.latch import Latch
from gateway.streams import TokenUsage


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
    return Attempt(row.backend, row.started_at, row.finished_at, usage_recorded(row), error_recorded(row))


def attempt_columns(generation: Generation, number: int, attempt: Attempt) -> dict[str, object]:
    """Give the columns of an attempt's row."""
    return {
        "generation_id": generation.id,
        "number": number,
        "backend": attempt.backend,
        "started_at": attempt.started_at,
        "finished_at": attempt.finished_at,
        **usage_columns(None if attempt.usage is None else bounded(attempt.usage)),
        **error_columns(attempt.error, generation.content_policy),
    }


@dataclass(frozen=True, slots=True)
class Transcript:
    """What the database keeps of an ended generation: its events, None where none are left, and until when.

    What was asked is there from the start, if it is kept; it expires with the events.
    """

    events: bytes | None
    expires_at: datetime


def kept_for(seconds: float, events: bytes | None = None) -> Transcript | None:
    """Give what is to be kept from now on, and for how long; None where nothing is."""
    return Transcript(events, now() + timedelta(seconds=seconds)) if seconds else None


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """How one generation ended. It is written only where the row has no end and still this one's fence."""

    generation: Generation
    outcome: Outcome
    at: datetime
    transcript: Transcript | None = None
    attempts: Sequence[Attempt] = ()
    settled: Latch = field(default_factory=Latch)
    """Set when nobody has to wait for it any longer: it is written, or has to wait for the database itself."""
