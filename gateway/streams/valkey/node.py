"""One Valkey server, and what is asked of one server or of many alike."""

import hashlib
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, cast
from urllib.parse import urlsplit

import anyio

from gateway.streams.valkey.failures import reporting
from gateway.streams.valkey.library import redis

TIMEOUT_SECONDS = 2.0
"""How long Valkey may take to answer; it answers in less than a millisecond."""


class _Closable(Protocol):
    async def aclose(self) -> None: ...


async def closed(client: _Closable) -> None:
    """Close a client of Valkey's, whatever has been cancelled; one that does not answer is given up."""
    with anyio.move_on_after(TIMEOUT_SECONDS, shield=True):
        await client.aclose()


@dataclass(frozen=True)
class Script:
    """A script, by the name under which servers keep it."""

    text: str
    sha: str = field(init=False)

    def __post_init__(self) -> None:
        """Name it as servers do."""
        object.__setattr__(self, "sha", hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest())


@dataclass(frozen=True, slots=True)
class Call:
    """A script to be run, or None to delete the keys. All keys are named, and in one hash slot where there are such."""

    script: Script | None
    keys: Sequence[str]
    arguments: Sequence[Any] = ()

    @property
    def command(self) -> tuple[Any, ...]:
        """What is sent to a server that has the script."""
        if self.script is None:
            return ("DEL", *self.keys)
        return ("EVALSHA", self.script.sha, len(self.keys), *self.keys, *self.arguments)

    @property
    def whole_command(self) -> tuple[Any, ...]:
        """What is sent to any server."""
        if self.script is None:
            return self.command
        return ("EVAL", self.script.text, len(self.keys), *self.keys, *self.arguments)


class Servers(Protocol):
    """One server, or a cluster of them."""

    async def send(self, calls: Sequence[Call]) -> list[Any]:
        """Run scripts, all in one round trip to each server; gives the replies, and exceptions among them.

        Raises the client's errors, or ValkeyUnavailable, where it was of no use to any call.
        """
        ...

    async def probe(self, probe: Call, others: Sequence[Call]) -> bool:
        """Run the probe, and at servers that have not its keys one of the others; True where something may be lost.

        Raises the client's errors, or ValkeyUnavailable, where no server takes one.
        """
        ...

    async def publish(self, channel: str, message: bytes) -> None:
        """Say something on a channel, wherever its listeners are."""
        ...

    async def listening(self, channels: Sequence[str]) -> list[bool]:
        """Tell of each channel whether anybody listens to it."""
        ...

    def messages(self, channels: Sequence[str]) -> AsyncGenerator[bytes | None, None]:
        """Give what is said on channels until the server goes; the first item is None, and says that we listen."""
        ...

    def away_for(self, key: str) -> float:
        """For how many seconds the one server with this key has taken nothing while others did; else 0."""
        ...

    @property
    def is_whole(self) -> bool:
        """Whether no server is away while others are there."""
        ...

    async def aclose(self) -> None:
        """Close the connections."""
        ...


class Node:
    """One server; `url` as in `redis://:password@host:6379/0`."""

    def __init__(self, url: str) -> None:
        self.host = urlsplit(url).hostname or ""
        self._pool = _pool(url, None)  # the time of what is sent over it is bounded here
        self._client = cast("Any", redis.asyncio.Redis.from_pool(_pool(url, TIMEOUT_SECONDS)))  # half has no types
        self.closed = False

    async def aclose(self) -> None:
        """Close the connections, also where the caller has been cancelled: the client would then leave them open."""
        self.closed = True
        await closed(self._client)
        await closed(self._pool)

    async def send(self, calls: Sequence[Call]) -> list[Any]:
        """Run scripts in one round trip; where it was started anew, once more with those that it lacks."""
        replies = await self._execute([call.command for call in calls])
        lacking = [index for index, reply in enumerate(replies) if isinstance(reply, redis.exceptions.NoScriptError)]
        if lacking:
            for text in {script.text for index in lacking if (script := calls[index].script) is not None}:
                await self._client.script_load(text)
            again = await self._execute([calls[index].command for index in lacking])
            for index, reply in zip(lacking, again, strict=True):
                replies[index] = reply
        return replies

    async def send_asking(self, calls: Sequence[Call]) -> list[Any]:
        """Run scripts on keys that are on their way to this server."""
        replies = await self._execute([command for call in calls for command in (("ASKING",), call.whole_command)])
        return replies[1::2]

    async def probe(self, probe: Call, others: Sequence[Call] = ()) -> bool:
        """Run the probe. Whatever was lost, the connection was lost with it, so that has been noticed."""
        (reply,) = await self.send([probe])
        if isinstance(reply, Exception):
            raise reply
        return False

    async def publish(self, channel: str, message: bytes) -> None:
        """Say something on a channel."""
        await self._client.publish(channel, message)

    async def listening(self, channels: Sequence[str]) -> list[bool]:
        """Tell of each channel whether anybody listens to it at this server."""
        return [bool(count) for _, count in await self._client.pubsub_numsub(*channels)]

    async def slots(self) -> list[Any]:
        """Ask which server of its cluster has which hash slots, in the words of CLUSTER SLOTS."""
        # not `cluster_slots`, whose answer has another shape in each version of the protocol
        reply = await self._execute([("CLUSTER", "SLOTS")])
        if isinstance(reply[0], Exception):
            raise reply[0]
        return reply[0]

    async def messages(
        self, channels: Sequence[str], is_gone: Callable[[], bool] = lambda: False
    ) -> AsyncGenerator[bytes | None, None]:
        """Give what is said on channels, until the server goes, or is said to be gone."""
        subscription = self._client.pubsub()
        try:
            with reporting():
                await subscription.subscribe(*channels)
            yield None
            while not is_gone():
                with reporting():
                    message = await subscription.get_message(ignore_subscribe_messages=True, timeout=TIMEOUT_SECONDS)
                if message is not None:
                    yield cast("bytes", message["data"])
        finally:
            await closed(subscription)

    def away_for(self, key: str) -> float:
        """There are no others."""
        return 0.0

    @property
    def is_whole(self) -> bool:
        """There are no others."""
        return True

    async def _execute(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Send all at once, and give the replies, with what the server refuses among them.

        Past the client's pipeline, which makes half of all calls of a token: a look at each command, and a task to give
        the connection back. A connection on which something else goes wrong closes itself.
        """
        with anyio.fail_after(TIMEOUT_SECONDS):  # the client's own time-outs cost a task for each time it sends
            connection = await self._pool.get_connection()
            try:
                await connection.send_packed_command(connection.pack_commands(commands))
                return [await _reply(connection) for _ in commands]
            finally:
                with anyio.CancelScope(shield=True):
                    await self._pool.release(connection)


def _pool(url: str, timeout: float | None) -> Any:
    from gateway.streams.valkey.pool import Pool  # a class of the library's, which is loaded here

    return Pool.from_url(  # pyright: ignore[reportUnknownMemberType] - half typed
        url,
        socket_timeout=timeout,
        socket_connect_timeout=TIMEOUT_SECONDS,
        retry=redis.asyncio.retry.Retry(redis.backoff.NoBackoff(), 0),
    )


async def _reply(connection: Any) -> Any:
    try:
        return await connection.read_response()
    except redis.ResponseError as error:
        return error
