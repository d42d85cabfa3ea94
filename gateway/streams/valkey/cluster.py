"""A Valkey Cluster: which server has which hash slot, and what becomes of a server that does not answer.

The library's own cluster client would wait for all servers as one, and repeat what failed. Here each server is asked
by a client of its own, so that one that is gone holds up no stream but its own:

- What is sent goes to all servers at once, and comes back with a NodeUnavailable in the place of each reply that one
  server did not give. Once a server has not answered, it is not asked again before it has taken a probe; so a server
  that hangs costs the others one time-out, and not one in each round.
- MOVED and ASK are followed at once, and the map of the slots is read anew with the next probe; so it is while any
  server is away, for another one may have been given its slots.
- A server that comes back, or takes the slots of another, may lack what that one had: `probe` says so, and the streams
  are compared with what is in memory.
"""

import random
import time
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

import anyio
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import AskError, ClusterDownError, MovedError, RedisError, TryAgainError

from gateway.streams.valkey.failures import NodeUnavailable, ValkeyUnavailable, unavailable
from gateway.streams.valkey.node import TIMEOUT_SECONDS, Call, Node

ATTEMPTS = 4
"""How often a call is sent at most: a slot that moves may redirect it, and redirect it again."""

TRY_AGAIN_SECONDS = 0.02
"""How long a call waits whose keys are just being moved to another server."""

ROUNDS_UNTIL_READ = 60
"""After how many probes the map of the slots is read anew although all servers answer."""


@dataclass(frozen=True, slots=True)
class Away:
    """A server that does not answer, or answers and takes nothing."""

    since: float
    answers: bool
    error: Exception


