"""The audit log: who did what to what, when, from where, and what came of it.

What somebody did is written before they get the answer; what was refused or failed, a moment later. Refusals may come
in floods: the first of a kind is written, those of the next minute are counted and become one event.
"""

import logging
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, cast
from uuid import UUID

import anyio

from auth.client import UNKNOWN_CLIENT, Client, shown_address
from auth.principal import Principal
from db import queries
from db.clock import new_id, now
from db.engine import Database, DatabaseUnavailable
from db.queries import AuditChoice as AuditChoice
from db.tables import AuditEvent
from gateway.tasks import purge_regularly

logger = logging.getLogger(__name__)

NO_METHOD = "NONE"
"""The method of whoever sent no credentials."""

KINDS_KEPT = 1_000
"""Kinds of refusals that are counted at once; what comes beyond is counted as one kind."""

RECORD_SECONDS = 3
"""How long an answer waits for its record. It is shielded from cancellation, so it has to end by itself."""

LATE_SECONDS = 5
"""How often it is tried again to write what waits."""

MOST_LATE = 10_000
"""Events that wait for a database that is away or busy; what comes beyond is told in the log alone."""

COUNT_SECONDS = 60
LAST_WRITE_SECONDS = 2
PURGE_SECONDS = 600
EXPORTED_AT_ONCE = 500
MAX_VALUE = 200
"""Characters of one value in `details`."""


class AuditOutcome(StrEnum):
    """What came of it."""

    SUCCESS = "SUCCESS"
    REFUSED = "REFUSED"
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True)
class Target:
    """What something was done to: a type of the API, and its key."""

    type: str
    key: str


@dataclass(frozen=True, slots=True)
class Deed:
    """Something that was done or refused. `details` holds no secrets; it is what was asked to be changed, and to what.

    `name` is what a stranger said to be called, and `user_id` who they turned out to be.
    """

    action: str
    outcome: AuditOutcome
    code: str | None = None
    principal: Principal | None = None
    client: Client = UNKNOWN_CLIENT
    request_id: str | None = None
    target: Target | None = None
    name: str | None = None
    user_id: UUID | None = None
    details: Mapping[str, Any] = field(default_factory=dict[str, Any])


Kind = tuple[str, ...]

SIGN_INS = frozenset({"deviceSignIn", "login", "registerUser"})
"""The actions that begin sessions, or fail to: the log has a line of each."""


