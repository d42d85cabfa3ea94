"""Leaves a model server alone that fails again and again, and finds out whether it works again.

    closed ── so many failures in a row ──▶ open ── its pause is over ──▶ half-open ── one trial ──▶ closed
                                             ▲                                           │
                                             └───────── it failed: twice the pause ──────┘

A server that cannot be reached is known by its list of models, too (`Listing`). A breaker sees what that does not: one
that lists its models and fails at each answer.

A request may be what its server fails at: a schema that it cannot read is a 500 in Ollama, and so is a model that does
not fit into its memory. So failures that have one user in common, or one model, keep out only what has it, too; the
first answer that anybody else gets closes the breaker.
"""

import logging
import time
from collections.abc import Callable, Generator, Hashable
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum

from backends.errors import BackendError, BackendResting, BackendTimeout, TimeoutPhase

logger = logging.getLogger(__name__)

LONGEST_PAUSE = 60.0
"""Seconds after which a server is tried again, however often it has failed."""

BUSY_SECONDS = 1.0
"""After how long to ask again while a trial is under way: nobody knows how long that takes."""


Asked = tuple[Hashable, str]
"""Who asks, and for which model."""


class BreakerState(StrEnum):
    """Whether requests go to a backend: all, none, or one to find out whether it works again."""

    CLOSED = "CLOSED"
    OPEN = "OPEN"
    HALF_OPEN = "HALF_OPEN"


@dataclass(frozen=True, slots=True)
class BreakerRule:
    """After how many `failures` in a row a backend is left alone, 0: never; and at first for how many seconds."""

    failures: int = 5
    pause: float = 5.0


class Breaker:
    """The breaker before one backend. `turned` is called when it opens or closes; it must not raise, and not wait."""

    def __init__(
        self,
        backend: str,
        rule: BreakerRule,
        turned: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._backend = backend
        self._rule = rule
        self._turned = turned
        self._clock = clock
        self._failures = 0
        self._failing: set[Asked] = set()  # what has met these failures in a row
        self._until: float | None = None
        self._pauses = 0  # since the last whole answer
        self._openings = 0
        self._trial: object = None

    @property
    def state(self) -> BreakerState:
        """How it stands now. While a trial is under way it is half-open."""
        if self._until is None:
            return BreakerState.CLOSED
        return BreakerState.OPEN if self._clock() < self._until else BreakerState.HALF_OPEN

    def lets_in(self, asked: Asked | None = None) -> bool:
        """Tell whether this request, or just any, may go to the backend now."""
        return self._lets_in_freely(asked) or (self.state is BreakerState.HALF_OPEN and self._trial is None)

    def check(self, asked: Asked) -> None:
        """Raise BackendResting where this request may not go to the backend now."""
        if not self.lets_in(asked):
            pause = 0.0 if self._until is None else self._until - self._clock()
            raise BackendResting(pause if pause > 0 else BUSY_SECONDS)

    def try_soon(self) -> None:
        """Let the trial begin: the backend is known to have come back."""
        if self.state is BreakerState.OPEN:
            self._until = self._clock()

    @contextmanager
    def attempt(self, asked: Asked) -> Generator[Callable[[], None]]:
        """Ask the backend within the block, and call what it gives when an answer begins. Raises BackendResting.

        How the block ends is how the attempt did. What is cancelled, or fails for a reason of the gateway's own, tells
        nothing; neither does what began before the breaker opened.
        """
        self.check(asked)
        attempt, openings = object(), self._openings
        if not self._lets_in_freely(asked):
            self._trial = attempt

        def begun() -> None:
            if self._trial is attempt:
                self._close_after_trial()

        try:
            yield begun
        except BackendError as error:
            if openings == self._openings:
                if _is_failure(error):
                    self._fail(asked, is_trial=self._trial is attempt)
                else:  # a refusal: the server is there, and says so
                    begun()
            raise
        else:
            if openings == self._openings:
                self._close()
        finally:
            if self._trial is attempt:
                self._trial = None

    def _lets_in_freely(self, asked: Asked | None) -> bool:
        """Tell whether there is nothing against this request: it is closed, or one that differs is to blame."""
        if self._until is None or asked is None:
            return self._until is None
        users, models = zip(*self._failing, strict=True)
        return any(len(set(met)) == 1 and it not in met for it, met in zip(asked, (users, models), strict=True))

    def _fail(self, asked: Asked, *, is_trial: bool) -> None:
        if not self._rule.failures:
            return
        self._failures += 1
        self._failing.add(asked)
        if is_trial or (self._until is None and self._failures >= self._rule.failures):
            self._open()

    def _open(self) -> None:
        pause = min(self._rule.pause * 2.0 ** min(self._pauses, 10), LONGEST_PAUSE)
        self._pauses += 1
        self._openings += 1
        self._until = self._clock() + pause
        logger.warning(
            "backend %s is left alone for %g s after %d failures in a row", self._backend, pause, self._failures
        )
        self._turned()

    def _close_after_trial(self) -> None:
        """Let everybody in since the trial is being answered; where that breaks off, one failure was enough."""
        self._trial = self._until = None
        self._failures = self._rule.failures - 1
        logger.info("backend %s answers again", self._backend)
        self._turned()

    def _close(self) -> None:
        """Forget the failures: an answer came to its end."""
        self._failures = self._pauses = 0
        self._failing.clear()
        if self._until is not None:
            self._trial = self._until = None
            logger.info("backend %s answers again", self._backend)
            self._turned()


def _is_failure(error: BackendError) -> bool:
    """Tell whether it is the server that failed. An answer may take long because much was asked."""
    return error.servers_fault and not (isinstance(error, BackendTimeout) and error.phase is TimeoutPhase.TOTAL)
