"""Counts of requests that all gateways with one Valkey share: a storage for the `limits` library.

What is asked at the same time goes to Valkey in one round trip, over one connection: a flood makes neither more. While
Valkey is away each gateway counts for itself, from what was counted last; finding that out costs one time-out. So it is
with a server of a cluster, and the addresses that it counts.
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

_PARTLY = "a server of the Valkey cluster does not answer; only the addresses that it counts are concerned."


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
        self._failed = anyio.Event()
        self._is_away = True
        self._was_whole = True

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
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._look_after)
                tasks.start_soon(self._ask_all)
        finally:
            self._is_away = True
            self._answer(self._questions)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._counts.aclose()

    async def _look_after(self) -> None:
        """Find out whether Valkey is there, as whole as it should be, at first and whenever a count has failed."""
        while True:
            self._failed = anyio.Event()
            if await self._is_whole():
                await self._failed.wait()
            await anyio.sleep(RETRY_SECONDS)

    async def _is_whole(self) -> bool:
        try:
            whole = await self._counts.probe()
        except ValkeyUnavailable as error:
            self._fails(error, is_away=True)
            return False
        self._is_away = False
        if not whole:
            self._fails(_PARTLY, is_away=False)
        elif not self._was_whole:
            self._was_whole = True
            logger.warning("Valkey is back: the gateways count requests together")
        return whole

    async def _ask_all(self) -> None:
        while True:
            if not self._questions:
                self._came = anyio.Event()
                await self._came.wait()
            await self._ask()

    async def _ask(self) -> None:
        """Ask all that waits, in one round trip."""
        asked, self._questions = self._questions[:MOST_AT_ONCE], self._questions[MOST_AT_ONCE:]
        try:
            found = await self._counts.add([(it.key, it.seconds, it.amount) for it in asked])
        except ValkeyUnavailable as error:
            self._fails(error, is_away=True)
            asked, self._questions = asked + self._questions, []
        else:
            for question, counted in zip(asked, found, strict=True):
                if counted is None:
                    self._fails(_PARTLY, is_away=False)
                else:
                    question.count, seconds = counted
                    self._memory.put(question.key, question.count, seconds)
        finally:
            self._answer(asked)

    def _fails(self, reason: object, *, is_away: bool) -> None:
        """Count without Valkey, or without a part of it, until it has taken a probe."""
        if self._was_whole:
            logger.warning("each gateway counts requests for itself: %s", reason)
        self._was_whole = False
        self._is_away = is_away
        self._failed.set()

    def _answer(self, questions: list[_Question]) -> None:
        for question in questions:
            question.answered.set()
