"""The server process: uvicorn, and the few lines that tell a newcomer where to go."""

import gc
import resource
import shlex
import shutil
import signal
import socket
import sys
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType

import anyio
import click
import uvicorn
from anyio.lowlevel import checkpoint
from uvicorn.server import HANDLED_SIGNALS

from server.app import Application, create_app
from server.generation_service import GenerationService
from server.settings import Settings, SettingsError
from server.transports import bounded_websocket_protocol
from server.uvicorn_protocol import bounded_http_protocol

MOST_OPEN_FILES = 65_536

HANG_UP_SECONDS = 5.0
"""How long clients have to take what was sent to them, when nothing runs any more and the gateway stops."""


FORCED_SECONDS = 1.0
"""How long a gateway that must stop at once has to write down that what ran was cut off."""


class _Server(uvicorn.Server):
    """Says where the gateway is once it listens, and lets what runs finish before it hangs up on anybody."""

    def __init__(self, config: uvicorn.Config, app: Application, settings: Settings, url: str) -> None:
        super().__init__(config)
        self._app = app
        self._settings = settings
        self._url = url

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        spare_the_collector()
        await super().startup(sockets)
        click.echo(welcome(self._settings, self._url, self._app.running.new_password))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let what runs finish first, and then hang up; with other gateways at hand, send the clients to them first."""
        service = self._app.running.service
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
        for stream in list(self._app.running.open_streams):
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
        """Give the first signal begins the end; the second does not wait for it."""
        self.force_exit = self.should_exit
        self.should_exit = True


def welcome(settings: Settings, url: str, password: str | None) -> str:
    """Give what a person at the terminal wants to know now. The password is in it at the first start only."""
    lines = ["", f"Ollagraph is ready at {url}"]
    if settings.serves_page:
        lines.append(f"  Page and GraphiQL  {url}/")
    lines.append(f"  GraphQL            {url}/graphql  (HTTP and WebSocket)")
    if password is not None:
        lines += [
            "",
            f"  Sign in as         {settings.admin_username}",
            f"  Password           {password}",
            "  This password is shown once. Keep it. To make more users:",
            f"    {_command()} create-user NAME",
        ]
    else:
        lines.append("  Sign in with the user and password that you have.")
    return "\n".join([*lines, ""])


def _command() -> str:
    """Tell how to type our command in the folder where this process was started."""
    here = Path.cwd()
    python = Path(sys.executable)
    script = python.with_name("ollagraph")
    on_path = shutil.which("ollagraph")
    if on_path is not None and script.exists() and script.samefile(on_path):
        return "ollagraph"
    program = script if script.exists() else python
    typed = shlex.quote(str(program.relative_to(here) if program.is_relative_to(here) else program))
    return typed if program is script else f"{typed} -m server"


def spare_the_collector() -> None:
    """Take all objects that there are out of garbage collection, and turn it on.

    Modules, the schema and the tables live as long as the process: a full collection that looked at them all stopped
    every stream for 0.15 s.
    """
    gc.collect()
    gc.freeze()
    gc.enable()


def serve(settings: Settings) -> None:
    """Listen until told to stop. Raises SettingsError, DatabaseUrlError and DatabaseUnavailable, or a group of one."""
    _allow_open_files()
    with _listening(settings) as listening:
        host, port = listening.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        app = create_app(settings)
        config = server_config(app, settings)
        config.lifespan = "off"
        server = _Server(config, app, settings, f"http://{shown}:{port}")
        anyio.run(_serve, app, server, listening, backend_options={"loop_factory": config.get_loop_factory()})


async def _serve(app: Application, server: _Server, listening: socket.socket) -> None:
    """Run the server within the application's lifespan.

    That is not left to uvicorn, which would log an expected mistake with its traceback.
    """
    with anyio.CancelScope() as scope:
        async with app.router.lifespan_context(app):
            await server.serve([listening])
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
        http=bounded_http_protocol(settings.request_timeout),
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


@contextmanager
def _listening(settings: Settings) -> Generator[socket.socket]:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with ExitStack() as stack:
        try:
            listening = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind((settings.host, settings.port))
        except (OSError, UnicodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is no host"
            raise SettingsError(
                f"Cannot listen on {settings.host}:{settings.port} ({reason}). "
                "Set OLLAGRAPH_HOST or OLLAGRAPH_PORT to another."
            ) from error
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux: the kernel drops a peer that takes nothing for so long
            listening.setsockopt(
                socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, min(round(settings.send_timeout * 2000), 2**31 - 1)
            )
        listening.listen(2048)
        yield listening
