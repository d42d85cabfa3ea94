"""What one caller may hold open: operations on a socket, sockets, streams, and for how long."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import anyio
import pytest
from sqlalchemy import update
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from auth.client import UNKNOWN_CLIENT
from auth.credentials import ApiKeySecret, BearerToken
from auth.errors import AuthenticationError
from db.clock import now
from db.tables import ApiKey, User
from gateway.identity import Identity, OpenCredentials
from server.first_start import make_identity
from server.signing_keys import SigningKeys
from server.transports.credential_watch import CredentialWatch
from tests.support.fake_model_server import FakeModelServer
from tests.support.gateways import Json, RunningGateway, Socket, gateway_settings, running_gateway
from tests.support.generations import GENERATE, asking, none_runs
from tests.support.http_streams import EVENT_STREAM, MULTIPART, http_stream
from tests.test_dataloaders import statements
from tests.test_identity_keys import revoke

ME = "{ me { username } }"
HOLD = asking("fake:hold-3")


@pytest.fixture
async def strict(tmp_path: Path, sqlite_url: str, fake: FakeModelServer) -> AsyncIterator[RunningGateway]:
    """A gateway that allows two of everything."""
    settings = gateway_settings(
        tmp_path,
        sqlite_url,
        fake.url,
        max_operations_per_socket=2,
        max_sockets_per_user=2,
        max_streams_per_user=2,
    )
    async with running_gateway(settings, fake) as gateway:
        yield gateway


async def closed(socket: Socket) -> tuple[int, str]:
    """Read until the server closes, and give its code and reason."""
    with pytest.raises(ConnectionClosed) as caught, anyio.fail_after(20):
        await read_on(socket)
    assert caught.value.rcvd is not None
    return caught.value.rcvd.code, caught.value.rcvd.reason


async def read_on(socket: Socket) -> None:
    while True:
        await socket.receive()


async def refusal(socket: Socket, id: str) -> Json:
    """Begin one more operation, and give the error that it gets."""
    await socket.subscribe(ME, id=id)
    while (message := await socket.receive())["id"] != id:
        pass
    assert message["type"] == "error"
    return message["payload"][0]["extensions"]


def identity_of(gateway: RunningGateway) -> Identity:
    """A second one over the same database, which remembers nothing of what the first one knows."""
    return make_identity(gateway.settings, gateway.database, SigningKeys(gateway.settings).keys)


async def test_one_operation_too_many_is_refused_and_the_others_go_on(strict: RunningGateway):
    async with strict.connect() as socket:
        for id in "ab":
            await socket.subscribe(GENERATE, HOLD, id=id)
        extensions = await refusal(socket, "c")
        assert (extensions["code"], extensions["limit"]) == ("LIMIT_EXCEEDED", 2)
        await strict.fake.request(1)  # both have come, or the release would come before the second
        strict.fake.release()
        ended: set[str] = set()
        while ended != {"a", "b"}:
            message = await socket.receive()
            ended |= {message["id"]} if message["type"] == "complete" else set()
        await socket.subscribe(ME, id="c")
        assert (await socket.receive())["type"] == "next"


async def test_a_thousand_operations_too_many_on_a_socket_are_refused_one_by_one(strict: RunningGateway):
    async with strict.connect() as socket:
        for id in "ab":
            await socket.subscribe(GENERATE, HOLD, id=id)
        refused = 0
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(flood, socket, 1_000)
            while refused < 1_000:
                refused += (await socket.receive())["type"] == "error"
        await socket.send({"type": "ping"})
        assert (await socket.receive())["type"] == "pong"


async def flood(socket: Socket, count: int) -> None:
    for number in range(count):
        await socket.subscribe(ME, id=f"flood-{number}")


async def test_one_socket_too_many_is_closed_with_1013(strict: RunningGateway):
    key = (await strict.make_key())["secret"]
    async with AsyncExitStack() as stack:
        for _ in range(2):
            await stack.enter_async_context(strict.connect())
        with pytest.raises(ConnectionClosed) as caught:
            await stack.enter_async_context(strict.connect())
        assert caught.value.rcvd is not None
        assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (
            1013,
            "Too many connections are open (OLLAGRAPH_MAX_SOCKETS_PER_USER)",
        )
        with pytest.raises(ConnectionClosed):  # another key of the same user's is no other user
            await stack.enter_async_context(strict.connect(init={"apiKey": key}))
        await strict.make_user("other")
        await strict.sign_in("other")
        await stack.enter_async_context(strict.connect())


async def test_a_socket_that_is_closed_makes_room(strict: RunningGateway):
    for _ in range(5):
        async with strict.connect():
            pass


@pytest.mark.parametrize("accept", [EVENT_STREAM, MULTIPART])
async def test_one_stream_over_http_too_many_is_refused(strict: RunningGateway, accept: str):
    async with AsyncExitStack() as stack:
        for _ in range(2):
            stream = await stack.enter_async_context(http_stream(strict, accept, GENERATE, HOLD))
            await anext(stream.events())
        one_more = await stack.enter_async_context(http_stream(strict, accept, GENERATE, HOLD))
        blocks = [block async for block in one_more.blocks if "heartbeat" not in block]
        said = blocks[0]["payload"] if accept == EVENT_STREAM else blocks[0]
        assert said["errors"][0]["extensions"]["code"] == "LIMIT_EXCEEDED"
        assert len(strict.fake.requests) == 2
    await none_runs(strict)


async def test_a_socket_without_operations_is_closed_after_a_while(gateway: RunningGateway):
    gateway.limit_sockets(idle_timeout=0.01)
    async with gateway.connect() as socket:
        assert await closed(socket) == (1000, "No operation for a long time")


async def test_a_socket_with_an_operation_is_not_idle(gateway: RunningGateway):
    gateway.limit_sockets(idle_timeout=1)
    url = gateway.url.replace("http://", "ws://") + "/graphql"
    async with connect(url, subprotocols=[Subprotocol("graphql-transport-ws")]) as connection:
        socket = Socket(connection)
        await socket.send({"type": "connection_init", "payload": gateway.headers()})
        await socket.subscribe(GENERATE, asking("fake:hold-3"))  # it is there before the time begins
        assert (await socket.receive())["type"] == "connection_ack"
        async with gateway.connect() as idle:
            await closed(idle)
        gateway.fake.release()
        assert [event["__typename"] async for event in socket.events()][-1] == "GenerationCompleted"
        assert (await closed(socket))[0] == 1000


async def test_a_revoked_key_closes_a_socket_without_operations(gateway: RunningGateway):
    key = await gateway.make_key()
    async with gateway.connect(init={"apiKey": key["secret"]}) as socket:
        await revoke(gateway, key)
        assert await closed(socket) == (4403, "The API key was revoked. Create a new one.")


@pytest.mark.parametrize("accept", [EVENT_STREAM, MULTIPART])
async def test_a_revoked_key_ends_a_stream_over_http_and_says_why(gateway: RunningGateway, accept: str):
    session, key = gateway.token, await gateway.make_key()
    gateway.token = key["secret"]
    async with http_stream(gateway, accept, GENERATE, asking("fake:hold-3")) as stream:
        await anext(stream.events())
        gateway.token = session
        await revoke(gateway, key)
        blocks = [block async for block in stream.blocks if "heartbeat" not in block]
    said = next(block.get("payload") or block for block in blocks if "errors" in str(block))
    assert said["errors"][0]["extensions"]["reason"] == "REVOKED_API_KEY"
    await none_runs(gateway)


async def test_many_keys_and_tokens_are_looked_up_in_few_statements(gateway: RunningGateway):
    keys = [await gateway.make_key(f"key {number}") for number in range(15)]
    await gateway.make_user("ada")
    tokens = [await gateway.sign_in(), await gateway.sign_in("ada")]
    authentication = identity_of(gateway).authentication
    sessions = [(await authentication.authenticate(BearerToken(token))).session_id for token in tokens]
    watched = [ApiKeySecret(key["secret"]) for key in keys] + [it for it in sessions if it is not None]
    watch = CredentialWatch(authentication, interval=0)
    lost: dict[OpenCredentials, str] = {}
    async with gateway.database.transaction() as tx:
        await tx.execute(update(ApiKey).where(ApiKey.name == "key 7").values(revoked_at=now()))
        await tx.execute(update(User).where(User.username == "ada").values(disabled_at=now()))
    async with AsyncExitStack() as stack:
        for each in watched:
            stack.enter_context(
                watch.watching(each, UNKNOWN_CLIENT, lambda error, each=each: lost.update({each: error.code}))
            )
        with statements() as asked:
            await watch.look()
    assert [statement.split()[0] for statement in asked].count("SELECT") == 2
    assert lost == {watched[7]: "REVOKED_API_KEY", watched[-1]: "INVALID_TOKEN"}


async def test_a_thousand_sockets_with_one_key_are_looked_up_once(gateway: RunningGateway):
    secret = ApiKeySecret((await gateway.make_key())["secret"])
    watch = CredentialWatch(
        make_identity(gateway.settings, gateway.database, SigningKeys(gateway.settings).keys).authentication, interval=0
    )
    lost: list[AuthenticationError] = []
    async with AsyncExitStack() as stack:
        for _ in range(1000):
            stack.enter_context(watch.watching(secret, UNKNOWN_CLIENT, lost.append))
        with statements() as asked:
            await watch.look()
    assert [statement.split()[0] for statement in asked].count("SELECT") == 1
    assert lost == []
