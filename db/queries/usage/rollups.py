"""The statements that write and read the sums of the ledger."""

from collections.abc import Collection, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple, TypeAlias, cast

import orjson
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Integer,
    Join,
    Select,
    Table,
    and_,
    bindparam,
    column,
    func,
    literal,
    literal_column,
    select,
    true,
)
from sqlalchemy import cast as as_type
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.selectable import FromClause

from db.engine import ReadSession, WriteSession
from db.queries.usage.sums import BinGroup, UsageChoice, UsageGroup, group_of
from db.tables import UsageBin, UsageKey, UsageRollup

_Select: TypeAlias = Select[*tuple[Any, ...]]

_COUNTS = (
    *("generations", "completed", "cancelled", "failed"),
    *("prompt_tokens", "completion_tokens", "cached_tokens", "thinking_tokens"),
)
SUMMED = (*_COUNTS, "cost_units", "cost_nano")
"""The columns of a roll-up that are added up."""


class Segment(NamedTuple):
    """A part of a bucket: the roll-ups over `seconds` that start from `low` up to `high`, added or subtracted."""

    seconds: int
    low: int
    high: int
    bucket: int
    sign: int


async def add_keys(session: WriteSession, keys: Sequence[Mapping[str, object]]) -> None:
    """Write what keys mean, where nobody has."""
    await _write(session, UsageKey, keys, ())


async def add_rollups(session: WriteSession, rows: Sequence[Mapping[str, object]]) -> None:
    """Add sums to the roll-ups. In one order everywhere, so that no two gateways wait for each other."""
    await _write(session, UsageRollup, rows, SUMMED)


async def add_bins(session: WriteSession, rows: Sequence[Mapping[str, object]]) -> None:
    """Add counts to the histograms; as `add_rollups`."""
    await _write(session, UsageBin, rows, ("generations",))


async def lock_keys(session: WriteSession) -> None:
    """Let no other transaction count keys, and add some, until this one ends. On SQLite no writer does anyway."""
    if session.get_bind().dialect.name == "postgresql":
        await session.execute(select(func.pg_advisory_xact_lock(_KEYS_LOCK)))


_KEYS_LOCK = 0x6F6C6C616B657973
"""What gateways lock while they decide which values get keys of their own."""


async def known_keys(session: ReadSession, ids: Collection[int]) -> set[int]:
    """Give those of these keys that there are."""
    return set(await session.scalars(select(UsageKey.id).where(UsageKey.id.in_(ids))))


async def count_keys(session: ReadSession, grouping: str, user_ids: Collection[object]) -> dict[object, int]:
    """Count the keys of each of these users in a grouping set."""
    query = select(UsageKey.user_id, func.count()).where(UsageKey.grouping == grouping, UsageKey.user_id.in_(user_ids))
    return {user_id: count for user_id, count in await session.execute(query.group_by(UsageKey.user_id))}


async def count_wanted(session: ReadSession, grouping: str, choice: UsageChoice) -> int:
    """Count the keys that are read for a choice."""
    return await session.scalar(select(func.count()).select_from(UsageKey).where(_wanted(grouping, choice))) or 0


async def sums(
    session: ReadSession, grouping: str, choice: UsageChoice, segments: Sequence[Segment], *, limit: int
) -> list[UsageGroup]:
    """Sum up roll-ups, by bucket, dimensions and currency; no more than `limit` groups, in no order."""
    if not segments:
        return []
    dialect = session.get_bind().dialect.name
    part = _segments(segments, dialect)
    read, within = _read(UsageRollup, part, dialect)
    group = [part.c.bucket, *(getattr(UsageKey, name) for name in choice.dimensions), UsageKey.currency]
    signed = [read.c[name] for name in ("cost_units", "cost_nano", *_COUNTS)]
    totals = [as_type(func.sum(part.c.sign * each), BigInteger).label(f"n{n}") for n, each in enumerate(signed)]
    query: _Select = select(*group, *totals).select_from(_InOrder(_InOrder(UsageKey, part), read, within))
    query = query.where(_wanted(grouping, choice)).group_by(*group)
    query = query.having(func.sum(part.c.sign * read.c.generations) != 0).limit(limit)
    return [group_of(row, len(choice.dimensions)) for row in await session.execute(query)]


async def bins(
    session: ReadSession, grouping: str, choice: UsageChoice, segments: Sequence[Segment], *, limit: int
) -> list[BinGroup]:
    """Sum up histograms, by bucket, dimensions and bin; no more than `limit` groups, in no order."""
    if not segments:
        return []
    dialect = session.get_bind().dialect.name
    part = _segments(segments, dialect)
    read, within = _read(UsageBin, part, dialect)
    group = [part.c.bucket, *(getattr(UsageKey, name) for name in choice.dimensions), read.c.measure, read.c.bin]
    number = as_type(func.sum(part.c.sign * read.c.generations), BigInteger)
    query: _Select = select(*group, number).select_from(_InOrder(_InOrder(UsageKey, part), read, within))
    query = query.where(_wanted(grouping, choice)).group_by(*group).having(number != 0).limit(limit)
    width = 1 + len(choice.dimensions)
    return [BinGroup(row[0], tuple(row[1:width]), *row[width:]) for row in await session.execute(query)]


