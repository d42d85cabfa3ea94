"""Connections to Valkey end with their client, also those that are just being made when it is closed."""

import pytest
from redis.exceptions import ConnectionError as NotConnected

from gateway.streams.valkey.node import Call, Node
from gateway.streams.valkey.pool import Pool
from tests.support.valkeys import ValkeyServer


async def test_a_connection_that_is_made_while_its_pool_is_closed_is_closed_too(valkey: ValkeyServer):
    pool = Pool.from_url(valkey.url)  # pyright: ignore[reportUnknownMemberType] - half typed
    connection = await pool.get_connection()
    await pool.aclose()
    await connection.connect()
    await pool.release(connection)
    assert not connection.is_connected


async def test_a_closed_client_connects_no_more(valkey: ValkeyServer):
    node = Node(valkey.url)
    call = Call(None, ["key"])
    await node.send([call])
    await node.aclose()
    with pytest.raises(NotConnected, match="The client is closed"):
        await node.send([call])
