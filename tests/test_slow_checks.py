"""A gateway that is slow itself does not blame its clients: their sockets are not closed as if they had been late."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from sqlalchemy import text
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from db.engine import Database, DatabaseUnavailable, WriteSession
from tests.support.fake_model_server import FakeModelServer
from tests.support.gateways import RunningGateway, Socket, gateway_settings, running_gateway
from tests.support.polling import pause

WAITING = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND wait_event_type = 'Lock' AND query ILIKE '%users%'
"""

SIGN_IN_SECONDS = 5
"""An operation may take this long where the administrator signs in first, which a busy machine takes a second for."""


@asynccontextmanager
async def prompt_client(gateway: RunningGateway) -> AsyncGenerator[Socket]:
    """A client that sends its credentials at once."""
    url = gateway.url.replace("http", "ws") + "/graphql"
    async with connect(url, subprotocols=[Subprotocol("graphql-transport-ws")]) as connection:
        client = Socket(connection)
        await client.send({"type": "connection_init", "payload": gateway.headers()})
        yield client


@asynccontextmanager
async def slow_users(url: str) -> AsyncGenerator[anyio.Event]:
    """A database in which nobody can read the users within the block, or until the event is set."""
    database, release = Database(url), anyio.Event()
    locked = anyio.Event()

    async def hold() -> None:
        async with database.transaction() as tx:
            await tx.execute(text("LOCK TABLE users IN ACCESS EXCLUSIVE MODE"))
            locked.set()
            await release.wait()

    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(hold)
            await locked.wait()
            try:
                yield release
            finally:
                release.set()
    finally:
        await database.close()


@pytest.fixture
async def gateway(postgresql_url: str, tmp_path: Path, fake: FakeModelServer) -> AsyncGenerator[RunningGateway]:
    settings = gateway_settings(tmp_path, postgresql_url, fake.url, recheck_interval=3600)
    async with running_gateway(settings, fake) as gateway:
        yield gateway


async def test_a_check_of_credentials_that_takes_too_long_ends_with_1013(gateway: RunningGateway, postgresql_url: str):
    gateway.limit_sockets(init_timeout=0.01, check_timeout=0.3)
    async with slow_users(postgresql_url), prompt_client(gateway) as client:
        with pytest.raises(ConnectionClosed) as caught:
            await client.receive()
    assert caught.value.rcvd is not None
    assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (
        1013,
        "The gateway could not check the credentials in time",
    )


async def test_a_client_that_was_in_time_is_let_in_when_its_credentials_are_checked(
    gateway: RunningGateway, postgresql_url: str
):
    gateway.limit_sockets(init_timeout=0.01, check_timeout=60)
    onlooker = Database(postgresql_url)
    try:
        async with slow_users(postgresql_url) as release, prompt_client(gateway) as client:
            waiting = 0
            while not waiting:
                async with onlooker.reading() as session:
                    waiting = await session.scalar(text(WAITING))
                await pause()
            await anyio.sleep(0.3)  # longer than a client may take, and than the grace after that
            release.set()
            assert (await client.receive())["type"] == "connection_ack"
    finally:
        await onlooker.close()


async def test_a_request_whose_credentials_are_not_checked_in_time_is_answered(
    postgresql_url: str, tmp_path: Path, fake: FakeModelServer
):
    settings = gateway_settings(tmp_path, postgresql_url, fake.url, query_timeout=SIGN_IN_SECONDS, identity_max_age=0)
    async with running_gateway(settings, fake) as gateway, slow_users(postgresql_url):
        [error] = (await gateway.post("{ me { id } }")).json()["errors"]
    assert error["extensions"]["code"] == "DATABASE_UNAVAILABLE"


async def test_what_runs_with_every_generation_does_not_wait_for_a_lock_for_ever(postgresql_url: str):
    async def work(tx: WriteSession) -> None:
        await tx.execute(text("SELECT 1 FROM users"))

    database = Database(postgresql_url, wait_seconds=0.3)
    try:
        async with slow_users(postgresql_url):
            with pytest.raises(DatabaseUnavailable, match="did not answer in time"):
                await database.transact(work)
        assert database.checked_out == 0
        await database.transact(work)
    finally:
        await database.close()
