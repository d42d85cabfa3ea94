"""The gateways that share a database: each shows that it is alive, and takes over what the dead ones leave behind.

A gateway sends heartbeats all the time, by raising a number in its row. The others take it for dead when they have
looked for the time of a lease and never saw it raised: by their own clocks, and only while they can look and the
database takes their own heartbeats, so neither clocks that differ nor a database that was away or locked make anybody
die.

Sending heartbeats, expiring replicas, taking over and purging are tasks of their own: none waits for another.
"""

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from uuid import UUID

import anyio
from anyio.abc import TaskGroup

from db import queries
from db.clock import now
from db.engine import Database
from db.tables import Generation, Replica
from gateway.blobs import Blobs
from gateway.generation import Phase, Runner, is_outage
from gateway.replicas.takeover import Takeover
from gateway.replicas.usage_notes import UsageNotes
from gateway.tasks import purge_regularly, spawn, spawn_service

logger = logging.getLogger(__name__)

HEARTBEATS_IN_LEASE = 5

ORPHANS_AT_ONCE = 100

LAST_ENDS_SECONDS = 60
"""How long before its death was noticed a gateway may have recorded an end that its viewers have not been told of."""

PURGE_SECONDS = 60
"""How often what has expired is removed from the database."""


@dataclass(slots=True)
class _Heartbeat:
    """The last heartbeat of another gateway, since when it is known, and how many this one had sent by then.

    Silence is proof only while the database took heartbeats: a table that was locked made all gateways silent.
    """

    number: int
    since: float
    own_heartbeats: int


