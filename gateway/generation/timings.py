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


class Stopwatch:
    """Runs from its making; each mark is set once, but the last token's.

    For a generation that another gateway began, `age` is how many seconds ago that was.
    """

    def __init__(self, age: float = 0) -> None:
        self._started = time.perf_counter() - age
        self._turn_ms: int | None = None
        self._first_token_ms: int | None = None
        self._last_token_ms: int | None = None

    def turn_came(self) -> int:
        """Note that the queue is behind, and return the milliseconds spent in it."""
        self._turn_ms = self._elapsed_ms()
        return self._turn_ms

    def token_came(self) -> None:
        """Note that something was generated; the first call and the last one count."""
        self._last_token_ms = self._elapsed_ms()
        if self._first_token_ms is None:
            self._first_token_ms = self._last_token_ms

    def timings(self, load_ms: int | None, eval_ms: int | None, prompt_ms: int | None) -> Timings:
        """Give all marks, the total being now. The arguments are what the backend tells of itself."""
        total_ms = self._elapsed_ms()
        return Timings(self._turn_ms, load_ms, self._first_token_ms, total_ms, self._last_token_ms, eval_ms, prompt_ms)

    def _elapsed_ms(self) -> int:
        return milliseconds(time.perf_counter() - self._started)


def milliseconds(seconds: float) -> int:
    """Give whole milliseconds, as many as can be told. Clocks that went back make no negative time."""
    return max(0, min(round(seconds * 1000), LARGEST_MS))
