"""The statements about the audit log. Nothing changes a row; only what is old enough is removed."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, delete, select

from db.engine import ReadSession, WriteSession
from db.tables import AuditEvent

REMOVED_AT_ONCE = 5_000
"""So that nobody waits long for the writer of SQLite."""


class AuditChoice(NamedTuple):
    """Which events to give; None takes all. `since` is within, `until` is not."""

    actor_ids: Sequence[UUID] | None = None
    actions: Sequence[str] | None = None
    outcomes: Sequence[str] | None = None
    target_id: str | None = None
    address: str | None = None
    since: datetime | None = None
    until: datetime | None = None


async def audit_page(
    session: ReadSession, wanted: AuditChoice, *, limit: int, before: UUID | None
) -> Sequence[AuditEvent]:
    """At most `limit` events, newest first, older than `before` (UUIDv7 sort by time)."""
    query = select(AuditEvent).where(*_conditions(wanted))
    if before is not None:
        query = query.where(AuditEvent.id < before)
    return (await session.scalars(query.order_by(AuditEvent.id.desc()).limit(limit))).all()


async def audit_after(
    session: ReadSession, wanted: AuditChoice, *, limit: int, after: UUID | None
) -> Sequence[AuditEvent]:
    """At most `limit` events, oldest first, newer than `after`: for an export in pieces."""
    query = select(AuditEvent).where(*_conditions(wanted))
    if after is not None:
        query = query.where(AuditEvent.id > after)
    return (await session.scalars(query.order_by(AuditEvent.id).limit(limit))).all()


async def audit_events_by_id(session: ReadSession, ids: Sequence[UUID]) -> dict[UUID, AuditEvent]:
    """Give the events of these ids."""
    events = await session.scalars(select(AuditEvent).where(AuditEvent.id.in_(ids)))
    return {event.id: event for event in events}


async def purge_audit_events(session: WriteSession, before: datetime) -> int:
    """Remove some of the events from before that moment, the oldest first; gives how many."""
    old = select(AuditEvent.id).where(stale(before)).order_by(AuditEvent.at).limit(REMOVED_AT_ONCE)
    removed = await session.execute(delete(AuditEvent).where(AuditEvent.id.in_(old)).returning(AuditEvent.id))
    return len(removed.all())


def stale(before: datetime) -> ColumnElement[bool]:
    """Give the condition of the events from before that moment."""
    return AuditEvent.at < before


def _conditions(wanted: AuditChoice) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if wanted.actor_ids is not None:
        conditions.append(AuditEvent.actor_id.in_(wanted.actor_ids))
    if wanted.actions is not None:
        conditions.append(AuditEvent.action.in_(wanted.actions))
    if wanted.outcomes is not None:
        conditions.append(AuditEvent.outcome.in_(wanted.outcomes))
    if wanted.target_id is not None:
        conditions.append(AuditEvent.target_id == wanted.target_id)
    if wanted.address is not None:
        conditions.append(AuditEvent.address == wanted.address)
    if wanted.since is not None:
        conditions.append(AuditEvent.at >= wanted.since)
    if wanted.until is not None:
        conditions.append(AuditEvent.at < wanted.until)
    return conditions
