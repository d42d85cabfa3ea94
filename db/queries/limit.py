"""The statements about limits. One statement checks and changes a counter, so that none of many at once is too many."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, NamedTuple, cast
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Table,
    Update,
    and_,
    bindparam,
    case,
    delete,
    func,
    insert,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql.dml import ReturningInsert

from db.engine import ReadSession, WriteSession
from db.tables import Limit, LimitCounter, LimitException, Reservation

_COUNTERS = cast("Table", LimitCounter.__table__)
_RESERVATIONS = cast("Table", Reservation.__table__)


class CounterKey(NamedTuple):
    """Which counter: of a limit, and of one of its subjects."""

    limit_id: UUID
    subject: str


@dataclass(frozen=True, slots=True)
class Reserve:
    """What is to be reserved: `amount` of a counter that may hold `bound`, in the window that is open or this one.

    `window_end` is None for what runs at once. Where this window began before the last one ended, as after a change of
    the time zone, it begins there and lasts to `following_end`: no window is shorter than a whole one.
    """

    key: CounterKey
    amount: int
    bound: int
    window_start: datetime
    window_end: datetime | None
    measure: str
    currency: str | None = None
    following_end: datetime | None = None
    scope: Mapping[str, str] | None = None

    def end_after(self, last_end: datetime | None) -> datetime | None:
        """Give when this window ends if the last one ended then."""
        is_short = last_end is not None and last_end > self.window_start
        return self.following_end or self.window_end if is_short else self.window_end

    def taken(self) -> dict[str, object]:
        """Give the counter as it is where nothing was counted before."""
        return {
            **self.key._asdict(),
            "window_start": self.window_start,
            "window_end": self.window_end,
            "used": 0,
            "reserved": self.amount,
            "bound": self.bound,
            "scope": self.scope or {},
            "told": 0,
        }


@dataclass(frozen=True, slots=True)
class Settlement:
    """What a generation has used, by measure and, where the measure has one, currency."""

    generation_id: UUID
    used: Mapping[tuple[str, str | None], int]


class _CounterWindow(NamedTuple):
    """One window of a counter."""

    limit_id: UUID
    subject: str
    window_start: datetime


class Level(NamedTuple):
    """How full a counter is, and until when that counts."""

    used: int
    reserved: int
    window_end: datetime | None

    @property
    def taken(self) -> int:
        """What is used and reserved together."""
        return self.used + self.reserved


@dataclass(frozen=True, slots=True)
class Reserved:
    """How full the counters are that were taken from, and which had no room: then none of them was."""

    levels: Mapping[CounterKey, Level]
    full: frozenset[CounterKey]


@dataclass(frozen=True, slots=True)
class FullCounter:
    """A counter that has no room for what was `asked` for."""

    counter: LimitCounter
    asked: int


async def limits(session: ReadSession, most: int) -> tuple[Sequence[Limit], Sequence[LimitException]]:
    """Give all limits, by name, and their exceptions."""
    found = (await session.scalars(select(Limit).order_by(Limit.name).limit(most))).all()
    exceptions = (await session.scalars(select(LimitException))).all() if found else ()
    return found, exceptions


async def by_name(session: WriteSession, name: str) -> Limit | None:
    """Give the limit of this name, which nobody else changes before this transaction ends."""
    return await session.scalar(select(Limit).where(Limit.name == name).with_for_update())


async def count(session: ReadSession) -> int:
    """Tell how many limits there are."""
    return await session.scalar(select(func.count()).select_from(Limit)) or 0


async def set_amount(session: WriteSession, limit_id: UUID, amount: int, at: datetime) -> None:
    """Give a limit another amount, and leave what was counted."""
    await session.execute(update(Limit).where(Limit.id == limit_id).values(amount=amount, updated_at=at))


async def remove(session: WriteSession, limit_id: UUID) -> None:
    """Remove a limit with all that was counted and reserved.

    As everywhere, reservations are locked first, and then counters in their order: nobody waits in a circle.
    """
    await session.execute(delete(Reservation).where(Reservation.limit_id == limit_id))
    counters = LimitCounter.limit_id == limit_id
    await session.execute(select(LimitCounter.subject).where(counters).order_by(LimitCounter.subject).with_for_update())
    await session.execute(delete(LimitCounter).where(counters))
    await session.execute(delete(Limit).where(Limit.id == limit_id))


async def set_exceptions(
    session: WriteSession, limit_id: UUID, exceptions: Mapping[tuple[str, str], int | None]
) -> None:
    """Give a limit these exceptions and no others: amounts by kind and subject."""
    await session.execute(delete(LimitException).where(LimitException.limit_id == limit_id))
    session.add_all(
        LimitException(limit_id=limit_id, kind=kind, subject=subject, amount=amount)
        for (kind, subject), amount in exceptions.items()
    )


async def counters(session: ReadSession, keys: Sequence[CounterKey]) -> dict[CounterKey, LimitCounter]:
    """Give the counters of these keys, as far as anything was ever counted."""
    where = tuple_(LimitCounter.limit_id, LimitCounter.subject).in_(keys)
    rows = await session.scalars(select(LimitCounter).where(where))
    return {CounterKey(row.limit_id, row.subject): row for row in rows}


async def reserve(
    session: WriteSession,
    generation_id: UUID,
    wanted: Sequence[Reserve],
    at: datetime,
    thresholds: tuple[int, ...] = (),
) -> Reserved:
    """Reserve all of this for a generation, or nothing where a counter has no room for it.

    `thresholds` are percentages: where a counter comes to one, a LimitCrossing is written. Nothing of `wanted` is more
    than its bound. A window that has ended by `at` begins anew. The counters are taken in one order, so that of two
    gateways neither waits for the other in a circle.
    """
    wanted = sorted(wanted, key=lambda it: it.key)
    connection = await session.connection()
    taking, granted = _taking(session.get_bind().dialect.name, thresholds), dict[CounterKey, Any]()
    for it in wanted:
        following_end = it.following_end or it.window_end
        found = await connection.execute(taking, {**it.taken(), "changed_at": at, "following_end": following_end})
        if (row := found.one_or_none()) is None:
            break  # the others need not be taken: all are given back
        granted[it.key] = row
    if len(granted) < len(wanted):
        taken = {_CounterWindow(*it.key, granted[it.key].window_start): it for it in wanted if it.key in granted}
        await _add(session, {window: (0, it.amount) for window, it in taken.items()}, at, thresholds)
        return Reserved({}, await _full(session, [it for it in wanted if it.key not in granted], at))
    reservations = [
        {
            "generation_id": generation_id,
            **it.key._asdict(),
            "window_start": granted[it.key].window_start,
            "measure": it.measure,
            "currency": it.currency,
            "amount": it.amount,
        }
        for it in wanted
    ]
    await connection.execute(insert(_RESERVATIONS), reservations)
    levels = {key: Level(row.used, row.reserved, row.window_end) for key, row in granted.items()}
    return Reserved(levels, frozenset())


async def _full(session: WriteSession, wanted: Sequence[Reserve], at: datetime) -> frozenset[CounterKey]:
    """Give those of the counters that have no room, of which the first one was found so already."""
    found = await counters(session, [it.key for it in wanted])
    full = {wanted[0].key}
    for it in wanted:
        counter = found.get(it.key)
        is_open = counter is not None and (counter.window_end is None or counter.window_end > at)
        if counter is not None and is_open and counter.used + counter.reserved + it.amount > it.bound:
            full.add(it.key)
    return frozenset(full)


@cache
def _taking(dialect: str, thresholds: tuple[int, ...]) -> ReturningInsert[*tuple[Any, ...]]:
    """Take from a counter what it has room for; gives it if it had.

    One row at a time, since SQLAlchemy compiles an INSERT of several anew each time, which takes longer than all else.
    """
    insert_into = postgresql.insert if dialect == "postgresql" else sqlite.insert
    names = tuple(_COUNTERS.c.keys())
    statement = insert_into(LimitCounter).values(
        {name: bindparam(name, type_=_COUNTERS.c[name].type) for name in names}
    )
    following_end = bindparam("following_end", type_=_COUNTERS.c.window_end.type)
    new = statement.excluded
    over = and_(LimitCounter.window_end.is_not(None), LimitCounter.window_end <= new.changed_at)
    short = and_(over, LimitCounter.window_end > new.window_start)
    told = _told(_COUNTERS.c.told, _COUNTERS.c.used, new.bound, thresholds)
    return statement.on_conflict_do_update(
        index_elements=[LimitCounter.limit_id, LimitCounter.subject],
        set_={
            "window_start": case(
                (short, LimitCounter.window_end), (over, new.window_start), else_=LimitCounter.window_start
            ),
            "window_end": case((short, following_end), (over, new.window_end), else_=LimitCounter.window_end),
            "used": case((over, 0), else_=LimitCounter.used),
            "reserved": case((over, new.reserved), else_=LimitCounter.reserved + new.reserved),
            "bound": new.bound,
            "scope": new.scope,
            "told": case((over, 0), else_=told),
            "changed_at": new.changed_at,
        },
        where=or_(over, LimitCounter.used + LimitCounter.reserved + new.reserved <= new.bound),
    ).returning(*_COUNTERS.c)


async def raise_reservations(
    session: WriteSession, generation_id: UUID, needed: Mapping[tuple[str, str | None], int], at: datetime
) -> FullCounter | None:
    """Reserve so much for a generation, by measure and currency, of each of its counters that has less for it.

    Gives the first counter that has no room; then the transaction is to be undone. What a window had that is over by
    `at` counts no longer, and may be as much as it likes.
    """
    query = select(_RESERVATIONS).where(_RESERVATIONS.c.generation_id == generation_id)
    query = query.order_by(_RESERVATIONS.c.limit_id, _RESERVATIONS.c.subject).with_for_update()
    connection = await session.connection()
    rows = (await connection.execute(query)).all()
    for row in rows:
        more = needed.get((row.measure, row.currency), 0) - row.amount
        if more <= 0:
            continue
        counter = LimitCounter.limit_id == row.limit_id, LimitCounter.subject == row.subject
        window, taken = LimitCounter.window_start == row.window_start, LimitCounter.used + LimitCounter.reserved
        room = or_(taken + more <= LimitCounter.bound, LimitCounter.window_end <= at)
        raised = update(_COUNTERS).where(*counter, window, room).values(reserved=_COUNTERS.c.reserved + more)
        if (await connection.execute(raised)).rowcount:
            mine = _RESERVATIONS.c.limit_id == row.limit_id, _RESERVATIONS.c.subject == row.subject
            reserved = update(_RESERVATIONS).where(_RESERVATIONS.c.generation_id == generation_id, *mine)
            await connection.execute(reserved.values(amount=row.amount + more))
        elif full := await session.scalar(select(LimitCounter).where(*counter, window)):
            return FullCounter(full, more)
    return None


def _told(
    told: ColumnElement[int], used: ColumnElement[int], bound: ColumnElement[int], thresholds: tuple[int, ...]
) -> ColumnElement[int]:
    """Give the highest threshold that what is used has come to, or what was `told` before where that is higher.

    The share of the bound is rounded up, and reckoned so that nothing in it is more than the bound, which may have 60
    bits.
    """
    if not thresholds:
        return told
    reached: list[tuple[ColumnElement[bool], int]] = []
    for it in sorted(thresholds, reverse=True):
        rest = 100 - it
        share = bound - (bound // 100) * rest - ((bound % 100) * rest) // 100
        reached.append((and_(told < it, used > 0, used >= share), it))
    return case(*reached, else_=told)


_RELEASE = (
    delete(_RESERVATIONS)
    .where(_RESERVATIONS.c.generation_id.in_(bindparam("ended", expanding=True)))
    .returning(*_RESERVATIONS.c)
)


async def settle(
    session: WriteSession, ended: Sequence[Settlement], at: datetime, thresholds: tuple[int, ...] = ()
) -> int:
    """Turn what these generations had reserved into what they have used; gives how many reservations there were.

    `thresholds` are percentages: where a counter comes to one, a LimitCrossing is written. What a window had that is
    over by now is of no account any more.
    """
    used = {it.generation_id: it.used for it in ended}
    connection = await session.connection()
    rows = await connection.execute(_RELEASE, {"ended": list(used)})
    sums: dict[_CounterWindow, tuple[int, int]] = defaultdict(lambda: (0, 0))
    found = 0
    for row in rows:
        found += 1
        key = _CounterWindow(row.limit_id, row.subject, row.window_start)
        spent, reserved = sums[key]
        sums[key] = spent + used[row.generation_id].get((row.measure, row.currency), 0), reserved + row.amount
    await _add(session, sums, at, thresholds)
    return found


@cache
def _adding(thresholds: tuple[int, ...]) -> Update:
    used = _COUNTERS.c.used + bindparam("spent", type_=_COUNTERS.c.used.type)
    return (
        update(_COUNTERS)
        .where(
            _COUNTERS.c.limit_id == bindparam("of"),
            _COUNTERS.c.subject == bindparam("whose"),
            _COUNTERS.c.window_start == bindparam("since"),
        )
        .values(
            used=used,
            reserved=_COUNTERS.c.reserved - bindparam("freed"),
            told=_told(_COUNTERS.c.told, used, _COUNTERS.c.bound, thresholds),
            changed_at=bindparam("at", type_=_COUNTERS.c.changed_at.type),
        )
    )


async def _add(
    session: WriteSession, sums: Mapping[_CounterWindow, tuple[int, int]], at: datetime, thresholds: tuple[int, ...]
) -> None:
    """Add what was used, and take back what was reserved for it."""
    if not sums:
        return
    rows = [
        {"of": limit_id, "whose": subject, "since": start, "spent": spent, "freed": reserved, "at": at}
        for (limit_id, subject, start), (spent, reserved) in sorted(sums.items())
    ]
    connection = await session.connection()
    await connection.execute(_adding(thresholds), rows)


async def purge_removed(session: WriteSession) -> None:
    """Remove what was counted and reserved for limits that there are no more."""
    for table in (Reservation, LimitCounter):
        await session.execute(delete(table).where(table.limit_id.not_in(select(Limit.id))))


async def purge_counters(session: WriteSession, before: datetime, most: int) -> int:
    """Remove counters whose window ended before this, at most so many; gives how many."""
    old = select(LimitCounter.limit_id, LimitCounter.subject).where(stale_counters(before)).limit(most)
    old = old.with_for_update(skip_locked=True)  # what is being counted is no longer stale
    rows = (await session.execute(old)).all()
    if rows:
        keys = tuple_(LimitCounter.limit_id, LimitCounter.subject).in_([tuple(row) for row in rows])
        await session.execute(delete(LimitCounter).where(keys, stale_counters(before)))
    return len(rows)


def stale_counters(before: datetime) -> ColumnElement[bool]:
    """Give the condition of counters whose window ended before this."""
    return LimitCounter.window_end < before