class AuditLog:
    """Writes what happens, tells it to who may know, and removes what is older than `audit_retention` (0: never)."""

    def __init__(self, database: Database, audit_retention: float) -> None:
        self._database = database
        self._audit_retention = audit_retention
        self._counted: dict[Kind, tuple[Deed, datetime, int]] = {}
        self._noted: list[Deed] = []
        self._late: list[AuditEvent] = []
        self._came = anyio.Event()
        self._listener: Callable[[Deed], None] | None = None

    def listen(self, listener: Callable[[Deed], None]) -> None:
        """Have somebody told of each deed that gets a row of its own. It must not raise, and not wait."""
        self._listener = listener

    async def record(self, deed: Deed) -> None:
        """Write what was done, before anybody is told of it, or later where the database is away or busy. Never raises.

        The deed itself is done: that its record can never be written is told in the log, with all of it.
        """
        if self._listener is not None:
            self._listener(deed)
        _log_sign_in(deed)
        row = _row(deed, now(), 1)
        with anyio.move_on_after(RECORD_SECONDS, shield=True) as writing:
            await self._write([row])
        if writing.cancelled_caught:
            self._wait([row])

    def note(self, deed: Deed) -> None:
        """Write what was refused or failed, a moment later; a refusal like one of the last minute is only counted."""
        _log_sign_in(deed)
        if deed.outcome is not AuditOutcome.REFUSED or self._is_first(deed):
            self._noted.append(deed)
            self._came.set()
            if self._listener is not None:
                self._listener(deed)

    async def run(self) -> None:
        """Write what was noted and counted, and remove what is old, until cancelled, and then once more."""
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._write_noted)
                tasks.start_soon(self._write_counted)
                tasks.start_soon(self._write_late)
                if self._audit_retention:
                    tasks.start_soon(purge_regularly, "old events of the audit log", self._purge, PURGE_SECONDS)
        finally:
            with anyio.move_on_after(LAST_WRITE_SECONDS, shield=True):
                await self._flush(self._counted)
                await self._try_again()
            _tell_lost(self._late)

    async def page(self, wanted: AuditChoice, first: int, before: UUID | None) -> tuple[Sequence[AuditEvent], bool]:
        """Give events, newest first, older than `before`; and whether there are more."""
        async with self._database.reading() as session:
            rows = await queries.audit.audit_page(session, wanted, limit=first + 1, before=before)
        return rows[:first], len(rows) > first

    async def by_id(self, ids: Sequence[UUID]) -> list[AuditEvent | None]:
        """Give many events at once, in the order of the ids."""
        async with self._database.reading() as session:
            found = await queries.audit.audit_events_by_id(session, ids)
        return [found.get(event_id) for event_id in ids]

    async def export(self, wanted: AuditChoice) -> AsyncGenerator[Sequence[AuditEvent], None]:
        """Give all events, oldest first, in portions; no transaction is open while one is sent."""
        after: UUID | None = None
        while True:
            async with self._database.reading() as session:
                rows = await queries.audit.audit_after(session, wanted, limit=EXPORTED_AT_ONCE, after=after)
            if rows:
                yield rows
            if len(rows) < EXPORTED_AT_ONCE:
                return
            after = rows[-1].id

    def _is_first(self, deed: Deed) -> bool:
        """Tell whether this is the first refusal of its kind within the minute; count it where it is not."""
        kind = _kind(deed)
        if kind not in self._counted and len(self._counted) >= KINDS_KEPT:
            deed = Deed("other refusals", AuditOutcome.REFUSED)
            kind = _kind(deed)
        if kind not in self._counted:
            self._counted[kind] = deed, now(), 0
            return True
        first, at, more = self._counted[kind]
        self._counted[kind] = first, at, more + 1
        return False

    async def _write_noted(self) -> None:
        while True:
            await self._came.wait()
            self._came = anyio.Event()
            noted, self._noted = self._noted, []
            await self._write([_row(deed, now(), 1) for deed in noted])

    async def _write_counted(self) -> None:
        while True:
            await anyio.sleep(COUNT_SECONDS / 4)
            over = now() - timedelta(seconds=COUNT_SECONDS)
            await self._flush({kind: counted for kind, counted in self._counted.items() if counted[1] <= over})

    async def _flush(self, counted: Mapping[Kind, tuple[Deed, datetime, int]]) -> None:
        noted, self._noted = self._noted, []
        rows = [_row(deed, now(), 1) for deed in noted]
        rows += [_row(deed, now(), more) for deed, _, more in counted.values() if more]
        for kind in list(counted):
            self._counted.pop(kind, None)
        await self._write(rows)

    async def _write(self, rows: list[AuditEvent]) -> None:
        if not rows:
            return
        try:
            async with self._database.transaction() as tx:
                tx.add_all(rows)
        except DatabaseUnavailable:  # which has told the log
            self._wait(rows)
        except Exception:
            logger.exception("%d events cannot be written to the audit log", len(rows))
            _tell_lost(rows)

    def _wait(self, rows: list[AuditEvent]) -> None:
        """Keep events until the database takes them."""
        room = MOST_LATE - len(self._late)
        self._late += rows[:room]
        _tell_lost(rows[room:])

    async def _write_late(self) -> None:
        while True:
            await anyio.sleep(LATE_SECONDS)
            await self._try_again()

    async def _try_again(self) -> None:
        """Write what waits and is not there already: of a commit that was cut off nobody knows whether it worked."""
        try:
            while late := self._late[:EXPORTED_AT_ONCE]:
                there = await self.by_id([row.id for row in late])
                async with self._database.transaction() as tx:
                    tx.add_all([row for row, written in zip(late, there, strict=True) if written is None])
                del self._late[: len(late)]
        except DatabaseUnavailable:
            return
        except Exception:
            logger.exception("%d events cannot be written to the audit log", len(self._late))
            _tell_lost(self._late)
            self._late.clear()

    async def _purge(self) -> None:
        before = now() - timedelta(seconds=self._audit_retention)
        removed = queries.audit.REMOVED_AT_ONCE
        while removed == queries.audit.REMOVED_AT_ONCE:
            async with self._database.transaction() as tx:
                removed = await queries.audit.purge_audit_events(tx, before)


