"""The server process: uvicorn, and the few lines that tell a newcomer where to go."""

import gc
import resource
import signal
import socket
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from types import FrameType

import anyio
import click
import uvicorn
from anyio.lowlevel import checkpoint
from uvicorn.server import HANDLED_SIGNALS

from server.app import create_app
from server.application import Application, Running
from server.generation_service import GenerationService
from server.reload import Reloader
from server.settings import Settings
from server.transports import bounded_http_protocol, bounded_websocket_protocol
from server.welcome import welcome
from server.workers import BACKLOG, WorkerLink, bound, on_hang_up, url_of

SWITCH_SECONDS = 0.002
"""How long a thread keeps the interpreter while another one waits for it. The database's thread gives it up at each
statement, and with Python's 5 ms waits longest where the event loop is busy: under 96 paced streams the first token's
99th percentile was 330 ms with that, and 100 to 180 with this. Half a millisecond costs more than it brings."""

MOST_OPEN_FILES = 65_536

HANG_UP_SECONDS = 5.0
"""How long clients have to take what was sent to them, when nothing runs any more and the gateway stops."""


FORCED_SECONDS = 1.0
"""How long a gateway that must stop at once has to write down that what ran was cut off."""


class _Server(uvicorn.Server):
    """Tells when it listens, and lets what runs finish before it hangs up on anybody."""

    def __init__(
        self, config: uvicorn.Config, app: Application, tell: Callable[[Running], None], link: WorkerLink | None
    ) -> None:
        super().__init__(config)
        self.app = app
        self._link = link
        self._tell = tell

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        spare_the_collector()
        sys.setswitchinterval(SWITCH_SECONDS)
        await super().startup(sockets)
        self._tell(self.app.running)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let what runs finish first, and then hang up; with other gateways at hand, send the clients to them first."""
        service = self.app.running.service
        has_peers = service.has_peers  # once: Valkey may come or go while what runs finishes
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._wait_for_force, tasks.cancel_scope)
            if has_peers:
                service.expect_nobody()
                tasks.start_soon(service.stop)
                self._cut_streams()
                tasks.start_soon(self._cut_what_is_left, service)
                await super().shutdown(sockets)
            await service.stop()
            if self._link is not None:
                await self._link.drained()
            tasks.cancel_scope.cancel()
        if not has_peers:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._cut_what_is_left, service)
                await super().shutdown(sockets)
                tasks.cancel_scope.cancel()

    async def _cut_what_is_left(self, service: GenerationService) -> None:
        """Hang up on clients who do not take, or do not send, what they should: else uvicorn would call it an error."""
        await service.stop()
        await anyio.sleep(HANG_UP_SECONDS)
        self._cut_streams()
        for connection in list(self.server_state.connections):
            connection.transport.abort()

    def _cut_streams(self) -> None:
        for stream in list(self.app.running.open_streams):
            stream.cancel()

    async def _wait_for_force(self, drain: anyio.CancelScope) -> None:
        while not self.force_exit:  # noqa: ASYNC110 - uvicorn's flag, which a signal handler sets
            await anyio.sleep(0.1)
        drain.cancel()

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Obey signals. uvicorn raises them again in the end, and to have done as told would count as a failure."""
        before = {number: signal.signal(number, self.handle_exit) for number in HANDLED_SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to end at the first signal, and do not wait for what runs at the second."""
        self.force_exit = self.should_exit
        self.should_exit = True


def spare_the_collector() -> None:
    """Take all objects that there are out of garbage collection, and turn it on.

    Modules, the schema and the tables live as long as the process: a full collection that looked at them all stopped
    every stream for 0.15 s. So did one that looks at the ended streams that are kept, which under load it did each
    second. What answers leave needs none, so it looks seldom: with Python's own thresholds collecting took four times
    as long.
    """
    gc.freeze()
    gc.set_threshold(20_000, 5, 20)
    gc.enable()


def serve(settings: Settings) -> None:
    """Listen until told to stop. Raises SettingsError, DatabaseUrlError and DatabaseUnavailable, or a group of one."""
    with bound(settings) as listening:
        listening.listen(BACKLOG)

        def tell(running: Running) -> None:
            click.echo(welcome(settings, url_of(listening), running.new_password))

        _run(settings, listening, tell)


def serve_as_worker(settings: Settings, listening: socket.socket, link: WorkerLink) -> None:
    """Serve as one of several processes, on a socket that does not listen before all is ready. Raises as `serve`."""

    def tell(running: Running) -> None:
        link.tell_ready(running.service.replica_id, running.new_password)

    _run(settings, listening, tell, link)


def _run(
    settings: Settings, listening: socket.socket, tell: Callable[[Running], None], link: WorkerLink | None = None
) -> None:
    _allow_open_files()
    app = create_app(settings, link)
    config = server_config(app, settings)
    config.lifespan = "off"
    server = _Server(config, app, tell, link)
    anyio.run(_serve, settings, server, listening, link, backend_options={"loop_factory": config.get_loop_factory()})


async def _serve(settings: Settings, server: _Server, listening: socket.socket, link: WorkerLink | None) -> None:
    """Run the server within the application's lifespan.

    That is not left to uvicorn, which would log an expected mistake with its traceback.
    """
    if link is not None:
        link.attach()
    app = server.app
    with anyio.CancelScope() as scope:
        async with app.router.lifespan_context(app):
            async with anyio.create_task_group() as tasks:
                reloader = Reloader.of_gateway(settings, app.running.limits, app.running.service)
                await tasks.start(on_hang_up, reloader.reload, partial(server.handle_exit, signal.SIGTERM, None))
                await server.serve([listening])
                tasks.cancel_scope.cancel()
            if server.force_exit:
                service = app.running.service
                with anyio.move_on_after(FORCED_SECONDS):
                    await service.stop_at_once()
                scope.cancel()
                await checkpoint()


def server_config(app: Application, settings: Settings) -> uvicorn.Config:
    """Configure how uvicorn serves the application. Frames of one token each cost more to compress than that saves."""
    return uvicorn.Config(
        app,
        access_log=False,
        log_config=None,
        proxy_headers=False,  # transports/proxies.py does it; uvicorn would believe every program on this machine
        timeout_keep_alive=settings.keep_alive_timeout,
        http=bounded_http_protocol(settings.request_timeout, settings.max_connections),
        ws=bounded_websocket_protocol(app.body_limits),
        ws_per_message_deflate=False,
        timeout_graceful_shutdown=round(settings.drain_time + 3 * HANG_UP_SECONDS),
        server_header=False,
    )


def _allow_open_files() -> None:
    """Open as many files as the system lets this process: each stream is two, and the usual default is 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY or soft < hard:
        wanted = MOST_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_OPEN_FILES)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
