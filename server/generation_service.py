"""The parts that run generations, wired together: the stream log, the ledger, and this gateway among the others."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from uuid import UUID

import anyio
from anyio.abc import TaskGroup

from backends.streaming import LONGEST_GATHERING
from db.clock import new_id
from db.engine import Database
from gateway.blobs import Blobs
from gateway.catalog import BackendQueue, Catalog
from gateway.connections import SharedConnections
from gateway.generation import (
    Admission,
    GenerationObserver,
    Generations,
    Ledger,
    Phase,
    Router,
    Runner,
    Starts,
    TextRemoval,
)
from gateway.limits import Limits, Prices
from gateway.plugins import Plugins
from gateway.replicas import PeerRequests, Replicas, StreamRecords, Takeover, UsageNotes
from gateway.streams import (
    Handlers,
    KeptUsage,
    MemoryStreamLog,
    Notes,
    OpenCounts,
    SharedStreamLog,
    StreamBuffer,
    UnusableValkey,
    Valkey,
    check_valkey,
)
from gateway.tasks import spawn_service
from gateway.usage import UsageElsewhere, UsageFeed
from server.settings import PREFIX, Settings, SettingsError

LEDGER_SECONDS = 5
"""How long a gateway that stops waits for the database to take the last ends."""


@dataclass(frozen=True, slots=True)
class GenerationNeeds:
    """What generations need of the rest of the application. `tasks` run them; each backend has a queue by its name."""

    database: Database
    catalog: Catalog
    queues: Mapping[str, BackendQueue]
    blobs: Blobs
    limits: Limits
    prices: Prices
    usage_feed: UsageFeed
    plugins: Plugins
    tasks: TaskGroup
    observer: GenerationObserver = field(default_factory=GenerationObserver)


@dataclass(slots=True)
class GenerationService:
    """What runs generations, for who starts and stops it and looks after its health.

    `alone` tells that whoever shares its streams stops together with it.
    """

    generations: Generations
    runner: Runner
    ledger: Ledger
    replicas: Replicas
    shared_log: SharedStreamLog | None
    removal: TextRemoval
    drain_time: float
    queues: Mapping[str, BackendQueue]
    alone: bool = False
    connections: SharedConnections | None = None
    _stopping: anyio.Lock = field(default_factory=anyio.Lock)
    _stopped: bool = False

    @property
    def replica_id(self) -> UUID:
        """The name of this process among those that share the database."""
        return self.runner.replica_id

    @property
    def has_peers(self) -> bool:
        """Whether other gateways can go on with what this one does."""
        return self.shared_log is not None and self.shared_log.mirrored and not self.alone

    @property
    def is_leaving(self) -> bool:
        """Whether it is on its way to its end, and load balancers should look for another one."""
        return self.runner.phase is not Phase.SERVING

    def expect_nobody(self) -> None:
        """Viewers who leave from now on were sent away: they come back at another gateway."""
        self.runner.drain()

    async def stop(self) -> None:
        """Take no new work, let what runs finish or leave it to other gateways. A second call waits for the first."""
        async with self._stopping:
            if self._stopped:
                return
            self._stopped = True
            await self.runner.stop(self.drain_time, hand_over=self.has_peers)
            if self.shared_log is not None:
                await self.shared_log.call_for_orphans()

    async def stop_at_once(self) -> None:
        """End what runs, or leave it to other gateways, now; for when `stop` was given up while it waited."""
        await self.runner.stop(0, hand_over=self.has_peers)


@asynccontextmanager
async def running_generation_service(
    settings: Settings, needs: GenerationNeeds, *, alone: bool = False
) -> AsyncGenerator[GenerationService]:
    """Run generations within the block; at its end all have ended, or are released to other gateways.

    Raises SettingsError.
    """
    replica_id, database, tasks = new_id(), needs.database, needs.tasks
    heartbeat = database.apart()
    valkey = None if settings.redis_url is None else await _valkey(settings, replica_id)
    service = _wired(settings, needs, heartbeat=heartbeat, valkey=valkey, replica_id=replica_id)
    service = replace(service, alone=alone, connections=(connections := _connections(settings, replica_id)))
    try:
        if service.shared_log is not None:
            service.shared_log.set_handlers(_handlers(service, needs))
            await tasks.start(service.shared_log.run)
            spawn_service(tasks, "telling of usage", partial(needs.usage_feed.run, service.shared_log.tell_usage))
        else:
            elsewhere = UsageElsewhere(database, needs.usage_feed, replica_id)
            spawn_service(tasks, "looking for usage elsewhere", elsewhere.run)
        if connections is not None:
            spawn_service(tasks, "counting connections", connections.run)
        spawn_service(tasks, "the ledger", service.ledger.run)
        await service.replicas.join()
        spawn_service(tasks, "looking after the other gateways", service.replicas.run)
        yield service
        await service.stop()
        await service.ledger.close(LEDGER_SECONDS)
        await service.replicas.leave()
    finally:
        if connections is not None:
            await connections.leave()
        if valkey is not None:
            await valkey.aclose()
        if heartbeat is not database:
            await heartbeat.close()


def _wired(
    settings: Settings, needs: GenerationNeeds, *, heartbeat: Database, valkey: Valkey | None, replica_id: UUID
) -> GenerationService:
    database, catalog, blobs = needs.database, needs.catalog, needs.blobs
    buffer = StreamBuffer(settings.stream_retention, settings.stream_memory, settings.stream_max_size)
    shared = None if valkey is None else SharedStreamLog(valkey, buffer)
    log = shared or MemoryStreamLog(buffer)
    recorded = [*needs.observer.recorded, needs.plugins.recorded]
    kept_usage = KeptUsage(settings.data_dir, replica_id)
    ledger = Ledger(database, needs.limits, needs.prices, needs.usage_feed, recorded, kept_usage)
    admission = Admission(needs.limits, needs.prices, settings.limit_answer_tokens)
    runner = Runner(
        database=database,
        log=log,
        ownership=log,
        ledger=ledger,
        router=Router(catalog, needs.queues, _parked(settings)),
        tasks=needs.tasks,
        replica_id=replica_id,
        blobs=blobs,
        admission=admission,
        text_retention=settings.text_retention,
        kept_usage=kept_usage,
        hooks=needs.plugins,
        observer=needs.observer,
    )
    replicas = Replicas(
        database,
        heartbeat,
        runner,
        Takeover(runner=runner, catalog=catalog, log=log, ownership=log, ledger=ledger),
        lease_time=settings.lease_time,
        idempotency_time=settings.idempotency_time,
        blobs=blobs,
        usage_notes=UsageNotes(database, runner) if shared is None else None,
    )
    generations = Generations(
        database=database,
        catalog=catalog,
        log=log,
        ownership=log,
        starts=_starts(settings, needs, runner, admission),
        runner=runner,
        ledger=ledger,
        event_interval=_interval_of_viewers(settings.event_interval),
    )
    removal = TextRemoval(database, runner, log)
    return GenerationService(generations, runner, ledger, replicas, shared, removal, settings.drain_time, needs.queues)


def _starts(settings: Settings, needs: GenerationNeeds, runner: Runner, admission: Admission) -> Starts:
    return Starts(
        database=needs.database,
        catalog=needs.catalog,
        runner=runner,
        blobs=needs.blobs,
        admission=admission,
        limits=needs.limits,
        idempotency_time=settings.idempotency_time,
        content_policy=settings.content_policy,
        hooks=needs.plugins,
    )


def _parked(settings: Settings) -> BackendQueue:
    """Make the queue of those that wait for a limit; it is as long as that of a backend."""
    return BackendQueue(0, settings.max_queued, max_waiting_per_user=settings.max_queued_per_user)


def _interval_of_viewers(event_interval: float) -> float:
    """Give what the backends do not keep already: a viewer that did so, too, would wait twice."""
    return event_interval if event_interval > LONGEST_GATHERING else 0


def _handlers(service: GenerationService, needs: GenerationNeeds) -> Handlers:
    peers, records = PeerRequests(service.runner), StreamRecords(needs.database)
    return Handlers(
        cancel=peers.cancel,
        unfollowed=peers.unfollowed,
        superseded=peers.release,
        orphans=service.replicas.look_now,
        notes=Notes(records.note, records.note_usage, records.ended),
        owns=records.owns,
        usage=needs.usage_feed.receive,
    )


def _connections(settings: Settings, replica_id: UUID) -> SharedConnections | None:
    if settings.redis_url is None:
        return None
    return SharedConnections(OpenCounts(settings.redis_url.get_secret_value(), replica_id))


async def _valkey(settings: Settings, replica_id: UUID) -> Valkey:
    assert settings.redis_url is not None  # noqa: S101
    try:
        await check_valkey(settings.redis_url.get_secret_value())
    except UnusableValkey as error:
        raise SettingsError(f"{PREFIX}REDIS_URL {error}.") from error
    return Valkey(
        settings.redis_url.get_secret_value(),
        replica_id,
        retention=settings.stream_retention,
        max_stream_bytes=settings.stream_max_size,
        max_bytes=settings.redis_memory,
    )
