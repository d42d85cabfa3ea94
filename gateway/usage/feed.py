"""Tells who watches what is used, as the ledger gets it: sums of what has ended, a few times a second.

It is for dashboards and promises less than a report: what a replica ends while it is cut off from the others, or within
the last moment before it is killed, is told at that replica alone, or nowhere.
"""

import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, cast
from uuid import UUID
from weakref import WeakSet

import anyio
import orjson

from auth.principal import Principal
from auth.scopes import Scope
from db.clock import now
from gateway.errors import Forbidden

INTERVAL_SECONDS = 0.25
"""The least time between two updates of one follower, and between two messages to the other replicas."""

USERS_AT_ONCE = 500
"""Users in one message to the other replicas."""

TOKENS = ("prompt_tokens", "completion_tokens", "cached_tokens", "thinking_tokens")
STATES = ("completed", "cancelled", "failed")
COUNTED = (*STATES, *TOKENS)

Send = Callable[[bytes], Awaitable[None]]
"""Gives a message to the other replicas; where it cannot, it is lost."""


@dataclass(slots=True)
class _Sums:
    """What ended generations used: counts by the names of COUNTED, and costs in billionths by currency."""

    counts: Counter[str] = field(default_factory=Counter[str])
    costs: Counter[str] = field(default_factory=Counter[str])

    def add(self, other: "_Sums") -> None:
        self.counts.update(other.counts)
        self.costs.update(other.costs)

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> "_Sums":
        """Give those of a row of the ledger, columns by name."""
        counts = Counter({name: row[name] or 0 for name in TOKENS})
        counts[str(row["state"]).lower()] += 1
        return cls(counts, Counter({row["currency"]: row["cost_nano"]} if row["currency"] else {}))


@dataclass(frozen=True, slots=True)
class UsageUpdate:
    """What ended from `start` to `end`; `costs` are billionths of a unit, by currency."""

    start: datetime
    end: datetime
    completed: int
    cancelled: int
    failed: int
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    thinking_tokens: int
    costs: Mapping[str, int]


class UsageFollower(AsyncIterator[UsageUpdate]):
    """The updates for one who watches. However slowly they are taken, what comes meanwhile is one sum."""

    def __init__(self, user_id: UUID | None) -> None:
        self._user_id = user_id
        self._sums = _Sums()
        self._came = anyio.Event()
        self._since = now()
        self._told_at = float("-inf")
        self._closed = False

    def add(self, user_id: UUID, sums: _Sums) -> None:
        """Count what a user used, if it is to be seen here."""
        if self._user_id in (None, user_id):
            self._sums.add(sums)
            self._came.set()

    async def __anext__(self) -> UsageUpdate:
        await self._came.wait()
        if not self._closed:
            await anyio.sleep(max(0.0, self._told_at + INTERVAL_SECONDS - time.monotonic()))
        if self._closed:
            raise StopAsyncIteration
        sums, since, self._since = self._sums, self._since, now()
        self._sums, self._came, self._told_at = _Sums(), anyio.Event(), time.monotonic()
        counts = {name: sums.counts[name] for name in COUNTED}
        return UsageUpdate(since, self._since, **counts, costs=dict(sums.costs))

    async def aclose(self) -> None:
        """End it; whoever waits for an update is told so."""
        self._closed = True
        self._came.set()


class UsageFeed:
    """What is used by all users at all replicas, for who follows it here. `run` tells the others of what ends here."""

    def __init__(self, written: Callable[[Iterable[Mapping[str, Any]]], None] | None = None) -> None:
        self._written = written
        self._followers: WeakSet[UsageFollower] = WeakSet()
        self._untold: dict[UUID, _Sums] = {}
        self._came = anyio.Event()
        self._is_told = False

    def follow(self, principal: Principal, *, all_users: bool) -> UsageFollower:
        """Follow the caller's own usage, or everybody's. Raises Forbidden."""
        if all_users and not principal.has(Scope.USAGE_READ_ALL):
            raise Forbidden("The usage of other users needs the scope USAGE_READ_ALL.")
        follower = UsageFollower(None if all_users else principal.user_id)
        self._followers.add(follower)
        return follower

    def note(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Count rows that the ledger has written, and tell `written` of them."""
        rows = list(rows)
        if self._written is not None:
            self._written(rows)
        for row in rows:
            user_id, sums = cast("UUID", row["user_id"]), _Sums.of(row)
            self._give(user_id, sums)
            if self._is_told:
                self._untold.setdefault(user_id, _Sums()).add(sums)
                self._came.set()

    def receive(self, message: bytes) -> None:
        """Count what another replica has told. What cannot be read is left out: it is of another version."""
        try:
            for user_id, (counts, costs) in orjson.loads(message).items():
                self._give(UUID(user_id), _Sums(Counter(counts), Counter(costs)))
        except (ValueError, TypeError, AttributeError):
            return

    async def run(self, send: Send) -> None:
        """Tell the other replicas what is noted here, until cancelled."""
        self._is_told = True
        try:
            while True:
                await self._came.wait()
                await anyio.sleep(INTERVAL_SECONDS)
                self._came = anyio.Event()
                told, self._untold = list(self._untold.items()), {}
                for first in range(0, len(told), USERS_AT_ONCE):
                    some = told[first : first + USERS_AT_ONCE]
                    await send(orjson.dumps({str(user_id): [sums.counts, sums.costs] for user_id, sums in some}))
        finally:
            self._is_told = False

    def _give(self, user_id: UUID, sums: _Sums) -> None:
        for follower in list(self._followers):
            follower.add(user_id, sums)
