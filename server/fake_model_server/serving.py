"""The fake model server at work: within a program, and as a command of its own."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import click
import uvicorn
from uvicorn.server import ServerState

from server.fake_model_server.faults import Faults
from server.fake_model_server.scripts import KINDS, Prompt, script_for
from server.fake_model_server.server import FakeModelServer

ECHO = "fake:echo"


async def serve_fake_models(port: int, models: list[tuple[str, str]], faults: Faults) -> None:
    """Serve until cancelled. Of `models`, each is listed under its name and behaves as the other one."""
    try:
        async with running_fake_model_server(port) as fake:
            fake.faults = faults
            fake.behaviours = dict(models)
            fake.models = [name for name, _ in models] or fake.models
            click.echo(f"Fake models are served at {fake.url}: {', '.join(fake.models)}")
            click.echo(f"Use it with OLLAGRAPH_OLLAMA_URL={fake.url} or OLLAGRAPH_OPENAI_URL={fake.url}")
            await anyio.sleep_forever()
    except OSError as error:
        raise click.ClickException(
            f"127.0.0.1:{port} cannot be used ({error.strerror}). Give another --port."
        ) from error


def read_models(texts: tuple[str, ...]) -> list[tuple[str, str]]:
    """Read NAME or NAME=MODEL, several with commas between. A name alone, if it is in no table, echoes.

    Raises ValueError for a MODEL that there is not.
    """
    pairs: list[tuple[str, str]] = []
    for text in ",".join(texts).split(","):
        name, _, behaviour = text.strip().partition("=")
        if name:
            pairs.append((name, behaviour or (name if name.startswith("fake:") else ECHO)))
    for _, behaviour in pairs:
        if script_for(behaviour, Prompt("", 0, (), None)) is None:
            there_are = ", ".join(f"fake:{kind}" for kind in KINDS)
            raise ValueError(f"There is no fake model {behaviour!r}. There are: {there_are}.")
    return pairs


@asynccontextmanager
async def running_fake_model_server(port: int = 0) -> AsyncGenerator[FakeModelServer]:
    """Serve on 127.0.0.1, on a free port unless one is given, with uvicorn's own HTTP protocol."""
    fake = FakeModelServer()
    config = uvicorn.Config(fake, http="httptools", ws="none", lifespan="off", log_config=None, access_log=False)
    config.load()
    state = ServerState()

    def protocol() -> asyncio.Protocol:
        make: Any = config.http_protocol_class
        return make(config=config, server_state=state, app_state={})

    server = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", port, backlog=2048)
    fake.url = "http://{}:{}".format(*server.sockets[0].getsockname())
    try:
        yield fake
    finally:
        server.close()
        for connection in list(state.connections):
            connection.transport.abort()
        await asyncio.gather(*state.tasks, return_exceptions=True)
        await server.wait_closed()
