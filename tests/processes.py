"""The gateway as its users run it: `python -m server` in a process of its own, with an environment of its own."""

import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import httpx
from anyio.abc import Process
from anyio.streams.text import TextReceiveStream

ROOT = Path(__file__).parent.parent
COMMAND = [sys.executable, "-W", "error", "-m", "server"]

START_SECONDS = 60
"""Until a gateway must be up and until one must have ended: far more than either takes."""


def environment(data_dir: Path, **settings: str) -> dict[str, str]:
    """What a process gets to see: these settings, and nothing of the machine's own."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("OLLAGRAPH_")}
    values = {"DATA_DIR": str(data_dir), "EMBEDDED": "false", "PORT": "0", **settings}
    return inherited | {"PYTHONPATH": str(ROOT)} | {f"OLLAGRAPH_{name}": value for name, value in values.items()}


def run_command(data_dir: Path, *arguments: str, **settings: str) -> "subprocess.CompletedProcess[str]":
    """Run a command to its end, in a folder where no file .env is."""
    data_dir.parent.mkdir(exist_ok=True)
    return subprocess.run(
        [*COMMAND, *arguments],
        cwd=data_dir.parent,
        env=environment(data_dir, **settings),
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
    )


@dataclass
class Served:
    """A gateway in a process. `greeting` is what it said when it listened."""

    process: Process
    log: Path
    greeting: str = ""

    @property
    def url(self) -> str:
        """The address that the gateway printed."""
        return self._said("Ollagraph is ready at")

    @property
    def password(self) -> str | None:
        """The password that it printed, if it did."""
        return self._said("Password") if "Password " in self.greeting else None

    @property
    def errors(self) -> str:
        """What it wrote to standard error so far."""
        return self.log.read_text()

    async def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and give the exit status."""
        self.process.send_signal(number)
        with anyio.fail_after(START_SECONDS):
            return await self.process.wait()

    async def run(self, query: str, token: str | None = None, **variables: Any) -> Any:
        """Send a query or mutation and give its data."""
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        async with httpx.AsyncClient(base_url=self.url, timeout=30) as client:
            body = {"query": query, "variables": variables}
            response = (await client.post("/graphql", json=body, headers=headers)).json()
        assert "errors" not in response, response
        return response["data"]

    async def sign_in(self, password: str, username: str = "admin") -> str | None:
        """Sign in and give the token; None when that is refused."""
        data = await self.run(
            "mutation($input: LoginInput!) { login(input: $input) { ... on LoginSuccess { accessToken } } }",
            input={"username": username, "password": password},
        )
        return data["login"].get("accessToken")

    def _said(self, label: str) -> str:
        (line,) = [line for line in self.greeting.splitlines() if line.strip().startswith(label)]
        return line.strip().removeprefix(label).strip()


@asynccontextmanager
async def serving(data_dir: Path, **settings: str) -> AsyncGenerator[Served]:
    """Start a gateway, and wait until it listens; it is killed after the block if it still runs."""
    folder = anyio.Path(data_dir.parent)
    await folder.mkdir(exist_ok=True)
    log = data_dir.parent / f"{data_dir.name}.log"
    with log.open("a") as errors:
        process = await anyio.open_process(
            [*COMMAND, "serve"], cwd=folder, env=environment(data_dir, **settings), stderr=errors
        )
    async with process:
        try:
            served = Served(process, log)
            assert process.stdout is not None
            with anyio.fail_after(START_SECONDS):
                async for text in TextReceiveStream(process.stdout):
                    served.greeting += text
                    if "Ollagraph is ready" in text:  # the greeting is one write
                        break
            assert served.greeting, served.errors
            yield served
        finally:
            if process.returncode is None:
                process.kill()
