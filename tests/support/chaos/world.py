"""The processes that chaos works on: gateways, model servers and Valkey, each on a port that it keeps."""

import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import httpx

from tests.support.databases import postgresql_server
from tests.support.processes import environment
from tests.support.valkeys import ValkeyServer, free_port, valkey_server

PASSWORD = "correct horse battery staple"


MODELS = [f"fake:paced-{tokens}-{pace}" for tokens in (50, 100, 150, 180) for pace in (10, 20, 40)]
"""What the streams are made of: so many tokens, so many milliseconds apart."""


@dataclass
class Program:
    """One process that can be killed and started again."""

    command: Sequence[str]
    port: int
    health: str
    log: Path
    env: dict[str, str]
    deaths: int = 0
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def launch(self) -> None:
        """Start it; it takes a moment until it answers."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, env=self.env, cwd=self.log.parent, stdout=log, stderr=log, start_new_session=True
            )

    async def end(self, number: int = signal.SIGKILL) -> None:
        """Send it a signal, and wait until it is gone."""
        assert self.process is not None
        self.deaths += 1
        self.process.send_signal(number)
        await anyio.to_thread.run_sync(self.process.wait)

    async def answers(self) -> None:
        """Return when it does."""
        async with httpx.AsyncClient(base_url=self.url, verify=False) as client:
            while True:
                assert self.process is not None
                if self.process.poll() is not None:
                    raise RuntimeError(f"{self.command} has ended: {self.log.read_text()[-2000:]}")
                try:
                    if (await client.get(self.health)).status_code == 200:
                        return
                except httpx.HTTPError:
                    pass
                await anyio.sleep(0.05)


@dataclass
class World:
    """Everything that can break."""

    gateways: list[Program]
    models: list[Program]
    valkey: ValkeyServer
    database_url: str
    journal: Path
    key: str = ""
    log: list[str] = field(default_factory=list[str])

    def gateway(self, chance: random.Random, but: Program | None = None) -> Program:
        """Any gateway, as a load balancer would pick; not one that was just left."""
        return chance.choice([gateway for gateway in self.gateways if gateway is not but])

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
async def running_world(folder: Path, gateways: int, **settings: str) -> AsyncIterator[World]:
    """Start everything, and kill it after the block."""
    with ExitStack() as stack:
        database_url = stack.enter_context(postgresql_server())
        valkey = stack.enter_context(valkey_server(folder, durable=True))
        journal = folder / "journal"
        journal.touch()
        models = [_model(folder, number, journal) for number in range(2)]
        values = {
            "DATABASE_URL": database_url,
            "REDIS_URL": valkey.url,
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
        world = World(
            [_gateway(folder, number, **values) for number in range(gateways)], models, valkey, database_url, journal
        )
        try:
            await valkey.answers()
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
