"""The statements about generations."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cache
from operator import itemgetter
from typing import cast
from uuid import UUID

from sqlalchemy import Table, Update, bindparam, insert, or_, select, update

from db.engine import ReadSession, WriteSession
from db.tables import Generation, GenerationAttempt, Replica, UsageRecord

_GENERATIONS = cast("Table", Generation.__table__)
_USAGE = cast("Table", UsageRecord.__table__)
_ATTEMPTS = cast("Table", GenerationAttempt.__table__)
_ADD, _ADD_USAGE, _ADD_ATTEMPTS = insert(_GENERATIONS), insert(_USAGE), insert(_ATTEMPTS)

_BEGINNING = (
    "id",
    "user_id",
    "api_key_id",
    "model",
    "backend",
    "state",
    "replica_id",
    "fence",
    "tags",
    "end_user",
    "group_ids",
    "on_disconnect",
    "on_backend_loss",
    "content_policy",
    "created_at",
    "started_at",
)
"""What is known of a generation that begins; everything else is NULL."""


async def add(session: WriteSession, row: Generation) -> None:
    """Write the row of a generation that begins. `row` stays an object of no session.

    In Core, as what ends it: some hundred answers a second begin, and none needs SQLAlchemy's unit of work.
    """
    connection = await session.connection()
    await connection.execute(_ADD, {name: getattr(row, name) for name in _BEGINNING})


async def add_ends(
    session: WriteSession, usage: Sequence[Mapping[str, object]], attempts: Sequence[Mapping[str, object]]
) -> None:
    """Write the usage of generations that have ended, and which backends were asked for them: columns by name."""
    connection = await session.connection()
    for statement, rows in ((_ADD_USAGE, usage), (_ADD_ATTEMPTS, attempts)):
        if rows:
            await connection.execute(statement, rows)


async def generations_by_id(session: ReadSession, ids: Sequence[UUID]) -> dict[UUID, Generation]:
    """Give the generations of these ids, whoever's they are."""
    rows = await session.scalars(select(Generation).where(Generation.id.in_(ids)))
    return {row.id: row for row in rows}


async def attempts_of(session: ReadSession, ids: Sequence[UUID]) -> Sequence[GenerationAttempt]:
    """Give the attempts of these generations, each one's in their order."""
    query = select(GenerationAttempt).where(GenerationAttempt.generation_id.in_(ids))
    return (await session.scalars(query.order_by(GenerationAttempt.generation_id, GenerationAttempt.number))).all()


async def generations_page(
    session: ReadSession,
    user_id: UUID,
    *,
    limit: int,
    before: UUID | None,
    states: Sequence[str] | None,
    models: Collection[str] | None,
) -> Sequence[Generation]:
    """At most `limit` generations of a user's, newest first, older than `before` (UUIDv7 sort by time)."""
    query = select(Generation).where(Generation.user_id == user_id)
    if before is not None:
        query = query.where(Generation.id < before)
    if states is not None:
        query = query.where(Generation.state.in_(states))
    if models is not None:
        query = query.where(Generation.model.in_(models))
    return (await session.scalars(query.order_by(Generation.id.desc()).limit(limit))).all()


async def mark_running(
    session: WriteSession, generation_id: UUID, fence: int, started_at: datetime, queued_ms: int
) -> None:
    """Write that its turn has come, where it has no end and has not gone over to another gateway."""
    await session.execute(
        update(Generation)
        .where(Generation.id == generation_id, Generation.fence == fence, Generation.finished_at.is_(None))
        .values(state="RUNNING", started_at=started_at, queued_ms=queued_ms)
    )


async def is_held(session: WriteSession, generation_id: UUID, fence: int) -> bool:
    """Tell whether it has no end and has not gone over to another gateway; it stays so until the transaction ends."""
    held = select(Generation.id).where(
        Generation.id == generation_id, Generation.fence == fence, Generation.finished_at.is_(None)
    )
    return await session.scalar(held.with_for_update()) is not None


