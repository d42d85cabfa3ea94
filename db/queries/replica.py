"""The statements about the gateways that are alive."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import bindparam, delete, select, update

from db.engine import ReadSession, WriteSession
from db.tables import Replica

# Built once: every gateway sends them all the time.
_RAISE = (
    update(Replica)
    .where(Replica.id == bindparam("replica_id"))
    .values(heartbeat=Replica.heartbeat + 1, seen_at=bindparam("seen_at"))
    .returning(Replica.id)
)
_HEARTBEATS = select(Replica.id, Replica.heartbeat)


async def raise_heartbeat(session: WriteSession, replica_id: UUID, seen_at: datetime) -> bool:
    """Give a sign of life. False where the others have taken it for dead, or it was never there."""
    result = await session.execute(_RAISE, {"replica_id": replica_id, "seen_at": seen_at})
    return result.first() is not None


async def note_seen(session: WriteSession, replica_id: UUID, seen_at: datetime) -> None:
    """Write that it is alive, and nothing else."""
    await session.execute(update(Replica).where(Replica.id == replica_id).values(seen_at=seen_at))


async def heartbeats(session: ReadSession) -> dict[UUID, int]:
    """Give the last sign of life of each."""
    rows = await session.execute(_HEARTBEATS)
    return {replica_id: heartbeat for replica_id, heartbeat in rows}


async def is_alive(session: ReadSession, replica_id: UUID | None) -> bool:
    """Tell whether a gateway is among those alive."""
    return await session.scalar(select(Replica.id).where(Replica.id == replica_id)) is not None


async def declare_dead(session: WriteSession, silent: Sequence[tuple[UUID, int]]) -> Sequence[UUID]:
    """Remove those that have given no sign of life since this one, and return them."""
    dead: list[UUID] = []
    for replica_id, heartbeat in silent:
        gone = delete(Replica).where(Replica.id == replica_id, Replica.heartbeat == heartbeat).returning(Replica.id)
        dead += await session.scalars(gone)
    return dead


async def remove_replica(session: WriteSession, replica_id: UUID) -> None:
    """Remove a gateway that ends of its own will."""
    await session.execute(delete(Replica).where(Replica.id == replica_id))
