"""An access token is checked when an operation starts: what runs goes on, and a socket starts nothing new with it."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import anyio
import pytest
from websockets.exceptions import ConnectionClosed

from auth.signing_keys import TokenKeys
from auth.tokens import TokenSigner
from server.first_start import AUDIENCE, ISSUER
from tests.support.fake_model_server import FakeModelServer
from tests.support.gateways import Json, RunningGateway, Socket, gateway_settings, running_gateway
from tests.support.http_streams import http_stream
from tests.support.polling import pause
from tests.test_sessions import LOGOUT, login

SECRET = "a secret of the tests, of 32 bytes or more"
EXPIRED = "The access token has expired. Get a new one with the mutation `refreshSession`, or sign in again."
GENERATE = (
    'subscription { generate(input: {model: "fake:stall-3", prompt: {text: "x"}}) '
    "{ __typename ... on TextDelta { text } } }"
)


@pytest.fixture
async def gateway(sqlite_url: str, tmp_path: Path, fake: FakeModelServer) -> AsyncIterator[RunningGateway]:
    settings = gateway_settings(tmp_path, sqlite_url, fake.url, secret_key=SECRET)
    async with running_gateway(settings, fake) as gateway:
        yield gateway


async def take_short_token(gateway: RunningGateway, seconds: int = 2) -> Json:
    """Sign in, and go on with a token of that session which expires soon."""
    begun = await login(gateway)
    gateway.token = begun["accessToken"]
    signer = TokenSigner(TokenKeys(SECRET), issuer=ISSUER, audience=AUDIENCE, lifetime=timedelta(seconds=seconds))
    claims = signer.verify(begun["accessToken"])
    gateway.token = signer.issue(claims.user_id, claims.session_id).token
    return begun


async def is_refused(gateway: RunningGateway) -> None:
    """Wait until the token has expired."""
    with anyio.fail_after(20):
        while "errors" not in (await gateway.post("{ me { id } }")).json():
            await pause()


async def close_code(socket: Socket) -> tuple[int, str]:
    with pytest.raises(ConnectionClosed) as closed:
        await read_on(socket)
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code, closed.value.rcvd.reason


async def read_on(socket: Socket) -> None:
    with anyio.fail_after(20):
        while True:
            await socket.receive()


async def text_begins(socket: Socket) -> None:
    while "text" not in (await socket.receive())["payload"]["data"]["generate"]:
        pass


async def test_an_idle_socket_is_closed_when_its_token_expires(gateway: RunningGateway):
    await take_short_token(gateway)
    async with gateway.connect() as socket:
        assert await close_code(socket) == (4403, EXPIRED)


async def test_what_runs_on_a_socket_goes_on_and_nothing_new_starts_and_then_it_is_closed(gateway: RunningGateway):
    await take_short_token(gateway)
    async with gateway.connect() as socket:
        await socket.subscribe(GENERATE, id="old")
        await text_begins(socket)
        await is_refused(gateway)
        await socket.subscribe("{ me { id } }", id="new")
        refused = await socket.receive()
        assert refused["id"] == "new"
        assert refused["payload"]["errors"][0]["extensions"]["reason"] == "EXPIRED_TOKEN"
        gateway.fake.release()
        ends = [message async for message in old_messages(socket)]
        assert ends[-1]["type"] == "complete"
        assert await close_code(socket) == (4403, EXPIRED)


async def old_messages(socket: Socket) -> AsyncIterator[Json]:
    message: Json = {"type": ""}
    while message["type"] != "complete":
        message = await socket.receive()
        yield message


async def test_a_stream_over_http_outlives_its_token_and_ends_with_its_session(gateway: RunningGateway):
    begun = await take_short_token(gateway)
    async with http_stream(gateway, "text/event-stream", GENERATE) as stream:
        await anext(stream.events())
        await is_refused(gateway)
        gateway.token = begun["accessToken"]
        await gateway.run("{ me { id } }")
        await gateway.run(LOGOUT, {"input": {}})
        blocks = [block async for block in stream.blocks if "heartbeat" not in block]
    said = next(block.get("payload") or block for block in blocks if "errors" in str(block))
    assert said["errors"][0]["extensions"]["reason"] == "REVOKED_SESSION"
