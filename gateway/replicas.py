"""The gateways that share a database: each shows that it is alive, and takes over what the dead ones leave behind.

A gateway raises its beat all the time. The others take it for dead when they have looked for the time of a lease and
never saw it raised: by their own clocks, and only while they can look, so neither clocks that differ nor a database
that was away make anybody die.
"""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import anyio
from anyio.abc import TaskGroup

from db import queries_generation, queries_idempotency, queries_replica, queries_transcript
from db.engine import Database
from db.tables import Generation, Replica, now
from gateway.idempotency import KEY_LIFETIME
from gateway.ledger import is_outage
from gateway.runner import Runner

logger = logging.getLogger(__name__)

BEATS_IN_LEASE = 5

ORPHANS_AT_ONCE = 100

LAST_ENDS_SECONDS = 60
"""How long before its death was noticed a gateway may have recorded an end that its viewers have not been told of."""

TIDY_SECONDS = 60
"""How often what has expired is removed from the database."""


@dataclass(slots=True)
class _Heard:
    """The last beat of another gateway, since when it is known, and how often it was seen: a late look is no proof."""

    beat: int
    since: float
    looks: int = 0


class Replicas:
    """This gateway among the others. `lease_time` is the seconds of silence after which one counts as dead."""

    def __init__(
        self, database: Database, runner: Runner, tasks: TaskGroup, lease_time: float, *, notes_usage: bool
    ) -> None:
        self._database = database
        self._runner = runner
        self._tasks = tasks
        self._lease_time = lease_time
        self._notes_usage = notes_usage
        self._heard: dict[UUID, _Heard] = {}
        self._wake = anyio.Event()
        self._tidied_at = 0.0
        self._beating = anyio.Lock()
        self._left = False

    async def join(self) -> None:
        """Be alive in the others' eyes, before the first generation begins."""
        await self._beat()

    async def leave(self) -> None:
        """Be gone in the others' eyes, at once and for good."""
        async with self._beating:
            self._left = True
        try:
            async with self._database.transaction() as tx:
                await queries_replica.remove_replica(tx, self._runner.replica_id)
        except Exception as error:
            if not is_outage(error):
                raise
            logger.warning("the database does not know that this gateway has stopped")

    def look_now(self) -> None:
        """Somebody says that there are orphans."""
        self._wake.set()

    async def run(self) -> None:
        """Beat, and look after the others, until cancelled. To be started in the application's task group."""
        while True:
            try:
                await self._beat()
                await self._bury_the_dead()
                if not self._runner.draining:
                    await self._take_over()
                await self._tidy()
            except Exception as error:
                self._heard.clear()
                if not is_outage(error):
                    logger.exception("looking after the other gateways failed; it is tried again")
            with anyio.move_on_after(self._lease_time / BEATS_IN_LEASE):
                await self._wake.wait()
            self._wake = anyio.Event()

    async def _beat(self) -> None:
        """Once it has left, a beat would make it one that the others have to miss."""
        async with self._beating:
            if not self._left:
                await self._raise_beat()

    async def _raise_beat(self) -> None:
        at = now()
        async with self._database.transaction() as tx:
            if not await queries_replica.raise_beat(tx, self._runner.replica_id, at):
                tx.add(Replica(id=self._runner.replica_id, beat=0, started_at=at, seen_at=at))
            if self._notes_usage and (usage := self._runner.unnoted_usage()):
                await queries_generation.note_usage(tx, usage)

    async def _bury_the_dead(self) -> None:
        async with self._database.reading() as session:
            beats = await queries_replica.beats(session)
        moment = time.monotonic()
        beats.pop(self._runner.replica_id, None)
        for replica, beat in beats.items():
            heard = self._heard.get(replica)
            if heard is None or heard.beat != beat:
                self._heard[replica] = heard = _Heard(beat, moment)
            heard.looks += 1
        self._heard = {replica: heard for replica, heard in self._heard.items() if replica in beats}
        silent = [
            (replica, heard.beat)
            for replica, heard in self._heard.items()
            if moment - heard.since > self._lease_time and heard.looks > BEATS_IN_LEASE
        ]
        if not silent:
            return
        async with self._database.transaction() as tx:
            dead = await queries_replica.declare_dead(tx, silent)
        for replica in dead:
            logger.warning("gateway %s is gone", replica)
        self._tasks.start_soon(self._runner.look_for_abandoned)
        async with self._database.reading() as session:
            since = now() - timedelta(seconds=LAST_ENDS_SECONDS)
            ended = await queries_generation.ended_lately(session, dead, since)
        for row in ended:
            self._tasks.start_soon(self._tell_end, row)

    async def _take_over(self) -> None:
        while True:
            async with self._database.reading() as session:
                orphans = await queries_generation.orphans(session, ORPHANS_AT_ONCE)
            if not orphans:
                return
            for row in await self._claimed(orphans):
                self._tasks.start_soon(self._adopt, row)

    async def _claimed(self, orphans: Sequence[Generation]) -> list[Generation]:
        """Those of them that no other gateway was quicker to take."""
        claimed: list[Generation] = []
        async with self._database.transaction() as tx:
            for row in orphans:
                if await queries_generation.take_over(tx, row, self._runner.replica_id):
                    claimed.append(row)
        for row in claimed:
            row.fence, row.replica_id = row.fence + 1, self._runner.replica_id
        return claimed

    async def _adopt(self, row: Generation) -> None:
        try:
            await self._runner.adopt(row)
        except Exception:  # in the task group of the whole application it would end everything
            logger.exception("generation %s could not be taken over", row.id)

    async def _tell_end(self, row: Generation) -> None:
        try:
            await self._runner.tell_end(row)
        except Exception:  # in the task group of the whole application it would end everything
            logger.exception("the end of generation %s could not be told", row.id)

    async def _tidy(self) -> None:
        if time.monotonic() - self._tidied_at < TIDY_SECONDS:
            return
        self._tidied_at = time.monotonic()
        async with self._database.transaction() as tx:
            await queries_transcript.forget_transcripts(tx, now())
            await queries_idempotency.forget_keys(tx, now() - KEY_LIFETIME)
