"""What each caller holds open at this gateway and at those that share its Valkey, counted together.

Only what stays open for long is counted here, sockets and streams: taking one costs a round trip, giving it back none
that anybody waits for. Without Valkey each gateway counts for itself.
"""

import logging
from collections import Counter
from dataclasses import dataclass, field

import anyio

from gateway.streams import OpenCounts, ValkeyUnavailable

logger = logging.getLogger(__name__)

RENEWAL_SECONDS = 1.0
"""How often Valkey is told that this gateway lives, and asked again when it was away."""

REWRITTEN_AFTER = 3_600
"""Renewals after which all counts are written again, long before any is forgotten."""


@dataclass(slots=True, eq=False)
class _Question:
    """Whether one more may be open. Allowed where nobody answers: then each gateway counts for itself."""

    name: str
    count: int
    limit: int
    allowed: bool = True
    answered: anyio.Event = field(default_factory=anyio.Event)


class SharedConnections:
    """The counts of this gateway. `run` works for it."""

    def __init__(self, counts: OpenCounts) -> None:
        self._counts = counts
        self._open: Counter[str] = Counter()
        self._changed: set[str] = set()
        self._questions: list[_Question] = []
        self._wake = anyio.Event()
        self._is_away = True

    async def take(self, name: str, limit: int) -> bool:
        """Count one more under a name, unless all gateways together would have more than `limit`."""
        self._open[name] += 1
        if self._is_away:
            self._changed.add(name)
            return True
        question = _Question(name, self._open[name], limit)
        self._questions.append(question)
        self._wake.set()
        try:
            await question.answered.wait()
        except BaseException:
            self.give_back(name)
            raise
        if not question.allowed:
            self.give_back(name)
        return question.allowed

    def give_back(self, name: str) -> None:
        """Count one less."""
        self._open[name] -= 1
        if not self._open[name]:
            del self._open[name]
        self._changed.add(name)
        self._wake.set()

    async def run(self) -> None:
        """Tell Valkey what has changed, and ask it, until cancelled."""
        renewals = 0
        try:
            while True:
                await self._exchange()
                renewals += 1
                if renewals % REWRITTEN_AFTER == 0:
                    self._changed.update(self._open)
                with anyio.move_on_after(RENEWAL_SECONDS):
                    if self._is_away:
                        await anyio.sleep_forever()
                    await self._wake.wait()
        finally:
            self._is_away = True  # nobody answers any more
            for question in self._questions:
                question.answered.set()

    async def leave(self) -> None:
        """Hold nothing any more in the eyes of the others."""
        await self._counts.leave()

    async def _exchange(self) -> None:
        self._wake = anyio.Event()
        questions, self._questions = self._questions, []
        changed, self._changed = self._changed, set()
        try:
            known, answers = await self._counts.exchange(
                {name: self._open[name] for name in changed},
                [(question.name, question.count, question.limit) for question in questions],
            )
        except ValkeyUnavailable as error:
            if not self._is_away:
                logger.warning("each gateway counts the connections of its callers for itself: %s", error)
            self._is_away = True
            self._changed |= changed | {question.name for question in questions}
        else:
            self._is_away = False
            for question, allowed in zip(questions, answers, strict=True):
                question.allowed = allowed
                if self._open[question.name] != question.count:  # one was given back, or asked for, meanwhile
                    self._changed.add(question.name)
            if not known:
                self._changed.update(self._open)
            if self._changed:
                self._wake.set()
        finally:
            for question in questions:
                question.answered.set()
