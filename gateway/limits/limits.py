"""Holds the limits: what a generation may need is reserved when it starts, and settled when it ends."""

import time
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Self, TypeAlias
from uuid import UUID
from weakref import WeakValueDictionary

import anyio

from db import queries
from db.clock import now
from db.engine import Database, DatabaseUnavailable, WriteSession
from db.queries import CounterKey, FullCounter, Level, Settlement
from db.tables import LimitCounter, LimitException
from gateway.limits.refusals import LimitReached, refused
from gateway.limits.rules import Asking, Claim, LimitRule, Measure, Needs, claims_of, digest
from gateway.limits.status import LimitStatus, status_of
from gateway.tasks import purge_regularly

MOST_LIMITS = 1_000

POLL_SECONDS = 1.0
"""How often whoever waits looks again: what ends at another gateway is told to nobody."""

PURGE_SECONDS = 3600.0

KEPT_AFTER_WINDOW = timedelta(days=2)
"""How long a counter stays after its window: longer than any two time zones are apart."""

MOST_PURGED = 1_000

MOST_LEVELS = 10_000

MOST_KEYS = 500
"""Counters read by one statement."""

Standings: TypeAlias = list[list[LimitStatus] | None]
"""How limits stand, in the order of those who were asked for; None for who may not be seen."""

_OF_OUTPUT = (Measure.TOKENS, Measure.COST)
"""What a limit measures where the length of an answer counts."""


@dataclass(frozen=True, slots=True)
class Used:
    """What a generation used at its end. `cost` is in 1e-9 of the currency."""

    generation_id: UUID
    tokens: int
    currency: str | None = None
    cost: int = 0

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self:
        """Give what a row of the ledger tells."""
        tokens = row["prompt_tokens"] + row["completion_tokens"]
        return cls(row["generation_id"], tokens, row["currency"], row["cost_nano"] or 0)

    def settlement(self) -> Settlement:
        """Give it by measure."""
        used: dict[tuple[str, str | None], int] = {(Measure.REQUESTS, None): 1, (Measure.TOKENS, None): self.tokens}
        if self.currency is not None:
            used[Measure.COST, self.currency] = self.cost
        return Settlement(self.generation_id, used)


