"""The connections to one Valkey server, none of which outlives its client."""

from typing import Any

from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.exceptions import ConnectionError as NotConnected


class Pool(ConnectionPool):
    """A pool that stays closed.

    redis-py's closes what is open at that moment: a connection that is just being made, or that somebody asks for
    later, stays open for ever, and uvloop may wait for it when the event loop is closed.
    """

    _closed = False

    async def aclose(self) -> None:
        """Close all connections, and each that is being made as soon as it is given back."""
        self._closed = True
        await super().aclose()

    async def ensure_connection(self, connection: AbstractConnection) -> None:
        """Connect. Raises redis' ConnectionError once the pool is closed."""
        if self._closed:
            raise NotConnected("The client is closed.")
        await super().ensure_connection(connection)

    async def release(self, connection: AbstractConnection) -> Any:
        """Take a connection back."""
        if self._closed:
            await connection.disconnect(nowait=True)  # which does not wait for anything, nor is it cancelled
        await super().release(connection)
