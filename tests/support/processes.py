"""The gateway as its users run it: `python -m server` in a process of its own, with an environment of its own."""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from resource import RLIM_INFINITY, RLIMIT_FSIZE, getrlimit, setrlimit
from typing import Any

import anyio
import httpx
from anyio import to_thread

from tests.support.databases import sqlite_template
from tests.support.polling import pause
from tests.support.preloaded import PreloadedProcess
from tests.support.shared.told_secrets import found_in

ROOT = Path(__file__).parents[2]

CUT_OFF = (httpx.TransportError, AttributeError)
"""What httpx raises for a server that is killed: where that is while the connection is made, anyio asks no socket."""

WORKER = "ollagraph-"
"""How the names of workers' processes begin."""

START_SECONDS = 120
"""Until a gateway must be up and until one must have ended: far more than either takes."""


def environment(data_dir: Path, **settings: str) -> dict[str, str]:
    """What a process gets to see: these settings, and nothing of the machine's own."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("OLLAGRAPH_")}
    is_production = settings.get("ENVIRONMENT", "").lower() == "production"  # which refuses hashes that cost nothing
    cheap = {} if is_production else {"ARGON2_TIME_COST": "1", "ARGON2_MEMORY_KIB": "8", "ARGON2_PARALLELISM": "1"}
    values = {
        **cheap,
        "DATA_DIR": str(data_dir),
        "EMBEDDED": "false",
        "EMBEDDED_THREADS": "1",
        "LOG_FORMAT": "console",
        "OLLAMA_PARALLEL": "64",
        "PORT": "0",
        **settings,
    }
    return inherited | {"PYTHONPATH": str(ROOT)} | {f"OLLAGRAPH_{name}": value for name, value in values.items()}


def copy_database(data_dir: Path) -> None:
    """Make a data folder with the migrated and empty database, unless one that began at the same time was quicker.

    Migrating takes most of a first start.
    """
    made = Path(tempfile.mkdtemp(dir=data_dir.parent))
    shutil.copyfile(sqlite_template(), made / "ollagraph.db")
    try:
        made.rename(data_dir)
    except OSError:
        shutil.rmtree(made)
        if not data_dir.is_dir():
            raise


def run_command(
    data_dir: Path,
    *arguments: str,
    largest_file: int | None = None,
    obeys_permissions: bool = False,
    **settings: str,
) -> "subprocess.CompletedProcess[str]":
    """Run a command to its end, in the folder above the data folder, where no file .env is.

    A new data folder holds a migrated database, unless the command migrates it, or may write no such file.
    """
    data_dir.parent.mkdir(exist_ok=True)
    if largest_file is None and arguments[0] not in {"--help", "migrate"}:
        _spare_migrating(data_dir, settings)
    with (
        tempfile.NamedTemporaryFile() as errors,
        PreloadedProcess(
            arguments,
            data_dir.parent,
            environment(data_dir, **settings),
            Path(errors.name),
            largest_file=largest_file,
            obeys_permissions=obeys_permissions,
        ) as process,
        open(process.output, closefd=False, encoding="utf-8") as output,
    ):
        printed = output.read()
        status = process.join(START_SECONDS)
        return subprocess.CompletedProcess(arguments, status, printed, errors.read().decode())


@dataclass
class Served:
    """A gateway in a process. `greeting` is what it said when it listened."""

    process: PreloadedProcess
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

    async def says(self, text: str, times: int = 1) -> None:
        """Return when standard error holds a text so often."""
        with anyio.move_on_after(START_SECONDS / 4):
            while self.errors.count(text) < times:
                await pause()
        assert self.errors.count(text) >= times, self.errors

    async def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and give the exit status."""
        self.process.send_signal(number)
        with anyio.fail_after(START_SECONDS):
            return await self.process.wait()

    async def run(self, query: str, token: str | None = None, **variables: Any) -> Any:
        """Send a query or mutation and give its data."""
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        async with httpx.AsyncClient(base_url=self.url, timeout=30, verify=False) as client:
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
async def serving(data_dir: Path, *, migrates: bool = False, **settings: str) -> AsyncGenerator[Served]:
    """Start a gateway, and wait until it listens; it is killed after the block if it still runs.

    A new data folder holds a migrated database, unless the gateway itself `migrates`.
    """
    folder = anyio.Path(data_dir.parent)
    await folder.mkdir(exist_ok=True)
    if not migrates:
        _spare_migrating(data_dir, settings)
    log = data_dir.parent / f"{data_dir.name}.log"
    arguments = (["serve"], data_dir.parent, environment(data_dir, **settings), log)
    with await to_thread.run_sync(PreloadedProcess, *arguments) as process:
        served = Served(process, log)
        with anyio.fail_after(START_SECONDS):
            while "Ollagraph is ready" not in served.greeting:  # the greeting is one write
                text = await process.read()
                assert text, served.errors
                served.greeting += text
        yield served
    assert found_in(served.errors) == [], "the log tells what it must not"


def _spare_migrating(data_dir: Path, settings: Mapping[str, str]) -> None:
    if not data_dir.exists() and settings.keys().isdisjoint({"DATABASE_URL", "DATA_DIR"}):
        copy_database(data_dir)


def descendants(pid: int, name: str = "") -> list[int]:
    """The processes below one that have not ended, whose own name, as `top` shows it, begins with `name`.

    Linux's own list of children may lack some while one of its threads or of them ends.
    """
    found: dict[int, tuple[str, int]] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):  # it may end meanwhile
            head, _, rest = status.read_text().rpartition(")")
            state, parent = rest.split()[:2]
            if state != "Z":
                found[int(status.parent.name)] = head.partition("(")[2], int(parent)
    below = {pid}
    while more := {child for child, (_, parent) in found.items() if parent in below} - below:
        below |= more
    return sorted(child for child in below - {pid} if found[child][0].startswith(name))


def is_running(pid: int) -> bool:
    """Tell whether there is such a process that has not ended; a dead one may wait for its parent's look."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@contextmanager
def no_larger_files(size: int) -> Iterator[None]:
    """Let no file of this process become larger than so many bytes within the block: what a full disk does."""
    soft, hard = getrlimit(RLIMIT_FSIZE)
    setrlimit(RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        setrlimit(RLIMIT_FSIZE, (soft if soft != RLIM_INFINITY else hard, hard))