def _tell_lost(rows: Sequence[AuditEvent]) -> None:
    """Tell the log of events that are not in the database, and will not be."""
    for row in rows:
        logger.warning("not in the audit log: %s", told(row))


def told(row: AuditEvent) -> dict[str, Any]:
    """Give an event as it is exported: every column that has a value, times as in RFC 3339."""
    values = {column.key: getattr(row, column.key) for column in AuditEvent.__table__.columns}
    return {
        name: value.isoformat() if isinstance(value, datetime) else str(value) if isinstance(value, UUID) else value
        for name, value in values.items()
        if value is not None
    }


def shortened(value: object) -> object:
    """Give a value as it is kept in `details`."""
    if isinstance(value, str):
        return _plain(value)[:MAX_VALUE]
    if isinstance(value, list | tuple | set | frozenset):
        return [shortened(one) for one in list(value)[:MAX_LISTED]]  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    if isinstance(value, dict):
        named = cast("dict[str, object]", value)
        return {_plain(name)[:MAX_VALUE]: shortened(one) for name, one in list(named.items())[:MAX_LISTED]}
    return value if value is None or isinstance(value, bool | int | float) else _plain(str(value))[:MAX_VALUE]


MAX_LISTED = 50
"""Values of one list in `details`."""


def _log_sign_in(deed: Deed) -> None:
    """Write the line of a sign-in. Of a failed one without the name: people type passwords there."""
    if deed.action not in SIGN_INS:
        return
    worked = deed.outcome is AuditOutcome.SUCCESS
    fields = {
        "action": deed.action,
        "outcome": deed.outcome.value,
        "code": deed.code,
        "user": str(deed.user_id) if deed.user_id else None,
        "username": deed.name if worked else None,
        "address": shown_address(deed.client.host),
    }
    told = {name: value for name, value in fields.items() if value}
    logger.log(logging.INFO if worked else logging.WARNING, "sign-in", extra=told)


def _kind(deed: Deed) -> Kind:
    who = str(deed.principal.user_id) if deed.principal else _plain(deed.name)
    target = (deed.target.type, deed.target.key) if deed.target else ("", "")
    return deed.action, deed.code or "", who, deed.client.host or "", *target


def event_of(deed: Deed) -> AuditEvent:
    """Give the row of something that happens now, for who writes it in a transaction of their own."""
    return _row(deed, now(), 1)


def _row(deed: Deed, at: datetime, count: int) -> AuditEvent:
    principal = deed.principal
    return AuditEvent(
        id=new_id(),
        at=at,
        actor_id=principal.user_id if principal else deed.user_id,
        actor=principal.username if principal else _plain(deed.name)[:64] or None,
        method=principal.method.value if principal else NO_METHOD,
        api_key_id=principal.api_key_id if principal else None,
        session_id=principal.session_id if principal else None,
        action=deed.action,
        outcome=deed.outcome.value,
        code=deed.code,
        target_type=deed.target.type if deed.target else None,
        target_id=_plain(deed.target.key)[:255] if deed.target else None,
        address=shown_address(deed.client.host),
        client=deed.client.user_agent or None,
        request_id=deed.request_id,
        count=count,
        details={name: shortened(value) for name, value in deed.details.items()} or None,
    )


def _plain(text: str | None) -> str:
    """Give what a stranger sent without what PostgreSQL keeps in no text, and what could forge a line somewhere."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text or "")


def with_outcome(deed: Deed, outcome: AuditOutcome, code: str | None = None, target: Target | None = None) -> Deed:
    """Give a deed with what came of it."""
    return replace(deed, outcome=outcome, code=code, target=target or deed.target)