async def mark_ended(session: WriteSession, generation_id: UUID, fence: int, columns: Mapping[str, object]) -> bool:
    """Write how it ended. False where it has an end already, or has gone over to another gateway."""
    connection = await session.connection()
    row = {"row_id": generation_id, "row_fence": fence, **columns}
    return (await connection.execute(_ending(tuple(columns)), row)).rowcount == 1


@cache
def _ending(names: tuple[str, ...]) -> Update:
    columns = _GENERATIONS.c
    return (
        update(_GENERATIONS)
        .where(
            columns.id == bindparam("row_id"), columns.fence == bindparam("row_fence"), columns.finished_at.is_(None)
        )
        .values({name: bindparam(name) for name in names})
    )


async def note_usage(session: WriteSession, usage: Sequence[Mapping[str, object]]) -> None:
    """Write what running generations have used so far: columns by name, with the row's id and fence among them."""
    statement = update(Generation).where(
        Generation.id == bindparam("row_id"),
        Generation.fence == bindparam("row_fence"),
        Generation.finished_at.is_(None),
    )
    names = [
        *("prompt_tokens", "completion_tokens", "cached_tokens", "thinking_tokens", "usage_source"),
        *("prompt_source", "completion_source", "cached_source", "thinking_source"),
    ]
    connection = await session.connection()
    rows = sorted(usage, key=itemgetter("row_id"))  # every writer of several locks them in this order
    await connection.execute(statement.values({name: bindparam(name) for name in names}), rows)


async def note_detached(session: WriteSession, streams: Sequence[tuple[UUID, int]], at: datetime | None) -> None:
    """Write of generations, each with its fence, since when their text is more than the shared log has, if it is."""
    statement = update(Generation).where(
        Generation.id == bindparam("row_id"), Generation.fence == bindparam("row_fence")
    )
    rows = [{"row_id": each, "row_fence": fence, "detached_at": at} for each, fence in sorted(streams)]
    connection = await session.connection()
    await connection.execute(statement.values(detached_at=bindparam("detached_at")), rows)


_ORPHANS = (
    select(Generation)
    .where(
        Generation.finished_at.is_(None),
        or_(Generation.replica_id.is_(None), Generation.replica_id.not_in(select(Replica.id))),
    )
    .order_by(Generation.id)
    .limit(bindparam("most"))
)


async def orphans(session: ReadSession, most: int) -> Sequence[Generation]:
    """Unfinished generations that no living gateway runs, oldest first."""
    return (await session.scalars(_ORPHANS, {"most": most})).all()


async def ended_lately(session: ReadSession, replica_ids: Sequence[UUID], since: datetime) -> Sequence[Generation]:
    """Give what these gateways ended since then, of the generations of the last day: UUIDv7 begin with their time."""
    oldest = UUID(int=int((since - timedelta(days=1)).timestamp() * 1000) << 80)
    query = select(Generation).where(
        Generation.id >= oldest, Generation.replica_id.in_(replica_ids), Generation.finished_at >= since
    )
    return (await session.scalars(query)).all()


async def take_over(session: WriteSession, generation: Generation, replica_id: UUID) -> bool:
    """Give an orphan to a gateway and raise its fence. False where another one was quicker."""
    result = await session.execute(
        update(Generation)
        .where(Generation.id == generation.id, Generation.fence == generation.fence, Generation.finished_at.is_(None))
        .values(fence=Generation.fence + 1, replica_id=replica_id)
        .returning(Generation.fence)
    )
    return result.first() is not None


async def release(session: WriteSession, generation_id: UUID, fence: int) -> None:
    """Let any other gateway take it over."""
    await session.execute(
        update(Generation)
        .where(Generation.id == generation_id, Generation.fence == fence, Generation.finished_at.is_(None))
        .values(replica_id=None)
    )
