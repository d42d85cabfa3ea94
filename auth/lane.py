"""The bounded line before what is dear to compute: callers from known places go first, too many are refused."""

from collections import Counter, deque
from collections.abc import AsyncGenerator, Generator, Hashable
from contextlib import asynccontextmanager, contextmanager

import anyio

PLACES = 40
"""Of known callers, and as many again of strangers, at work or waiting. With two at work at once and a tenth of a
second for each, the last one waits for two seconds."""

SHARE = 24
"""Of these places, how many one origin may hold: no single one fills the line for the others."""

PATIENCE_SECONDS = 4.0
"""How long a stranger waits for a turn. Where the work is slow, as on a busy machine, the places alone would let them
wait until the whole operation is given up, which tells nobody to come again."""


class LaneFull(Exception):
    """There is no place left in the line, or it does not move."""


class Lane:
    """Lets `workers` work at once.

    Strangers can only fill their own half of the line: who is known takes a place in the other half, and the next turn.
    So a flood from anywhere delays them by what is at work just then, and by no more.
    """

    def __init__(self, workers: int) -> None:
        self._free = workers
        self._known: deque[anyio.Event] = deque()
        self._strangers: deque[anyio.Event] = deque()
        self._held: Counter[tuple[bool, Hashable | None]] = Counter()

    @contextmanager
    def place(self, origin: Hashable, *, known: bool) -> Generator[None]:
        """Hold a place for the block. Raises LaneFull."""
        all_of_them, own = (known, None), (known, origin)
        if self._held[all_of_them] >= PLACES or self._held[own] >= SHARE:
            raise LaneFull
        self._held.update((all_of_them, own))
        try:
            yield
        finally:
            self._held.subtract((all_of_them, own))
            self._held = +self._held

    @asynccontextmanager
    async def turn(self, *, known: bool) -> AsyncGenerator[None]:
        """Work within the block, after waiting for one's turn. Raises LaneFull for a stranger who waits too long."""
        if self._free:
            self._free -= 1
        elif known:
            await self._wait(self._known, None)
        else:
            await self._wait(self._strangers, PATIENCE_SECONDS)
        try:
            yield
        finally:
            self._pass_on()

    async def _wait(self, line: deque[anyio.Event], patience: float | None) -> None:
        turn = anyio.Event()
        line.append(turn)
        try:
            with anyio.fail_after(patience):
                await turn.wait()
        except BaseException as error:
            if turn.is_set():
                self._pass_on()
            else:
                line.remove(turn)
            if isinstance(error, TimeoutError):
                raise LaneFull from None
            raise

    def _pass_on(self) -> None:
        for line in (self._known, self._strangers):
            if line:
                line.popleft().set()
                return
        self._free += 1
