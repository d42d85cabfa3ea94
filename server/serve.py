"""The server process: uvicorn, and the few lines that tell a newcomer where to go."""

import socket

import click
import uvicorn
from fastapi import FastAPI

from server.app import create_app
from server.settings import Settings, SettingsError


class _Server(uvicorn.Server):
    """Says where the gateway is, once it listens."""

    def __init__(self, config: uvicorn.Config, app: FastAPI, settings: Settings, url: str) -> None:
        super().__init__(config)
        self._app = app
        self._settings = settings
        self._url = url

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            click.echo(welcome(self._settings, self._url, self._app.state.new_password))


def welcome(settings: Settings, url: str, password: str | None) -> str:
    """What a person at the terminal wants to know now. The password is in it at the first start only."""
    lines = ["", f"Ollagraph is ready at {url}"]
    if settings.page:
        lines.append(f"  Page and GraphiQL  {url}/")
    lines.append(f"  GraphQL            {url}/graphql  (HTTP and WebSocket)")
    if password is not None:
        lines += [
            "",
            f"  Sign in as         {settings.admin_username}",
            f"  Password           {password}",
            "  This password is shown once. Keep it; `ollagraph create-user` makes more users.",
        ]
    else:
        lines.append("  Sign in with the user and password that you have.")
    return "\n".join([*lines, ""])


def serve(settings: Settings) -> None:
    """Listen until told to stop. Raises SettingsError when the address cannot be listened on."""
    listening = _listen(settings)
    host, port = listening.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    app = create_app(settings)
    config = server_config(app, settings)
    server = _Server(config, app, settings, f"http://{shown}:{port}")
    server.run(sockets=[listening])
    if not server.started:
        raise SettingsError("The gateway could not start; the log above says why.")


def server_config(app: FastAPI, settings: Settings) -> uvicorn.Config:
    """How uvicorn serves the application. Frames of one token each cost more to compress than that saves."""
    return uvicorn.Config(
        app,
        access_log=False,
        log_config=None,
        ws="websockets-sansio",
        ws_max_size=settings.max_body_size,
        ws_per_message_deflate=False,
        timeout_graceful_shutdown=round(settings.drain_time) + 5,
        server_header=False,
    )


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((settings.host, settings.port))
    except OSError as error:
        raise SettingsError(
            f"Cannot listen on {settings.host}:{settings.port} ({error.strerror}). "
            "Set OLLAGRAPH_HOST or OLLAGRAPH_PORT to another."
        ) from error
    listening.listen(2048)
    return listening
