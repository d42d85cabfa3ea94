"""Tells who watches what is used, as the ledger gets it: sums of what has ended, a few times a second.

It is for dashboards and promises less than a report: what a replica ends while it is cut off from the others, or within
the last moment before it is killed, is told at that replica alone, or nowhere.
"""

import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import TypeAlias, cast
from uuid import UUID
from weakref import WeakSet

import anyio
import orjson

from auth.principal import Principal
from auth.scopes import Scope
from db.clock import now
from db.engine import DatabaseUnavailable
from db.queries import UsageSums
from gateway.errors import Forbidden
from gateway.usage.rollups import Row

INTERVAL_SECONDS = 0.25
"""The least time between two updates of one follower, and between two messages to the other replicas."""

RECHECK_SECONDS = 2.0

USERS_AT_ONCE = 500
"""Users in one message to the other replicas."""

TOKENS = ("prompt_tokens", "completion_tokens", "cached_tokens", "thinking_tokens")
COUNTED = ("generations", "completed", "cancelled", "failed", *TOKENS)

Send = Callable[[bytes], Awaitable[None]]
"""Gives a message to the other replicas; where it cannot, it is lost."""

ScopesNow: TypeAlias = Callable[[Principal], Awaitable[frozenset[Scope]]]
"""Gives what remains of a caller's scopes."""


@dataclass(slots=True)
class _Sums:
    """What ended generations used: counts by the names of COUNTED, and costs in billionths by currency."""

    counts: Counter[str] = field(default_factory=Counter[str])
    costs: Counter[str] = field(default_factory=Counter[str])

    def add(self, other: "_Sums") -> None:
        self.counts.update(other.counts)
        self.costs.update(other.costs)

    @classmethod
    def of(cls, row: Row) -> "_Sums":
        """Give those of a row of the ledger, columns by name."""
        counts = Counter({name: row[name] or 0 for name in TOKENS})
        counts[str(row["state"]).lower()] += 1
        counts["generations"] = 1
        return cls(counts, Counter({row["currency"]: row["cost_nano"]} if row["currency"] else {}))


@dataclass(frozen=True, slots=True)
class UsageUpdate:
    """What ended from `start` to `end`."""

    start: datetime
    end: datetime
    sums: UsageSums


class UsageFollower(AsyncIterator[UsageUpdate]):
    """The updates for one who watches. However slowly they are taken, what comes meanwhile is one sum.

    Every `recheck_interval` seconds `check` is asked, which raises Forbidden once the caller may watch no longer.
    """

    def __init__(self, user_id: UUID | None, check: Callable[[], Awaitable[None]], recheck_interval: float) -> None:
        self._user_id = user_id
        self._check = check
        self._recheck_interval = recheck_interval
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
        while not self._came.is_set():
            with anyio.move_on_after(self._recheck_interval):
                await self._came.wait()
            if not self._closed:
                await self._check()
        if not self._closed:
            await anyio.sleep(max(0.0, self._told_at + INTERVAL_SECONDS - time.monotonic()))
        if self._closed:
            raise StopAsyncIteration
        sums, since, self._since = self._sums, self._since, now()
        self._sums, self._came, self._told_at = _Sums(), anyio.Event(), time.monotonic()
        counts = {name: sums.counts[name] for name in COUNTED}
        return UsageUpdate(since, self._since, UsageSums(**counts, costs=tuple(sorted(sums.costs.items()))))

    async def aclose(self) -> None:
        """End it; whoever waits for an update is told so."""
        self._closed = True
        self._came.set()


class UsageFeed:
    """What is used by all users at all replicas, for who follows it here. `run` tells the others of what ends here.

    Once `look_again` was called, the rights of who follows are looked at again while they do.
    """

    def __init__(self) -> None:
        self._followed_since: datetime | None = None
        self._scopes_now: ScopesNow | None = None
        self._recheck_interval = RECHECK_SECONDS
        self._followers: WeakSet[UsageFollower] = WeakSet()
        self._untold: dict[UUID, _Sums] = {}
        self._came = anyio.Event()
        self._is_told = False

    def follow(self, principal: Principal, *, all_users: bool) -> UsageFollower:
        """Follow the caller's own usage, or everybody's. Raises Forbidden."""
        if all_users and not principal.has(Scope.USAGE_READ_ALL):
            raise Forbidden("The usage of other users needs the scope USAGE_READ_ALL.")
        needed = principal.scopes & {Scope.USAGE_READ_ALL if all_users else Scope.USAGE_READ}
        check = partial(self._check, principal, needed)
        follower = UsageFollower(None if all_users else principal.user_id, check, self._recheck_interval)
        if not self._followers:
            self._followed_since = now()
        self._followers.add(follower)
        return follower

    def look_again(self, scopes_now: ScopesNow, recheck_interval: float) -> None:
        """Look again at the rights of who follows from now on."""
        self._scopes_now, self._recheck_interval = scopes_now, recheck_interval

    @property
    def followed_since(self) -> datetime | None:
        """Since when somebody follows here; None while nobody does."""
        return self._followed_since if self._followers else None

    async def _check(self, principal: Principal, needed: frozenset[Scope]) -> None:
        """Raise Forbidden where a follower has lost a scope. While the database is away nobody can tell."""
        if self._scopes_now is None:
            return
        try:
            missing = needed - await self._scopes_now(principal)
        except DatabaseUnavailable:
            return
        if missing:
            raise Forbidden(f"You no longer have the scope {', '.join(scope.name for scope in missing)}.")

    def note(self, rows: Iterable[Row]) -> None:
        """Count rows that the ledger has written here."""
        for row in rows:
            user_id, sums = self._note(row)
            if self._is_told:
                self._untold.setdefault(user_id, _Sums()).add(sums)
                self._came.set()

    def note_elsewhere(self, rows: Iterable[Row]) -> None:
        """Count rows that other replicas have written, which they tell nobody of."""
        for row in rows:
            self._note(row)

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

    def _note(self, row: Row) -> tuple[UUID, _Sums]:
        user_id, sums = cast("UUID", row["user_id"]), _Sums.of(row)
        self._give(user_id, sums)
        return user_id, sums

    def _give(self, user_id: UUID, sums: _Sums) -> None:
        for follower in list(self._followers):
            follower.add(user_id, sums)
