"""Samples what has a value at every moment, and how late the event loop wakes up."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import anyio

from db.engine import Database
from gateway.catalog import BackendQueue, BackendState, BreakerState, Catalog
from gateway.limits import Limits
from gateway.plugins import Plugins
from server.generation_service import GenerationService
from server.metrics.instruments import Metrics
from server.transports import ConnectionLimiter

SAMPLE_SECONDS = 1.0
"""How old what another worker's process shows may be. What is asked is sampled when it is asked."""


ASK_SECONDS = 5.0
"""How old what is told of a backend may be."""


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a gateway that are looked at."""

    database: Database
    queues: Mapping[str, BackendQueue]
    catalog: Catalog
    limits: Limits
    plugins: Plugins
    service: GenerationService
    limiters: Mapping[str, ConnectionLimiter]


class Sampler:
    """Sets the gauges from the parts of a gateway."""

    def __init__(self, metrics: Metrics, parts: Parts) -> None:
        self._metrics = metrics
        self._parts = parts
        self._refusals: Counter[tuple[str, str]] = Counter()
        self._failures: Counter[tuple[str, str, str]] = Counter()

    async def run(self) -> None:
        """Sample until cancelled."""
        while True:
            self.sample()
            due = anyio.current_time() + SAMPLE_SECONDS
            await anyio.sleep(SAMPLE_SECONDS)
            self._metrics.loop_lag.observe(max(0.0, anyio.current_time() - due))

    async def ask_backends(self) -> None:
        """Have the backends asked until cancelled, also while nobody else does: whether they answer is told."""
        while True:
            await self._parts.catalog.backends()
            await anyio.sleep(ASK_SECONDS)

    def sample(self) -> None:
        """Set all gauges to what is the case now."""
        parts, service = self._parts, self._parts.service
        for name, queue in parts.queues.items():
            self._set("ollagraph_queue_waiting", queue.waiting, name)
            self._set("ollagraph_slots_used", queue.running, name)
            self._set("ollagraph_slots", queue.total, name)
        for state in parts.catalog.states():
            self._sample_backend(state)
        for transport, limiter in parts.limiters.items():
            self._set("ollagraph_streams_open", limiter.open, transport)
        self._set("ollagraph_generations_running", len(service.runner.runs))
        if (log := service.shared_log) is not None:
            self._set("ollagraph_stream_log_waiting_events", log.waiting)
            self._set("ollagraph_stream_log_up", log.mirrored)
        self._set("ollagraph_ledger_waiting_ends", service.ledger.length)
        self._set("ollagraph_database_up", parts.database.works)
        self._set("ollagraph_database_connections_used", parts.database.checked_out)
        self._set("ollagraph_database_connections", parts.database.most_connections)
        self._set("ollagraph_workers_up", 1)
        for kind, count in (parts.limits.refusals - self._refusals).items():
            self._metrics.refusals.labels(*kind).inc(count)
        self._refusals = parts.limits.refusals.copy()
        failures = parts.plugins.failures()
        for failure, count in (failures - self._failures).items():
            self._metrics.plugin_failures.labels(*failure).inc(count)
        self._failures = failures
        for thread in parts.plugins.threads:
            self._set("ollagraph_plugin_waiting_calls", thread.waiting, thread.name)

    def _sample_backend(self, state: BackendState) -> None:
        if state.ready or state.failures:  # else it has not been asked yet
            self._set("ollagraph_backend_up", state.ready, state.name)
        for breaker in BreakerState:
            self._set("ollagraph_backend_breaker", state.breaker is breaker, state.name, breaker.value)
        self._set("ollagraph_backend_failures", state.failures, state.name)
        if state.latency_ms is not None:
            self._set("ollagraph_backend_latency_seconds", state.latency_ms / 1000, state.name)

    def _set(self, name: str, value: float, *labels: str) -> None:
        gauge = self._metrics.gauges[name]
        (gauge.labels(*labels) if labels else gauge).set(value)
