"""Removing what is too old, now: what running gateways remove by themselves, and what somebody wants to be rid of."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from time import perf_counter

import anyio

from db import queries
from db.clock import now
from db.engine import Database
from db.queries import Stale
from db.tables import (
    AuditEvent,
    Blob,
    DeviceCode,
    IdempotencyKey,
    KnownAddress,
    LimitCounter,
    LoginAttempts,
    LoginFlow,
    OneTimeLink,
    Session,
    Transcript,
    UsageRecord,
)
from gateway.identity import KEPT_AFTER_END, KNOWN_TIME
from gateway.limits import KEPT_AFTER_WINDOW
from gateway.usage import UsageUpkeep

AT_ONCE = 500
"""Rows removed in one transaction: on SQLite nobody else writes meanwhile."""


class Kind(StrEnum):
    """What can be removed."""

    TEXT = "text"
    BLOBS = "blobs"
    IDEMPOTENCY_KEYS = "idempotency-keys"
    SESSIONS = "sessions"
    SIGN_INS = "sign-ins"
    ADDRESSES = "addresses"
    LINKS = "links"
    DEVICE_CODES = "device-codes"
    COUNTERS = "counters"
    AUDIT = "audit"
    USAGE = "usage"


CHOSEN_AGE = frozenset({Kind.TEXT, Kind.AUDIT, Kind.USAGE})
"""Of what an age can be chosen. The rest has an expiry of its own."""


@dataclass(frozen=True, slots=True)
class Ages:
    """The settings that say how long something is kept, in seconds. 0 for audit and usage means for ever."""

    idempotency_time: float
    login_lock_time: float
    audit_retention: float
    usage_retention: float


@dataclass(frozen=True, slots=True)
class Pruned:
    """How many rows of a kind were removed, or would be."""

    kind: Kind
    rows: int


class Pruning:
    """Removes rows in short transactions, with as much time between for others. `older_than` goes before the ages."""

    def __init__(self, database: Database, ages: Ages, older_than: timedelta | None = None) -> None:
        self._database = database
        self._ages = ages
        self._older_than = older_than

    async def count(self, kinds: Sequence[Kind]) -> AsyncGenerator[Pruned, None]:
        """Count what would be removed."""
        for kind in kinds:
            async with self._database.reading() as session:
                found = [await queries.care.stale.count(session, stale) for stale in self._stale(kind, now())]
            yield Pruned(kind, sum(found))

    async def remove(self, kinds: Sequence[Kind]) -> AsyncGenerator[Pruned, None]:
        """Remove it, and tell after each kind how much it was."""
        for kind in kinds:
            yield Pruned(kind, await self._remove(kind))

    async def _remove(self, kind: Kind) -> int:
        if kind is Kind.USAGE:
            return await self._remove_usage()
        return sum([await self._remove_all(stale) for stale in self._stale(kind, now())])

    async def _remove_usage(self) -> int:
        """Remove rows of the ledger, whose sums stay. Only what is in the sums goes."""
        retention = self._age(self._ages.usage_retention)
        if retention is None:
            return 0
        upkeep = UsageUpkeep(self._database, retention.total_seconds())
        await upkeep.catch_up()
        return await upkeep.purge()

    async def _remove_all(self, stale: Stale) -> int:
        removed = 0
        while True:
            began = perf_counter()
            async with self._database.transaction() as tx:
                some = await queries.care.stale.remove_some(tx, stale, AT_ONCE)
            removed += some
            if some < AT_ONCE:
                return removed
            await anyio.sleep(perf_counter() - began)

    def _age(self, seconds: float) -> timedelta | None:
        if self._older_than is not None:
            return self._older_than
        return timedelta(seconds=seconds) if seconds else None

    def _stale(self, kind: Kind, at: datetime) -> list[Stale]:
        """Say which rows are too old."""
        return self._of_chosen_age(kind, at) if kind in CHOSEN_AGE else self._expired(at)[kind]

    def _of_chosen_age(self, kind: Kind, at: datetime) -> list[Stale]:
        if kind is Kind.TEXT:
            if self._older_than is not None:
                return [Stale(Transcript, queries.transcript.ended_before(at - self._older_than))]
            return [Stale(Transcript, it) for it in queries.transcript.stale(at)]
        age = self._age(self._ages.audit_retention if kind is Kind.AUDIT else self._ages.usage_retention)
        if age is None:
            return []
        if kind is Kind.AUDIT:
            return [Stale(AuditEvent, queries.audit.stale(at - age))]
        day = (at - age).replace(hour=0, minute=0, second=0, microsecond=0)
        return [Stale(UsageRecord, queries.usage.waiting.stale(day))]

    def _expired(self, at: datetime) -> dict[Kind, list[Stale]]:
        old_keys = at - timedelta(seconds=self._ages.idempotency_time)
        old_failures = at - timedelta(seconds=self._ages.login_lock_time)
        old_counters = queries.limit.stale_counters(at - KEPT_AFTER_WINDOW)
        return {
            Kind.BLOBS: [Stale(Blob, queries.blob.stale(at))],
            Kind.IDEMPOTENCY_KEYS: [Stale(IdempotencyKey, queries.idempotency.stale(old_keys))],
            Kind.SESSIONS: [Stale(Session, queries.session.stale(at - KEPT_AFTER_END))],
            Kind.SIGN_INS: [
                Stale(LoginAttempts, queries.sign_in.stale_attempts(old_failures)),
                Stale(LoginFlow, queries.external.stale(at)),
            ],
            Kind.ADDRESSES: [Stale(KnownAddress, queries.sign_in.stale_addresses(at - KNOWN_TIME))],
            Kind.LINKS: [Stale(OneTimeLink, queries.one_time_link.stale(at))],
            Kind.DEVICE_CODES: [Stale(DeviceCode, queries.device.stale(at))],
            Kind.COUNTERS: [
                Stale(
                    LimitCounter,
                    queries.care.stale.either(old_counters, queries.care.stale.counters_of_removed_limits()),
                )
            ],
        }