class Cluster:
    """All servers of a cluster. `urls` name some of them, alike but for host and port."""

    def __init__(self, urls: Sequence[str], template: str) -> None:
        self._template = template
        self._nodes: dict[str, Node] = {}
        self._seeds = [Node(url) for url in urls]
        self._owners: list[Node | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        self._away: dict[Node, Away] = {}
        self._known = False
        self._stale = True
        self._renewed = False
        self._rounds = 0
        self._probe_slots: list[int] = []
        self._reading = anyio.Lock()

    async def aclose(self) -> None:
        """Close the connections to all servers."""
        for node in [*self._seeds, *self._nodes.values()]:
            await node.aclose()

    async def send(self, calls: Sequence[Call]) -> list[Any]:
        """Run scripts, all at once, each at the server that has its keys."""
        if not self._known:
            await self._read_slots()
        replies: list[Any] = [None] * len(calls)
        waiting = range(len(calls))
        for _ in range(ATTEMPTS):
            await self._send_each(calls, waiting, replies)
            waiting = [index for index in waiting if isinstance(replies[index], MovedError | AskError | TryAgainError)]
            if not waiting:
                break
            self._stale = True
            if any(isinstance(replies[index], TryAgainError) for index in waiting):
                await anyio.sleep(TRY_AGAIN_SECONDS)
        for index in waiting:
            replies[index] = NodeUnavailable("Valkey takes no writes: its slots are being moved.")
        return replies

    async def probe(self, probe: Call, others: Sequence[Call]) -> bool:
        """Run one of the probes at each server; those that take it are there."""
        self._rounds += 1
        if self._stale or not self.is_whole or self._rounds % ROUNDS_UNTIL_READ == 0:
            await self._read_slots()
        if not self._probe_slots:
            self._probe_slots = [_slot(other) for other in others]
        chosen: dict[Node, Call] = {}
        for slot, call in chain([(_slot(probe), probe)], zip(self._probe_slots, others, strict=True)):
            node = self._owners[slot]
            if node is not None:
                chosen.setdefault(node, call)
        async with anyio.create_task_group() as tasks:
            for node, call in chosen.items():
                tasks.start_soon(self._probe, node, call)
        taking = [node for node in chosen if node not in self._away]
        if not taking:
            raise unavailable(next((away.error for away in self._away.values()), ClusterDownError("")))
        renewed, self._renewed = self._renewed, False
        return renewed

    async def publish(self, channel: str, message: bytes) -> None:
        """Say something to all servers by one of them."""
        error: Exception | None = None
        for node in self._by_preference(channel):
            try:
                await node.publish(channel, message)
                return
            except (RedisError, OSError, TimeoutError) as failure:
                error = failure
                self._fails(node, failure)
        raise unavailable(error) if error is not None else ValkeyUnavailable("Valkey does not answer.")

    async def listening(self, channels: Sequence[str]) -> list[bool]:
        """Ask all servers: each knows only of those who are connected to it."""
        found = [False] * len(channels)

        async def ask(node: Node) -> None:
            try:
                for index, listens in enumerate(await node.listening(channels)):
                    found[index] |= listens
            except (RedisError, OSError, TimeoutError) as error:
                self._fails(node, error)

        async with anyio.create_task_group() as tasks:
            for node in self._answering():
                tasks.start_soon(ask, node)
        return found

    def messages(self, channels: Sequence[str]) -> AsyncGenerator[bytes | None, None]:
        """Listen at one server, to which the others pass on what is said, for as long as it belongs to the cluster."""
        node = next(self._by_preference(channels[0]), None)
        if node is None:
            raise ValkeyUnavailable("Valkey does not answer.")
        return node.messages(channels, lambda: node in self._away or node.closed)

    def away_for(self, key: str) -> float:
        """For how many seconds the server with this key has taken nothing; 0 while it does."""
        node = self._owners[key_slot(key.encode())]
        away = self._away.get(node) if node is not None else None
        return 0.0 if away is None else time.monotonic() - away.since

    @property
    def is_whole(self) -> bool:
        """Whether each hash slot has a server that takes what is written, as far as that is known."""
        return not self._away and None not in self._owners

    async def _send_each(self, calls: Sequence[Call], indices: Iterable[int], replies: list[Any]) -> None:
        """Send some of the calls, each where its last reply or the map sends it, and put the new replies in place."""
        parts: dict[tuple[Node, bool], list[int]] = {}
        for index in indices:
            node = self._redirected(calls[index], replies[index])
            if node is None:
                replies[index] = NodeUnavailable("Valkey takes no writes: no server has its hash slot.")
                continue
            parts.setdefault((node, isinstance(replies[index], AskError)), []).append(index)
        if len(parts) == 1:  # as nearly always where few streams are written: no task for that
            (((node, asking), own),) = parts.items()
            await self._send_to(node, calls, own, replies, asking=asking)
            return
        async with anyio.create_task_group() as tasks:
            for (node, asking), own in parts.items():
                tasks.start_soon(partial(self._send_to, node, calls, own, replies, asking=asking))

    def _redirected(self, call: Call, reply: Any) -> Node | None:
        """Give the server that has the keys of a call, by what the last one said."""
        if isinstance(reply, MovedError):
            self._owners[reply.slot_id] = node = self._at(reply)
            self._renewed = True
            return node
        if isinstance(reply, AskError):
            return self._at(reply)
        return self._owners[_slot(call)]

    async def _send_to(
        self, node: Node, calls: Sequence[Call], indices: Sequence[int], replies: list[Any], *, asking: bool
    ) -> None:
        away = self._away.get(node)
        if away is None or away.answers:
            own = [calls[index] for index in indices]
            try:
                found = await (node.send_asking(own) if asking else node.send(own))
            except (RedisError, OSError, TimeoutError) as error:
                away = self._fails(node, error)
            else:
                for index, reply in zip(indices, found, strict=True):
                    refused = away is not None and isinstance(reply, Exception)
                    redirected = isinstance(reply, MovedError | AskError | TryAgainError)
                    replies[index] = unavailable(reply, NodeUnavailable) if refused and not redirected else reply
                return
        for index in indices:
            replies[index] = unavailable(away.error, NodeUnavailable)

    async def _probe(self, node: Node, probe: Call) -> None:
        try:
            (reply,) = await node.send([probe])
        except (RedisError, OSError, TimeoutError) as error:
            self._fails(node, error)
            return
        if isinstance(reply, MovedError):
            self._stale = True
        elif isinstance(reply, Exception):
            self._fails(node, reply, answers=True)
        elif self._away.pop(node, None) is not None:
            self._renewed = True

    def _fails(self, node: Node, error: Exception, *, answers: bool = False) -> Away:
        since = self._away[node].since if node in self._away else time.monotonic()
        away = Away(since, answers, error)
        if not node.closed:
            self._away[node] = away
        return away

    async def _read_slots(self) -> None:
        """Ask one server after another who has which slots, those last that did not answer."""
        async with self._reading:
            error: Exception | None = None
            with anyio.move_on_after(2 * TIMEOUT_SECONDS):
                for node in [*self._answering(), *self._seeds, *self._away]:
                    try:
                        slots = await node.slots()
                    except (RedisError, OSError, TimeoutError) as failure:
                        error = failure
                        continue
                    if not slots:  # one that has not joined yet, or has forgotten that it had, knows of none
                        error = ClusterDownError("")
                        continue
                    await self._learn(slots, node.host)
                    return
            raise unavailable(error or TimeoutError())

    async def _learn(self, slots: Sequence[Any], asked: str) -> None:
        """Take over what a server said; one that knows no name of a server means the host at which it was asked."""
        owners: list[Node | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        for first, last, primary, *_ in slots:
            host, port = (primary[0] or b"").decode(), int(primary[1])
            node = self._node(asked if host in {"", "?"} else host, port)
            owners[first : last + 1] = [node] * (last + 1 - first)
        if self._known and owners != self._owners:
            self._renewed = True
        self._owners, self._known, self._stale = owners, True, False
        in_use = set(owners)
        for name, node in list(self._nodes.items()):
            if node not in in_use:
                del self._nodes[name]
                self._away.pop(node, None)
                await node.aclose()

    def _at(self, redirection: Any) -> Node:
        """Give the server that a MOVED or ASK names."""
        return self._node(redirection.host, redirection.port)

    def _node(self, host: str, port: int) -> Node:
        name = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        if name not in self._nodes:
            self._nodes[name] = Node(self._template.replace("{}", name, 1))
        return self._nodes[name]

    def _answering(self) -> list[Node]:
        nodes = [node for node in self._nodes.values() if node not in self._away or self._away[node].answers]
        return random.sample(nodes, len(nodes))

    def _by_preference(self, channel: str) -> Iterator[Node]:
        """Give the servers that answer; first the one to which the channel's name points, as it spreads listeners."""
        first = self._owners[key_slot(channel.encode())]
        answering = self._answering()
        if first in answering:
            yield first
        yield from (node for node in answering if node is not first)


def _slot(call: Call) -> int:
    return key_slot(call.keys[0].encode())
