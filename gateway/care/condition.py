"""What the database tells of itself: its tables, its clock, and what a crash left in it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from auth.roles import BuiltInRole
from db import queries
from db.clock import new_id, now
from db.engine import Database
from db.queries import Connections, TableShape

LEASES_OF_SILENCE = 10
"""After how many lease times without a sign a replica has ended: others would have removed it long ago."""


@dataclass(frozen=True, slots=True)
class Condition:
    """What was found in a database whose tables are up to date.

    `clock_ahead` is by how much its server's clock is ahead of ours, None for SQLite. `written_ahead` is by how much
    the newest moment that a gateway wrote lies in the future.
    """

    clock_ahead: timedelta | None
    written_ahead: timedelta
    connections: Connections | None
    administrators: int
    abandoned: int
    silent_replicas: int


class Inspection:
    """Asks a database about itself, and changes nothing."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def condition(self, lease_time: float) -> Condition:
        """Give its condition. Its tables must be up to date. Raises DatabaseUnavailable."""
        async with self._database.reading() as session:
            before = now()
            clock = await queries.care.inspection.clock(session)
            middle = before + (now() - before) / 2
            latest = await queries.care.inspection.latest_moment(session)
            at = now()
            return Condition(
                clock_ahead=None if clock is None else clock - middle,
                written_ahead=timedelta(0) if latest is None else max(latest - at, timedelta(0)),
                connections=await queries.care.inspection.connections(session),
                administrators=await queries.care.inspection.administrators(session, BuiltInRole.ADMIN.value),
                abandoned=await queries.care.inspection.abandoned(session),
                silent_replicas=await queries.care.inspection.silent_replicas(
                    session, at - LEASES_OF_SILENCE * timedelta(seconds=lease_time)
                ),
            )

    async def check_writes(self) -> None:
        """Write what changes no row, to see that the database takes it. Raises DatabaseUnavailable."""
        async with self._database.transaction() as tx:
            await queries.replica.note_seen(tx, new_id(), now())

    async def damage(self) -> list[str]:
        """Look through all of a SQLite file for damage; sentences, none where it is whole."""
        async with self._database.reading() as session:
            return await queries.care.inspection.damage(session)

    async def tables(self) -> Sequence[TableShape]:
        """Give all tables. Each is counted, which takes a while for large ones."""
        async with self._database.reading() as session:
            return await queries.care.inspection.tables(session)