class Replicas:
    """This gateway among the others. `lease_time` is the seconds of silence after which one counts as dead.

    `heartbeat` is the database again, over a connection that nothing else uses.
    """

    def __init__(
        self,
        database: Database,
        heartbeat: Database,
        runner: Runner,
        takeover: Takeover,
        *,
        lease_time: float,
        idempotency_time: float,
        blobs: Blobs,
        usage_notes: UsageNotes | None,
    ) -> None:
        self._database = database
        self._heartbeat = heartbeat
        self._runner = runner
        self._takeover = takeover
        self._lease_time = lease_time
        self._idempotency_time = idempotency_time
        self._interval = lease_time / HEARTBEATS_IN_LEASE
        self._blobs = blobs
        self._usage_notes = usage_notes
        self._tasks: TaskGroup
        self._heartbeats: dict[UUID, _Heartbeat] = {}
        self._wake = anyio.Event()
        self._sending = anyio.Lock()
        self._sent = 0
        self._left = False
        self._warned = False

    async def join(self) -> None:
        """Be alive in the others' eyes, before the first generation begins."""
        await self._raise_heartbeat()

    async def leave(self) -> None:
        """Be gone in the others' eyes, at once and for good."""
        async with self._sending:
            self._left = True
        try:
            async with self._database.transaction() as tx:
                await queries.replica.remove_replica(tx, self._runner.replica_id)
        except Exception as error:
            if not is_outage(error):
                raise
            logger.warning("the database does not know that this gateway has stopped")
        else:
            if self._runner.kept_usage is not None:
                self._runner.kept_usage.close()

    async def note_alive(self) -> None:
        """Write something small, to see that the database takes it. Raises DatabaseUnavailable."""
        async with self._database.transaction() as tx:
            await queries.replica.note_seen(tx, self._runner.replica_id, now())

    def look_now(self) -> None:
        """Somebody says that there are orphans."""
        self._wake.set()

    async def run(self) -> None:
        """Beat, and look after the others, until cancelled. To be started in the application's task group."""
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            self._keep_on("showing that this gateway is alive", self._send_heartbeat, self._interval)
            self._keep_on("expiring silent gateways", self._expire_replicas, self._interval)
            self._keep_on("taking over generations", self._take_over, self._interval, self._called)
            tasks.start_soon(purge_regularly, "what has expired", self._purge, PURGE_SECONDS)
            tasks.start_soon(purge_regularly, "blobs that have expired", self._blobs.purge, PURGE_SECONDS)
            if self._usage_notes is not None:
                self._keep_on("noting usage", self._usage_notes.write, self._interval)

    def _keep_on(
        self,
        what: str,
        call: Callable[[], Awaitable[None]],
        seconds: float,
        called: Callable[[], Awaitable[None]] = anyio.sleep_forever,
    ) -> None:
        """Have something done all the time, a pause of some seconds between, or less where it is called for."""

        async def do_and_pause() -> None:
            try:
                await call()
            except Exception as error:
                if not is_outage(error):
                    raise
            with anyio.move_on_after(seconds):
                await called()

        spawn_service(self._tasks, what, do_and_pause)

    async def _called(self) -> None:
        await self._wake.wait()
        self._wake = anyio.Event()

    async def _send_heartbeat(self) -> None:
        """Send one; after leaving it would make this gateway one that the others have to miss."""
        async with self._sending:
            if not self._left:
                with anyio.fail_after(self._lease_time):
                    await self._raise_heartbeat()

    async def _raise_heartbeat(self) -> None:
        at = now()
        async with self._heartbeat.transaction() as tx:
            if not await queries.replica.raise_heartbeat(tx, self._runner.replica_id, at):
                tx.add(Replica(id=self._runner.replica_id, heartbeat=0, started_at=at, seen_at=at))
        self._sent += 1

    async def _expire_replicas(self) -> None:
        async with self._database.reading() as session:
            numbers = await queries.replica.heartbeats(session)
        moment = time.monotonic()
        numbers.pop(self._runner.replica_id, None)
        for replica, number in numbers.items():
            last = self._heartbeats.get(replica)
            if last is not None and last.number != number:
                self._warn_of_company()
            if last is None or last.number != number:
                self._heartbeats[replica] = _Heartbeat(number, moment, self._sent)
        self._heartbeats = {replica: last for replica, last in self._heartbeats.items() if replica in numbers}
        silent = [
            (replica, last.number)
            for replica, last in self._heartbeats.items()
            if moment - last.since > self._lease_time and self._sent - last.own_heartbeats > HEARTBEATS_IN_LEASE
        ]
        if silent:
            await self._expire(silent)

    async def expire(self, replica_id: UUID) -> None:
        """Take over from a gateway of which it is known that it has died: now, or where the database is away later.

        Its lease runs out as any other's.
        """
        try:
            async with self._database.reading() as session:
                numbers = await queries.replica.heartbeats(session)
            if replica_id in numbers:
                await self._expire([(replica_id, numbers[replica_id])])
                self.look_now()
        except Exception as error:
            if not is_outage(error):
                raise

    def _warn_of_company(self) -> None:
        """Say once that another gateway is alive with which this one shares no streams."""
        if self._usage_notes is not None and not self._warned:
            self._warned = True
            logger.warning(
                "another gateway uses this database, and the two share no stream log: what one runs cannot be watched "
                "or cancelled at the other. Set OLLAGRAPH_REDIS_URL for both."
            )

    async def _expire(self, silent: Sequence[tuple[UUID, int]]) -> None:
        async with self._database.transaction() as tx:
            dead = await queries.replica.declare_dead(tx, silent)
            ended = await queries.generation.ended_lately(tx, dead, now() - timedelta(seconds=LAST_ENDS_SECONDS))
        for replica in dead:
            logger.warning("gateway %s is gone", replica)
        self._do("ending what nobody watches any more", self._takeover.cancel_abandoned)
        for row in ended:
            self._do(f"telling the end of generation {row.id}", partial(self._takeover.tell_end, row))

    async def _take_over(self) -> None:
        while self._runner.phase is Phase.SERVING:
            async with self._database.reading() as session:
                orphans = await queries.generation.orphans(session, ORPHANS_AT_ONCE)
            if not orphans:
                return
            for row in await self._claimed(orphans):
                self._do(f"taking over generation {row.id}", partial(self._takeover.take_over, row))

    async def _claimed(self, orphans: Sequence[Generation]) -> list[Generation]:
        """Give those of them that no other gateway was quicker to take."""
        claimed: list[Generation] = []
        async with self._database.transaction() as tx:
            for row in orphans:
                if await queries.generation.take_over(tx, row, self._runner.replica_id):
                    claimed.append(row)
        for row in claimed:
            row.fence, row.replica_id = row.fence + 1, self._runner.replica_id
        return claimed

    def _do(self, what: str, call: Callable[[], Awaitable[None]]) -> None:
        spawn(self._tasks, what, call)

    async def _purge(self) -> None:
        """Remove from the database what has expired."""
        async with self._database.transaction() as tx:
            await queries.transcript.forget_transcripts(tx, now())
            await queries.idempotency.forget_keys(tx, now() - timedelta(seconds=self._idempotency_time))
