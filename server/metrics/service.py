"""Metrics at work: made if the settings ask for them, sampled, and served."""

import asyncio
import concurrent.futures
import logging
from functools import partial

import anyio
from anyio import to_thread
from starlette.routing import Route

from gateway.tasks import spawn_service
from server.metrics.endpoint import PATH, MetricsServer, metrics_endpoint
from server.metrics.instruments import Metrics
from server.metrics.sampler import Parts, Sampler
from server.settings import Settings

logger = logging.getLogger(__name__)

SAMPLED_WITHIN = 1.0
"""Seconds that a scrape waits for an event loop to sample; then it gives what was sampled last."""


def make_metrics(settings: Settings, *, shared: bool) -> Metrics | None:
    """Make the instruments, `shared` by several processes; None where nobody could read them."""
    return Metrics(shared=shared) if settings.tells_metrics else None


class MetricsService:
    """Samples and serves. Made in the event loop; raises SettingsError where the port of its own cannot be had."""

    def __init__(self, settings: Settings, metrics: Metrics, parts: Parts) -> None:
        self.routes: list[Route] = []
        """What is served on the gateway's own port."""
        self._metrics = metrics
        self._sampler = Sampler(metrics, parts)
        self._server: MetricsServer | None = None
        if settings.metrics_token is not None:
            self.routes = [Route(PATH, metrics_endpoint(settings.metrics_token.get_secret_value(), self._sampled))]
        if settings.metrics_port is not None:
            read = partial(self._read_in_thread, asyncio.get_running_loop())
            self._server = MetricsServer(settings.metrics_host, settings.metrics_port, shared=metrics.shared, read=read)

    async def run(self) -> None:
        """Sample and serve until cancelled."""
        async with anyio.create_task_group() as tasks:
            spawn_service(tasks, "sampling metrics", self._sampler.run)
            spawn_service(tasks, "asking backends", self._sampler.ask_backends)
            if self._server is not None:
                logger.info("metrics are served at %s", self._server.url)
                tasks.start_soon(_serve, self._server)

    async def _sampled(self) -> bytes:
        self._sampler.sample()
        return await to_thread.run_sync(self._metrics.text)

    def _read_in_thread(self, loop: asyncio.AbstractEventLoop) -> bytes:
        """Sample in the event loop, if it runs, and give the text. Called in a thread."""
        sampled: concurrent.futures.Future[None] = concurrent.futures.Future()

        def sample() -> None:
            self._sampler.sample()
            sampled.set_result(None)

        loop.call_soon_threadsafe(sample)
        concurrent.futures.wait([sampled], SAMPLED_WITHIN)
        return self._metrics.text()


async def _serve(server: MetricsServer) -> None:
    """Serve until cancelled."""
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(partial(to_thread.run_sync, server.serve, abandon_on_cancel=True))
            await anyio.sleep_forever()
    finally:
        with anyio.CancelScope(shield=True):
            await to_thread.run_sync(server.shutdown)
        server.server_close()