class Limits:
    """Reserves and settles, in the transactions that begin and end a generation.

    So nothing leaks: what is reserved is there exactly as long as the generation is under way, and a generation whose
    gateway died is ended, and so settled, by another one or by the next start. A number is changed in the database
    alone, in one statement with the check, so that limits hold at any concurrency and over all gateways.

    The rules themselves are read every `identity_max_age` seconds. Where not `enabled`, nothing is limited.
    `limit_wait_time` is for how many seconds a generation may wait for a limit. `thresholds` are percentages: where
    what is used comes to one of them, a LimitCrossing is written, once for each window of a counter.
    """

    def __init__(
        self,
        database: Database,
        *,
        enabled: bool = True,
        identity_max_age: float = 1.0,
        limit_wait_time: float = 3600.0,
        thresholds: Sequence[int] = (),
    ) -> None:
        self.enabled = enabled
        self.thresholds = tuple(sorted(set(thresholds)))
        self.refusals: Counter[tuple[str, str]] = Counter()
        self._database = database
        self._max_age = identity_max_age
        self._wait_time = limit_wait_time
        self._rules: Sequence[LimitRule] = ()
        self._read_at = float("-inf")
        self._version = 0
        self._reading = anyio.Lock()
        self._levels: OrderedDict[CounterKey, Level] = OrderedDict()
        self._freed = anyio.Event()
        self._lines: WeakValueDictionary[str, anyio.Lock] = WeakValueDictionary()

    def change(self, *, enabled: bool, limit_wait_time: float) -> None:
        """Hold limits, or hold none, from now on; what is reserved is settled either way."""
        self.enabled, self._wait_time = enabled, limit_wait_time

    def clear(self) -> None:
        """Read the rules anew: they have changed."""
        self._read_at = float("-inf")
        self._version += 1

    async def rules(self) -> Sequence[LimitRule]:
        """Give the limits, by name, as they were a moment ago."""
        if self._is_old():
            async with self._reading:
                if self._is_old():
                    await self._read()
        return self._rules

    async def _read(self) -> None:
        asked_at, version = time.monotonic(), self._version
        async with self._database.reading() as session:
            rows, exceptions = await queries.limit.limits(session, MOST_LIMITS)
        of_limits = defaultdict[UUID, list[LimitException]](list)
        for it in exceptions:
            of_limits[it.limit_id].append(it)
        self._rules = [LimitRule.of(row, of_limits[row.id]) for row in rows]
        if version == self._version:  # else they have changed since they were read
            self._read_at = asked_at

    async def claims(self, asking: Asking, needs: Needs) -> list[Claim]:
        """Give what has to be reserved. Raises LimitReached for what is more than a whole limit."""
        if not self.enabled:
            return []
        claims = claims_of(await self.rules(), asking, needs, now())
        for claim in claims:
            if claim.reserve.amount > claim.bound:
                raise refused(status_of(claim, None, now()), claim.reserve.amount)
        return claims

    async def limits_output(self, asking: Asking) -> bool:
        """Tell whether the length of an answer counts, so that it must be known before."""
        return self.enabled and any(
            rule.measure in _OF_OUTPUT and rule.conditions.met_by(asking) for rule in await self.rules()
        )

    def are_ample(self, claims: Sequence[Claim]) -> bool:
        """Tell whether every counter was less than half full when it was looked at last, so that there will be room.

        It may be wrong where others take the rest at this moment. Nothing but work for nobody comes of that.
        """
        return all(
            (level := self._levels.get(claim.reserve.key)) is not None
            and (level.window_end is None or level.window_end > now())
            and (level.taken + claim.reserve.amount) * 2 <= claim.bound
            for claim in claims
        )

    async def reserve(self, tx: WriteSession, generation_id: UUID, claims: Sequence[Claim]) -> list[LimitStatus]:
        """Reserve all of it, or nothing, and tell how the limits stand then.

        Raises LimitReached, of several limits for the one that resets last.
        """
        if not claims:
            return []
        at = now()
        wanted = [claim.reserve for claim in claims]
        reserved = await queries.limit.reserve(tx, generation_id, wanted, at, self.thresholds)
        if not reserved.full:
            self._note_levels(reserved.levels)
            return [status_of(claim, reserved.levels[claim.reserve.key], at) for claim in claims]
        counters = await queries.limit.counters(tx, list(reserved.full))
        full = [claim for claim in claims if claim.reserve.key in reserved.full]
        errors = [refused(status_of(it, counters.get(it.reserve.key), at), it.reserve.amount) for it in full]
        raise max(errors, key=lambda error: error.limit.resets_at or at)

    async def reserve_output(self) -> bool:
        """Tell whether any limit counts tokens or costs."""
        return self.enabled and any(rule.measure in _OF_OUTPUT for rule in await self.rules())

    async def reserve_again(self, asking: Asking, generation_id: UUID, needs: Needs) -> None:
        """Reserve so much for a generation that has reserved less, of all its limits or of none.

        Raises LimitReached where one has no room for it.
        """
        needed: dict[tuple[str, str | None], int] = {(Measure.TOKENS, None): needs.tokens}
        needed |= {(Measure.COST, currency): nano for currency, nano in needs.cost.items()}
        async with self._database.transaction() as tx:
            full = await queries.limit.raise_reservations(tx, generation_id, needed, now())
            if full is not None and (refusal := await self._refusal(full, asking)):
                raise refusal

    async def _refusal(self, full: FullCounter, asking: Asking) -> LimitReached | None:
        """Tell which limit has no room, and whose it is; None where it was removed meanwhile."""
        counter = full.counter
        rule = next((rule for rule in await self.rules() if rule.id == counter.limit_id), None)
        if rule is None:
            return None
        whose = [subject for subject in rule.subjects(asking) if digest(subject) == counter.subject]
        status = LimitStatus(
            rule.name,
            rule.measure,
            rule.window,
            whose[0] if whose else {},
            counter.used,
            counter.reserved,
            counter.bound,
            counter.window_end,
            rule.currency,
        )
        return refused(status, full.asked)

    async def settle(self, tx: WriteSession, ended: Sequence[Used]) -> bool:
        """Count what was used in place of what was reserved, and tell whether anything was."""
        settlements = [it.settlement() for it in ended]
        return bool(ended) and await queries.limit.settle(tx, settlements, now(), self.thresholds) > 0

    def note_refusal(self, refusal: LimitReached) -> None:
        """Count a generation that was refused, by the code and what is limited."""
        self.refusals[refusal.code.value, refusal.limit.measure.value] += 1

    def freed(self) -> None:
        """Wake those who wait: something was settled, and is in the database."""
        event, self._freed = self._freed, anyio.Event()
        event.set()

    def may_wait(self, refusal: LimitReached) -> bool:
        """Tell whether a generation may wait until this limit has room for it."""
        resets_at = refusal.limit.resets_at
        return refusal.retryable and (resets_at is None or resets_at <= now() + timedelta(seconds=self._wait_time))

    async def wait_and_reserve(
        self, generation_id: UUID, fence: int, wanted: Callable[[], Awaitable[Sequence[Claim]]], why: LimitReached
    ) -> bool:
        """Reserve what is `wanted` as soon as there is room; who came first to the limit that was full is first.

        `wanted` is asked each time anew: meanwhile limits change, and windows end. False: the generation is another
        gateway's by now. Raises LimitReached when it takes too long, and DatabaseUnavailable.
        """
        give_up_at = time.monotonic() + self._wait_time
        line = self._line(why.limit)
        async with line:
            while True:
                freed = self._freed
                claims = await wanted()
                try:
                    async with self._database.transaction() as tx:
                        if not await queries.generation.is_held(tx, generation_id, fence):
                            return False
                        await self.reserve(tx, generation_id, claims)
                    return True
                except LimitReached as error:
                    if time.monotonic() > give_up_at:
                        raise
                    resets_at = error.limit.resets_at
                seconds = POLL_SECONDS if resets_at is None else (resets_at - now()).total_seconds()
                with anyio.move_on_after(max(0.01, min(POLL_SECONDS, seconds))):
                    await freed.wait()

    def _line(self, full: LimitStatus) -> anyio.Lock:
        """Give the lock of those who wait for one counter, which is forgotten with the last of them."""
        key = f"{full.name}\0{digest(full.scope)}"
        line = self._lines.get(key)
        if line is None:
            line = self._lines[key] = anyio.Lock()
        return line

    async def statuses(self, asking: Asking) -> list[LimitStatus]:
        """Tell how the limits stand that count what is asked for."""
        at = now()
        claims = claims_of(await self.rules(), asking, Needs(0), at) if self.enabled else []
        [found] = await self.standings([claims], at)
        return found or []

    async def standings(self, many: Sequence[Sequence[Claim] | None], at: datetime) -> Standings:
        """Tell how many counters stand, for each of several who are asked for; None for who is None."""
        keys = list(dict.fromkeys(claim.reserve.key for claims in many for claim in claims or ()))
        counters: dict[CounterKey, LimitCounter] = {}
        if keys:
            async with self._database.reading() as session:
                for first in range(0, len(keys), MOST_KEYS):
                    counters |= await queries.limit.counters(session, keys[first : first + MOST_KEYS])
        return [
            None if claims is None else [status_of(it, counters.get(it.reserve.key), at) for it in claims]
            for claims in many
        ]

    async def run(self) -> None:
        """Keep the rules fresh, and remove counters of long ago, until cancelled."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(purge_regularly, "counters of limits", self.purge, PURGE_SECONDS)
            if self.enabled and self._max_age:
                tasks.start_soon(self._keep_fresh)

    async def _keep_fresh(self) -> None:
        """Read the rules before they are old: a start that came after a pause would wait for that."""
        while True:
            await anyio.sleep(self._max_age / 2)
            try:
                async with self._reading:
                    await self._read()
            except DatabaseUnavailable:
                pass  # which has told the log; a start asks again

    async def purge(self) -> None:
        """Remove counters of long ago, and of limits that are gone."""
        async with self._database.transaction() as tx:
            await queries.limit.purge_removed(tx)
        while True:
            async with self._database.transaction() as tx:
                if await queries.limit.purge_counters(tx, now() - KEPT_AFTER_WINDOW, MOST_PURGED) < MOST_PURGED:
                    return

    def _is_old(self) -> bool:
        return time.monotonic() - self._read_at >= self._max_age

    def _note_levels(self, levels: Mapping[CounterKey, Level]) -> None:
        for key, level in levels.items():
            self._levels[key] = level
            self._levels.move_to_end(key)
        while len(self._levels) > MOST_LEVELS:
            self._levels.popitem(last=False)
