"""The statements about prices. Nothing changes or removes a row."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, func, literal, or_, select

from db.engine import ReadSession
from db.tables import Price


class PriceChoice(NamedTuple):
    """Which prices to give; None takes all. `models` are patterns, `since` and `until` limit `valid_from`."""

    models: Collection[str] | None = None
    since: datetime | None = None
    until: datetime | None = None


async def prices_page(session: ReadSession, wanted: PriceChoice, *, limit: int, before: UUID | None) -> Sequence[Price]:
    """Give at most `limit` prices, the last set first, set before `before` (UUIDv7 sort by time)."""
    query = select(Price).where(*_conditions(wanted))
    if before is not None:
        query = query.where(Price.id < before)
    return (await session.scalars(query.order_by(Price.id.desc()).limit(limit))).all()


async def prices_since(session: ReadSession, since: datetime) -> Sequence[Price]:
    """Give what decides prices from `since` on: of each pattern the price of that moment, and all later ones."""
    rank = func.row_number().over(
        partition_by=Price.model, order_by=(Price.valid_from.desc(), Price.created_at.desc(), Price.id.desc())
    )
    ranked = select(Price.id, rank.label("rank")).where(Price.valid_from <= since).subquery()
    of_that_moment = select(ranked.c.id).where(ranked.c.rank == 1)
    query = select(Price).where(or_(Price.id.in_(of_that_moment), Price.valid_from > since))
    return (await session.scalars(query.order_by(Price.id))).all()


async def prices_by_id(session: ReadSession, ids: Collection[UUID]) -> dict[UUID, Price]:
    """Give the prices of these ids."""
    return {price.id: price for price in await session.scalars(select(Price).where(Price.id.in_(ids)))}


async def other_patterns(session: ReadSession, model: str) -> int:
    """Count the patterns that have prices, but for this one."""
    return await session.scalar(select(func.count(Price.model.distinct())).where(Price.model != model)) or 0


async def patterns(session: ReadSession) -> Sequence[str]:
    """Give the patterns that have prices."""
    return (await session.scalars(select(Price.model).distinct())).all()


def _conditions(wanted: PriceChoice) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if wanted.models is not None:
        conditions.append(Price.model.in_(wanted.models) if wanted.models else literal(0) == 1)
    if wanted.since is not None:
        conditions.append(Price.valid_from >= wanted.since)
    if wanted.until is not None:
        conditions.append(Price.valid_from < wanted.until)
    return conditions
