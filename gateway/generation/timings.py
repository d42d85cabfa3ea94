"""How long each part of a generation took."""

import time
from dataclasses import dataclass

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
        self._first_token_ms: int | None = None
        self._last_token_ms: int | None = None
        self._longest_gap_ms: int | None = None

    def turn_came(self) -> int:
        """Note that the queue is behind, and return the milliseconds spent in it."""
        self._turn_ms = self._elapsed_ms()
        return self._turn_ms

    def token_came(self) -> None:
        """Note that something was generated; the first call and the last one count."""
        before, self._last_token_ms = self._last_token_ms, self._elapsed_ms()
        if before is None:
            self._first_token_ms = self._last_token_ms
        elif (gap := self._last_token_ms - before) > (self._longest_gap_ms or -1):
            self._longest_gap_ms = gap

    def timings(self, load_ms: int | None, eval_ms: int | None, prompt_ms: int | None) -> Timings:
        """Give all marks, the total being now. The arguments are what the backend tells of itself."""
        total_ms = self._elapsed_ms()
        first, last = self._first_token_ms, self._last_token_ms
        return Timings(self._turn_ms, load_ms, first, total_ms, last, eval_ms, prompt_ms, self._longest_gap_ms)

    def _elapsed_ms(self) -> int:
        return milliseconds(time.perf_counter() - self._started)


def milliseconds(seconds: float) -> int:
    """Give whole milliseconds, as many as can be told. Clocks that went back make no negative time."""
    return max(0, min(round(seconds * 1000), LARGEST_MS))
