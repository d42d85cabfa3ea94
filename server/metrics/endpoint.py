"""Where metrics are read: at `/metrics` behind a token, or at an address of their own."""

import hmac
import socket
from collections.abc import Awaitable, Callable, Iterable
from http import HTTPStatus
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from server.settings import PREFIX, SettingsError

CONTENT_TYPE = "text/plain; version=1.0.0; charset=utf-8"

PATH = "/metrics"

Read = Callable[[], bytes]


def metrics_endpoint(token: str, read: Callable[[], Awaitable[bytes]]) -> Callable[[Request], Awaitable[Response]]:
    """Make the endpoint on the gateway's own port, for who sends the token as `Authorization: Bearer`."""
    wanted = f"Bearer {token}".encode()

    async def metrics(request: Request) -> Response:
        given = request.headers.get("authorization", "").encode("latin-1")
        if not hmac.compare_digest(given, wanted):
            message = "Send the token of OLLAGRAPH_METRICS_TOKEN as Authorization: Bearer.\n"
            return PlainTextResponse(message, HTTPStatus.UNAUTHORIZED, {"WWW-Authenticate": "Bearer"})
        return Response(await read(), headers={"Content-Type": CONTENT_TYPE, "Cache-Control": "no-store"})

    return metrics


class MetricsServer(ThreadingMixIn, WSGIServer):
    """Serves metrics from threads of its own, so that they can be read while the event loop hangs."""

    daemon_threads = True

    def __init__(self, host: str, port: int, *, shared: bool, read: Read) -> None:
        """Listen. With `shared`, other processes listen there, too. Raises SettingsError."""
        self.allow_reuse_port = shared
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            self.address_family = found[0][0]
            super().__init__((host, port), _Handler)
        except OSError as error:
            raise SettingsError(
                f"{PREFIX}METRICS_PORT: the gateway cannot listen on {host} port {port} ({error.strerror or error}). "
                "Set another one, or stop what listens there."
            ) from error
        self._read = read
        self.set_app(self._answer)

    @property
    def url(self) -> str:
        """Where the metrics are."""
        host = f"[{self.server_name}]" if ":" in self.server_name else self.server_name
        return f"http://{host}:{self.server_port}{PATH}"

    def serve(self) -> None:
        """Answer until it is shut down."""
        self.serve_forever(poll_interval=0.1)

    def _answer(self, environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
        if environ.get("PATH_INFO") != PATH:
            start_response("404 Not Found", [("Content-Type", "text/plain")])
            return [b"Metrics are at /metrics.\n"]
        start_response("200 OK", [("Content-Type", CONTENT_TYPE)])
        return [self._read()]

    def server_bind(self) -> None:
        """Bind without looking up this machine's name, which may take long."""
        if self.allow_reuse_port:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)  # pyright: ignore[reportArgumentType]
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()


class _Handler(WSGIRequestHandler):
    timeout = 10.0  # seconds; nobody holds a thread for longer without asking

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: a scrape every few seconds is no news."""
