"""Counts of requests that all gateways with one Valkey share: a storage for the `limits` library.

What is asked at the same time goes to Valkey in one round trip, over one connection: a flood makes neither more. While
Valkey is away each gateway counts for itself, from what was counted last; finding that out costs one time-out.
"""

import logging
from dataclasses import dataclass, field

import anyio
from limits.aio.storage import Storage

from gateway.request_limits.memory import CountsInMemory
from gateway.streams import RequestCounts, ValkeyUnavailable

logger = logging.getLogger(__name__)

RETRY_SECONDS = 1.0
"""How often Valkey is asked again while it is away."""

MOST_AT_ONCE = 1_000
"""Counts in one round trip."""


@dataclass(slots=True, eq=False)
class _Question:
    """What is to be counted. `count` is the answer; None where nobody answers."""

    key: str
    seconds: int
    amount: int
    count: int | None = None
    answered: anyio.Event = field(default_factory=anyio.Event)


class SharedCounts(Storage):
    """Counts by key at all gateways together. `run` works for it; before that, and without Valkey, they are here."""

    STORAGE_SCHEME = None

    def __init__(self, memory: CountsInMemory, counts: RequestCounts) -> None:
        super().__init__()
        self._memory = memory
        self._counts = counts
        self._questions: list[_Question] = []
        self._came = anyio.Event()
        self._is_away = True
        self._was_there = True

    @property
    def base_exceptions(self) -> type[Exception]:
        """What can go wrong: nothing, for memory answers where Valkey does not."""
        return ValueError

    async def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """Count, in one step for all gateways, and give what is counted then."""
        if self._is_away or not self._memory.has_room_for(key):
            return self._memory.add(key, expiry, amount)
        question = _Question(key, expiry, amount)
        self._questions.append(question)
        self._came.set()
        await question.answered.wait()
        return self._memory.add(key, expiry, amount) if question.count is None else question.count

    async def get(self, key: str) -> int:
        """Give what was counted when it was last asked for; asking again would cost another round trip."""
        return await self._memory.get(key)

    async def get_expiry(self, key: str) -> float:
        """Give when the window ends, in seconds since the epoch, as it was told with the last count."""
        return await self._memory.get_expiry(key)

    async def check(self) -> bool:
        """Tell whether the gateways count together now."""
        return not self._is_away

    async def reset(self) -> int:
        """Forget what this gateway knows."""
        return await self._memory.reset()

    async def clear(self, key: str) -> None:
        """Forget what this gateway knows of one count."""
        await self._memory.clear(key)

    async def run(self) -> None:
        """Ask Valkey, until cancelled; then this gateway counts for itself."""
        try:
            while True:
                if not await self._ask():
                    await anyio.sleep(RETRY_SECONDS)
                    continue
                if not self._questions:
                    self._came = anyio.Event()
                    await self._came.wait()
        finally:
            self._is_away = True
            self._answer(self._questions)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._counts.aclose()

    async def _ask(self) -> bool:
        """Ask all that waits, or only whether anybody is there. False: nobody is."""
        asked, self._questions = self._questions[:MOST_AT_ONCE], self._questions[MOST_AT_ONCE:]
        try:
            found = await self._counts.add([(it.key, it.seconds, it.amount) for it in asked])
        except ValkeyUnavailable as error:
            if self._was_there:
                logger.warning("each gateway counts requests for itself: %s", error)
            self._is_away, self._was_there = True, False
            asked, self._questions = asked + self._questions, []
        else:
            if not self._was_there:
                logger.warning("Valkey is back: the gateways count requests together")
            self._is_away, self._was_there = False, True
            for question, (count, seconds) in zip(asked, found, strict=True):
                question.count = count
                self._memory.put(question.key, count, seconds)
        finally:
            self._answer(asked)
        return not self._is_away

    def _answer(self, questions: list[_Question]) -> None:
        for question in questions:
            question.answered.set()
