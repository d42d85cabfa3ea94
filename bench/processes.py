"""Starts what is measured, each in a process of its own on 127.0.0.1, and ends it."""

import os
import resource
import secrets
import subprocess
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from tests.support.ports import free_port

ROOT = Path(__file__).parent.parent
START_SECONDS = 120
STOP_SECONDS = 20

MOST_STREAMS = 6000
"""More than the bench ever opens: the gateway's line shall not be what is measured."""


@dataclass(frozen=True)
class Process:
    """Something that runs and listens."""

    url: str
    pid: int
    started_in: float
    """Seconds from the start of the process to its first answer."""


@dataclass(frozen=True)
class Gateway(Process):
    """The gateway, with an API key of its administrator."""

    key: str


class NotStarted(Exception):
    """A process ended, or did not answer in time. The message holds the end of what it said."""


@contextmanager
def running(command: Sequence[str], folder: Path, port: int, path: str, **others: str) -> Generator[Process]:
    """Run a command until it answers `path` with 200, and end it after the block. Raises NotStarted."""
    log = folder / f"{port}.log"
    begun = time.perf_counter()
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=folder, env=_environment(others), stdout=output, stderr=output)
    try:
        while not _answers(port, path):
            if process.poll() is not None or time.perf_counter() - begun > START_SECONDS:
                raise NotStarted(log.read_text(errors="replace")[-2000:])
            time.sleep(0.005)
        yield Process(f"http://127.0.0.1:{port}", process.pid, time.perf_counter() - begun)
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _environment(others: dict[str, str]) -> dict[str, str]:
    """This process's own, without settings of a gateway and without proxies, which have no business on loopback."""
    dropped = ("OLLAGRAPH_", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith(dropped)}
    return {**kept, "PYTHONPATH": str(ROOT), **others}


def _answers(port: int, path: str) -> bool:
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def allow_open_files() -> None:
    """Open as many files as the system lets this process, and those that it starts."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@contextmanager
def fake_model_server(folder: Path) -> Generator[str]:
    """The fake model server's URL. It prints one by itself, since it takes a free port."""
    command = [sys.executable, "-m", "bench.fake"]
    with subprocess.Popen(command, cwd=folder, env=_environment({}), stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def module(name: str, folder: Path, path: str, *arguments: str) -> AbstractContextManager[Process]:
    """One of the bench's own apps."""
    port = free_port()
    return running([sys.executable, "-m", name, str(port), *arguments], folder, port, path)


@contextmanager
def gateway(folder: Path, model_server: str, **others: str) -> Generator[Gateway]:
    """`python -m server serve` on SQLite in `folder`, without the embedded model and with room for all the streams.

    `others` are further settings, and variables of OpenTelemetry.
    """
    port = free_port()
    settings = {
        "DATA_DIR": str(folder / "data"),
        "PORT": str(port),
        "EMBEDDED": "false",
        "OLLAMA_URL": model_server,
        "ADMIN_PASSWORD": secrets.token_urlsafe(),
        "OLLAMA_PARALLEL": str(MOST_STREAMS),
        "MAX_RUNNING_PER_USER": str(MOST_STREAMS),
        "MAX_SOCKETS_PER_USER": str(MOST_STREAMS),
        "MAX_OPERATIONS_PER_SOCKET": str(MOST_STREAMS),
        "LOG_LEVEL": "warning",
        "DRAIN_TIME": "0",
        **others,
    }
    variables = {name if name.startswith("OTEL_") else f"OLLAGRAPH_{name}": value for name, value in settings.items()}
    command = [sys.executable, "-m", "server"]
    with running([*command, "serve"], folder, port, "/healthz", **variables) as process:
        key = subprocess.run(
            [*command, "create-key", "admin"],
            cwd=folder, env=_environment(variables), check=True, capture_output=True, text=True, timeout=START_SECONDS,
        ).stdout.strip()  # fmt: skip
        yield Gateway(process.url, process.pid, process.started_in, key)
