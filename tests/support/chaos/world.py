"""The processes that chaos works on: gateways, model servers and Valkey, each on a port that it keeps."""

import os
import random
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import asyncpg
import httpx

from tests.support.chaos.program import Program
from tests.support.chaos.workers import PrivateValkey, Workers
from tests.support.databases import postgresql_server
from tests.support.ports import free_port
from tests.support.processes import environment
from tests.support.valkeys import ValkeyServer, valkey_server

PASSWORD = "correct horse battery staple"

RELOAD = "SELECT pg_reload_conf()"


MODELS = [f"fake:paced-{tokens}-{pace}" for tokens in (50, 100, 150, 180) for pace in (10, 20, 40)]
"""What the streams are made of: so many tokens, so many milliseconds apart."""


@dataclass
class World:
    """Everything that can break."""

    gateways: list[Program]
    models: list[Program]
    valkey: ValkeyServer | PrivateValkey
    database_url: str
    journal: Path
    key: str = ""
    starts: anyio.Lock = field(default_factory=anyio.Lock)
    """Held while a gateway starts, and while none can: one that cannot write ends with a sentence."""
    valkey_troubles: anyio.Lock = field(default_factory=anyio.Lock)
    """Held by who starts it anew or makes it refuse: one waits for the other."""
    log: list[str] = field(default_factory=list[str])

    def gateway(self, chance: random.Random, but: Program | None = None) -> Program:
        """Any gateway, as a load balancer would pick; not one that was just left."""
        return chance.choice([gateway for gateway in self.gateways if gateway is not but] or self.gateways)

    async def sign_in(self) -> None:
        """An API key for all that follows."""
        async with httpx.AsyncClient(base_url=self.gateways[0].url, timeout=30, verify=False) as client:
            login = 'mutation($p: String!) { login(input: {username: "admin", password: $p}) {' \
                " ... on LoginSuccess { accessToken } } }"  # fmt: skip
            response = await client.post("/graphql", json={"query": login, "variables": {"p": PASSWORD}})
            headers = {"authorization": "Bearer " + response.json()["data"]["login"]["accessToken"]}
            make = 'mutation { createApiKey(input: {name: "chaos"}) { ... on CreateApiKeySuccess { secret } } }'
            response = await client.post("/graphql", json={"query": make}, headers=headers)
            self.key = response.json()["data"]["createApiKey"]["secret"]


def _model(folder: Path, number: int, journal: Path) -> Program:
    port = free_port()
    command = [sys.executable, "-m", "tests.support.fake_model_server", "--port", str(port), "--journal", str(journal)]
    command += [f"--model={model}" for model in MODELS]
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    return Program(command, port, "/api/version", folder / f"model{number}.log", env)


def _gateway(folder: Path, number: int, **settings: str) -> Program:
    port = free_port()
    env = environment(folder / f"gateway{number}", PORT=str(port), **settings)
    return Program([sys.executable, "-m", "server", "serve"], port, "/readyz", folder / f"gateway{number}.log", env)


@asynccontextmanager
async def running_world(folder: Path, gateways: int, workers: int = 0, **settings: str) -> AsyncIterator[World]:
    """Start everything, and kill it after the block: with `workers`, one gateway that has as many."""
    with ExitStack() as stack:
        journal = folder / "journal"
        journal.touch()
        models = [_model(folder, number, journal) for number in range(2)]
        values = {
            "OLLAMA_URL": models[0].url,
            "OPENAI_URL": models[1].url,
            "ADMIN_PASSWORD": PASSWORD,
            "SECRET_KEY": "the gateways of one team sign with one secret",
            "LEASE_TIME": "3",
            "OLLAMA_PARALLEL": "5000",
            "OPENAI_PARALLEL": "5000",
            "MAX_RUNNING_PER_USER": "5000",
            "MAX_SOCKETS_PER_USER": "100000",
            "MAX_OPERATIONS_PER_SOCKET": "1000",
            "MODELS_MAX_AGE": "1",
            **settings,
        }
        if workers:
            world = _world_of_workers(folder, workers, models, journal, values)
        else:
            database_url = stack.enter_context(postgresql_server())
            await _ask(database_url, "ALTER SYSTEM SET synchronous_commit = on", RELOAD)  # what is told is kept
            valkey = stack.enter_context(valkey_server(folder, durable=True))
            await valkey.answers()
            values |= {"DATABASE_URL": database_url, "REDIS_URL": valkey.url}
            programs = [_gateway(folder, number, **values) for number in range(gateways)]
            world = World(programs, models, valkey, database_url, journal)
        try:
            for program in [*models, *world.gateways]:
                program.launch()
                await program.answers()
            await world.sign_in()
            yield world
        finally:
            for program in [*models, *world.gateways]:
                if program.process is not None:
                    program.process.kill()
                    program.process.wait()


def _world_of_workers(folder: Path, count: int, models: list[Program], journal: Path, values: dict[str, str]) -> World:
    one = _gateway(folder, 0, **values, WORKERS=str(count))
    gateway = Workers(one.command, one.port, one.health, one.log, one.env, count=count)
    data_dir = folder / "gateway0"
    return World([gateway], models, PrivateValkey(gateway, data_dir), f"sqlite:///{data_dir / 'ollagraph.db'}", journal)


@asynccontextmanager
async def refusing_database(url: str) -> AsyncIterator[None]:
    """Let it take no writes during the block."""
    if url.startswith("sqlite:"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None, timeout=60)) as database:
            database.execute("BEGIN IMMEDIATE")
            yield
            database.execute("ROLLBACK")
        return
    await _ask(url, "ALTER SYSTEM SET default_transaction_read_only = on", RELOAD)
    try:
        yield
    finally:
        await _ask(url, "ALTER SYSTEM SET default_transaction_read_only = off", RELOAD)


async def crash_database(url: str) -> None:
    """Kill a process of PostgreSQL, which ends them all and recovers. SQLite has none."""
    if not url.startswith("sqlite:"):
        pid = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' ORDER BY random() LIMIT 1"
        with suppress(OSError, asyncpg.PostgresError):  # it recovers from the last time, or this connection was hit
            os.kill(await _ask(url, pid), signal.SIGKILL)


async def _ask(url: str, *statements: str) -> Any:
    """Execute statements, and give the first value of the last one."""
    connection = await asyncpg.connect(url)
    try:
        return [await connection.fetchval(statement) for statement in statements][-1]
    finally:
        connection.terminate()
