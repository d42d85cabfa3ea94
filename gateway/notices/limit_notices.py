"""Tells of limits that have come to a threshold: the audit log, webhooks, and who follows.

The transaction that ends or begins a generation writes what has come to a threshold (`db.tables.LimitCrossing`). Here
each such row is noted once, by whichever replica is first, in one transaction with its events of the audit log and its
webhooks: none is lost or told twice. Followers are told by their own replica, which reads the same rows.
"""

import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from weakref import WeakSet

import anyio

from auth.principal import Principal
from auth.scopes import Scope
from db import queries
from db.clock import now
from db.engine import Database, DatabaseUnavailable
from db.tables import LimitCrossing
from gateway.audit import AuditOutcome, Deed, Target, event_of
from gateway.errors import Forbidden
from gateway.limits import LimitRule, Limits, LimitThreshold, is_seen_by, thresholds_of
from gateway.notices.webhooks import Webhooks
from gateway.tasks import purge_regularly

POLL_SECONDS = 1.0
"""How often the table is looked at."""

AT_ONCE = 100

OVERLAP = timedelta(seconds=60)
"""How much older than a follower a row may be that is new: its transaction took so long, or clocks differ."""

MOST_FOLLOWED = 1_000
"""Rows of the last moment that are looked at for followers, the latest ones."""

MOST_UNREAD = 1_000
"""Events that wait for one follower; beyond, the oldest are dropped."""

PURGE_SECONDS = 3_600.0
NOTED_KEPT = timedelta(hours=1)
WEBHOOKS_KEPT = timedelta(days=30)
"""Longer than any is tried: they are of a gateway that had webhooks once."""

WEBHOOK_TYPE = "limit.threshold_reached"

Data = Callable[[LimitThreshold], Mapping[str, Any]]
"""Gives what a webhook tells, in the API's words."""


class LimitFollower(AsyncIterator[LimitThreshold]):
    """The thresholds for one who watches."""

    def __init__(self, principal: Principal | None) -> None:
        self._principal = principal
        self._waiting: list[LimitThreshold] = []
        self._came = anyio.Event()
        self._closed = False

    def tell(self, crossing: LimitCrossing, rule: LimitRule, reached: Sequence[LimitThreshold]) -> None:
        """Tell what was reached, if it is to be seen here."""
        if self._principal is None or is_seen_by(crossing, rule, self._principal):
            self._waiting = [*self._waiting, *reached][-MOST_UNREAD:]
            self._came.set()

    async def __anext__(self) -> LimitThreshold:
        while not self._waiting and not self._closed:
            self._came = anyio.Event()
            await self._came.wait()
        if self._closed:
            raise StopAsyncIteration
        return self._waiting.pop(0)

    async def aclose(self) -> None:
        """End it; whoever waits is told so."""
        self._closed = True
        self._came.set()


class LimitNotices:
    """What there is to tell of limits. `run` works for it; `data` gives what webhooks tell."""

    def __init__(self, database: Database, limits: Limits, webhooks: Webhooks, data: Data) -> None:
        self._database = database
        self._limits = limits
        self._webhooks = webhooks
        self._data = data
        self._followers: WeakSet[LimitFollower] = WeakSet()
        self._seen: dict[int, datetime] = {}
        self._follows_since: datetime | None = None

    def follow(self, principal: Principal, *, all_users: bool) -> LimitFollower:
        """Follow the limits that count what the caller asks for, or all. Raises Forbidden."""
        if all_users and not principal.has(Scope.USAGE_READ_ALL):
            raise Forbidden("The limits of other users need the scope USAGE_READ_ALL.")
        if not self._followers:
            self._follows_since, self._seen = now(), {}
        follower = LimitFollower(None if all_users else principal)
        self._followers.add(follower)
        return follower

    async def run(self) -> None:
        """Note and tell, until cancelled; nothing where there are no thresholds."""
        if not self._limits.thresholds:
            await anyio.sleep_forever()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(purge_regularly, "what was told of limits", self._purge, PURGE_SECONDS)
            while True:
                try:
                    is_more = await self.note_some()
                    await self._tell_followers()
                except DatabaseUnavailable:
                    is_more = False  # which has told the log
                if not is_more:
                    await anyio.sleep(POLL_SECONDS)

    async def note_some(self) -> bool:
        """Note the oldest that nobody has noted; tells whether there may be more."""
        async with self._database.reading() as session:
            rows = await queries.notice.unnoted(session, AT_ONCE)
        for row in rows:
            rule = await self._rule(row)
            reached = [] if rule is None else thresholds_of(row, rule, self._limits.thresholds)
            async with self._database.transaction() as tx:
                if not await queries.notice.note(tx, row.id, now()):
                    continue
                tx.add_all(event_of(_deed(it)) for it in reached)
                for it in reached:
                    await self._webhooks.add(tx, WEBHOOK_TYPE, self._body(it))
        return len(rows) == AT_ONCE

    async def _tell_followers(self) -> None:
        followers = list(self._followers)
        if not followers or self._follows_since is None:
            return
        since = max(self._follows_since, now() - OVERLAP)
        async with self._database.reading() as session:
            rows = await queries.notice.crossings_since(session, since, MOST_FOLLOWED)
        for row in rows:
            if row.id in self._seen or (rule := await self._rule(row)) is None:
                continue
            self._seen[row.id] = row.at
            reached = thresholds_of(row, rule, self._limits.thresholds)
            for follower in followers:
                follower.tell(row, rule, reached)
        self._seen = {id: at for id, at in self._seen.items() if at >= now() - 2 * OVERLAP}

    async def _rule(self, row: LimitCrossing) -> LimitRule | None:
        """Give the limit of a crossing; None where it was removed since."""
        for _ in range(2):
            for rule in await self._limits.rules():
                if rule.id == row.limit_id:
                    return rule
            self._limits.clear()
        return None

    def _body(self, reached: LimitThreshold) -> str:
        told = {"type": WEBHOOK_TYPE, "timestamp": reached.at.isoformat(), "data": dict(self._data(reached))}
        return json.dumps(told, separators=(",", ":"))

    async def _purge(self) -> None:
        async with self._database.transaction() as tx:
            await queries.notice.purge(tx, noted_before=now() - NOTED_KEPT, created_before=now() - WEBHOOKS_KEPT)


def _deed(reached: LimitThreshold) -> Deed:
    limit = reached.limit
    details = {
        "threshold": reached.threshold,
        "measure": limit.measure.value,
        "window": limit.window and limit.window.value,
        "used": limit.used,
        "limit": limit.limit,
        "scope": {part.value: value for part, value in limit.scope.items()},
    }
    return Deed("limitReached", AuditOutcome.SUCCESS, target=Target("Limit", limit.name), details=details)