class _InOrder(Join):
    """A join that SQLite makes in the order in which it is written, which is what CROSS JOIN means there.

    It would rather read all keys for each segment, and so jump to and fro in the table: half as fast.
    """

    inherit_cache = True

    def __init__(self, left: Any, right: Any, within: ColumnElement[bool] | None = None) -> None:
        super().__init__(left, right, true() if within is None else within)


@compiles(_InOrder, "sqlite")
def _compile_in_order(join: Any, compiler: Any, **given: Any) -> str:
    left, right, within = (compiler.process(part, **given) for part in (join.left, join.right, join.onclause))
    return f"{left} CROSS JOIN {right} ON {within}"


async def has_others(session: ReadSession, grouping: str, choice: UsageChoice, segment: Segment) -> bool:
    """Tell whether some of the values in a time have no key of their own."""
    query = select(UsageKey.id).where(UsageKey.grouping == grouping, UsageKey.other)
    users = (choice.chosen or {}).get("user_id")
    if users is not None:
        query = query.where(UsageKey.user_id.in_(users))
    found = select(UsageRollup.key_id).where(
        UsageRollup.key_id.in_(query),
        UsageRollup.seconds == segment.seconds,
        UsageRollup.start >= segment.low,
        UsageRollup.start < segment.high,
    )
    found = found.limit(1)
    return await session.scalar(found) is not None


def _wanted(grouping: str, choice: UsageChoice) -> ColumnElement[bool]:
    """Choose keys. More than one tag or group chosen would count a generation twice: whoever asks sees to that."""
    wanted = [UsageKey.grouping == grouping]
    wanted += [getattr(UsageKey, name).in_(values) for name, values in (choice.chosen or {}).items()]
    for name, value in choice.tags or ():
        wanted += [UsageKey.tag_name == name, UsageKey.tag_value == value]
    if choice.group_ids is not None:
        wanted.append(UsageKey.group_id.in_(list(choice.group_ids)))
    return and_(*wanted)


def _read(
    model: type[UsageRollup] | type[UsageBin], part: FromClause, dialect: str
) -> tuple[FromClause, ColumnElement[bool]]:
    """Give what is read of a table for each key and segment, and how it is joined.

    PostgreSQL knows nothing of the segments, and compares each with all rows of a key: 1.3 s for the days of a year in
    Berlin. OFFSET 0 keeps it to the index, once for each segment.
    """
    table = cast("Table", model.__table__)
    within = and_(
        table.c.key_id == UsageKey.id,
        table.c.seconds == part.c.seconds,
        table.c.start >= part.c.low,
        table.c.start < part.c.high,
    )
    if dialect != "postgresql":
        return table, within
    return select(table).where(within).correlate(part, UsageKey).offset(literal_column("0")).lateral("read"), true()


def _segments(segments: Sequence[Segment], dialect: str) -> FromClause:
    """Give segments as rows. As one parameter: a year of days has more than a thousand."""
    names = Segment._fields
    if dialect == "postgresql":
        told = [segment._asdict() for segment in segments]
        columns = [column(name, BigInteger) for name in names]
        each = func.json_to_recordset(literal(told, postgresql.JSON))
        return each.table_valued(*columns, name="part").render_derived(with_types=True)
    told = orjson.dumps([list(segment) for segment in segments]).decode()
    each = func.json_each(told).table_valued("value", name="each_part")
    parts = [as_type(func.json_extract(each.c.value, f"$[{n}]"), Integer).label(name) for n, name in enumerate(names)]
    return select(*parts).cte("part").prefix_with("MATERIALIZED")


async def _write(
    session: WriteSession, table: type[Any], rows: Sequence[Mapping[str, object]], summed: Sequence[str]
) -> None:
    if rows:
        connection = await session.connection()
        statement = _upsert(cast("Table", table.__table__), tuple(summed), connection.dialect.name)
        await connection.execute(statement, rows)


@cache
def _upsert(table: Table, summed: tuple[str, ...], dialect: str) -> Any:
    insert = (postgresql.insert if dialect == "postgresql" else sqlite.insert)(table)
    insert = insert.values({each.name: bindparam(each.name) for each in table.columns})
    if not summed:
        return insert.on_conflict_do_nothing()
    keys = [each.name for each in table.primary_key]
    return insert.on_conflict_do_update(
        index_elements=keys, set_={name: table.c[name] + insert.excluded[name] for name in summed}
    )
