"""Attempts that may fail a bounded number of times: passwords, codes, and what strangers begin.

Each is counted before it is looked at, in one statement that refuses what is locked, so that neither guesses made at
once nor guesses whose client leaves are free. One that works is taken back. The counts are in the database: they hold
for all gateways together.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from db import queries
from db.clock import now
from db.engine import Database, WriteSession
from db.queries import Subject
from gateway.errors import AccountLocked

ADDRESS_FACTOR = 3
"""How many times as many may fail at one address: many people share one behind a router."""

PAUSES_IN_WINDOW = 60
"""The first pause of a back-off is this part of the window. Each further one is twice as long, up to the pause that
lets as many guesses through as a closed door does."""

ANY_NAME, ANY_ADDRESS = " ", ""


@dataclass(frozen=True, slots=True)
class LoginPolicy:
    """How many attempts may fail within `window` before no more are taken."""

    failures: int
    window: timedelta


@dataclass(frozen=True, slots=True)
class Count:
    """What an attempt counts against, and how many may fail there. With `backs_off` it closes for a growing pause."""

    subject: Subject
    limit: int
    backs_off: bool = False


class Attempts:
    """Counts attempts. `policy.window` is how long what was counted is remembered, and how long a lock lasts."""

    def __init__(self, database: Database, policy: LoginPolicy) -> None:
        self._database = database
        self.policy = policy

    async def check(self, counts: Sequence[Count], told: str) -> None:
        """Raise AccountLocked where one of these is locked; `told` is what there were too many of. Counts nothing."""
        at = now()
        async with self._database.reading() as session:
            locks = await queries.sign_in.locks(session, [count.subject for count in counts], at)
        if locks:
            raise AccountLocked(await self.cut(max(locks), at), told)

    async def count(self, tx: WriteSession, counts: Sequence[Count], told: str) -> None:
        """Count one more, before it is known to fail. Raises AccountLocked, and the transaction is to be undone then.

        The counts are always in the order name, address, both, so that no two wait for each other in a circle.
        """
        at, subjects = now(), [count.subject for count in counts]
        failures = await queries.sign_in.count_sign_ins(tx, subjects, at, at - self.policy.window)
        if len(failures) < len(counts):
            locks = await queries.sign_in.locks(tx, subjects, at)
            raise AccountLocked(min(max(locks, default=at), at + self.policy.window), told)
        for count in counts:
            if failures[count.subject] >= count.limit:
                pause = self._pause(count, failures[count.subject])
                await queries.sign_in.lock_sign_in(tx, count.subject, at + pause)

    async def take_back(self, tx: WriteSession, counts: Sequence[Count]) -> None:
        """Take back what was counted: it worked, or was looked at by nobody."""
        for count in counts:
            await queries.sign_in.take_back(tx, count.subject, count.limit)

    async def cut(self, until: datetime, at: datetime) -> datetime:
        """Give the end of a lock: a window from now at most. One that ends later was set by a clock that ran ahead."""
        latest = at + self.policy.window
        if until <= latest:
            return until
        async with self._database.transaction() as tx:
            await queries.sign_in.cut_locks(tx, at, latest)
        return latest

    def _pause(self, count: Count, failures: int) -> timedelta:
        """For how long the door is closed after so many failures."""
        window = self.policy.window
        if not count.backs_off:
            return window
        return min(window / PAUSES_IN_WINDOW * 2 ** min(failures - count.limit, 16), window / count.limit)
