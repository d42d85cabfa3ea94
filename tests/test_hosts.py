"""By whose names the gateway may be called, and whose word it takes on that."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio
import pytest
from websockets.asyncio.client import connect as websocket
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Origin, Subprotocol

from server.page import page_folder
from tests.support.fake_model_server import FakeModelServer
from tests.support.gateways import RunningGateway, gateway_settings, running_gateway

ME = {"query": "{ __typename }"}
HANDSHAKE = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" + (
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: graphql-transport-ws\r\n"
)

Start = Callable[..., AbstractAsyncContextManager[RunningGateway]]


@pytest.fixture
def start(sqlite_url: str, tmp_path: Path) -> Start:
    """Starts a gateway with other settings."""

    def start(**settings: Any) -> AbstractAsyncContextManager[RunningGateway]:
        return running_gateway(gateway_settings(tmp_path, sqlite_url, None, **settings), FakeModelServer())

    return start


@pytest.fixture(scope="module")
async def named(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningGateway]:
    """A gateway that has names."""
    folder = tmp_path_factory.mktemp("named")
    names = ["gateway.example", "*.team.example", "127.0.0.1", "port.example:8443"]
    settings = gateway_settings(folder, f"sqlite:///{folder / 'o.db'}", None, allowed_hosts=names)
    async with running_gateway(settings, FakeModelServer()) as gateway:
        yield gateway


async def answer(gateway: RunningGateway, head: str, path: str = "/graphql?query={__typename}") -> str:
    """Send a GET with these lines in its head, and give all that is answered until the server closes."""
    address = urlsplit(gateway.url)
    async with await anyio.connect_tcp(address.hostname or "", address.port or 0) as stream:
        await stream.send(f"GET {path} HTTP/1.1\r\nConnection: close\r\n{head}\r\n".encode("latin-1"))
        text = b""
        try:
            while True:
                text += await stream.receive()
        except anyio.EndOfStream:
            return text.decode("latin-1")


def status(answer: str) -> int:
    return int(answer.split()[1])


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:8000", "[::1]", "[::1]:8000", "localhost."])
async def test_on_loopback_the_names_of_this_machine_are_answered(shared_gateway: RunningGateway, host: str):
    assert status(await answer(shared_gateway, f"Host: {host}\r\n")) == 200


@pytest.mark.parametrize("host", ["rebound.example", "rebound.example:8000", "localhost.rebound.example", "10.0.0.1"])
async def test_on_loopback_another_name_is_misdirected(shared_gateway: RunningGateway, host: str):
    told = await answer(shared_gateway, f"Host: {host}\r\n")
    assert status(told) == 421
    assert "OLLAGRAPH_ALLOWED_HOSTS" in told
    assert host not in told


@pytest.mark.parametrize(
    "head", ["", "Host:\r\n", "Host: a b\r\n", "Host: localhost\r\nHost: localhost\r\n", "Host: \xff\r\n"]
)
async def test_a_host_that_is_none_is_a_bad_request(shared_gateway: RunningGateway, head: str):
    assert status(await answer(shared_gateway, head)) == 400


async def test_a_websocket_to_another_name_is_misdirected(shared_gateway: RunningGateway):
    told = await answer(shared_gateway, f"Host: rebound.example\r\n{HANDSHAKE}".replace("Connection: close", ""))
    assert status(told) == 421
    assert "OLLAGRAPH_ALLOWED_HOSTS" in told


async def test_a_page_that_was_rebound_gets_no_websocket(shared_gateway: RunningGateway):
    host = "rebound.example:8000"  # to the browser, and to the check of origins, this is the page's own host
    assert status(await answer(shared_gateway, f"Host: {host}\r\nOrigin: http://{host}\r\n{HANDSHAKE}")) == 421


@pytest.mark.skipif(page_folder() is None, reason="needs the page: make page")
async def test_the_page_is_not_served_under_another_name(shared_gateway: RunningGateway):
    assert status(await answer(shared_gateway, "Host: rebound.example\r\n", "/")) == 421


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
@pytest.mark.parametrize("head", ["Host: 10.0.0.7:8000\r\n", ""])
async def test_health_is_told_under_every_name(shared_gateway: RunningGateway, path: str, head: str):
    assert status(await answer(shared_gateway, head, path)) == 200


@pytest.mark.parametrize(
    ("host", "found"),
    [
        ("gateway.example", 200),
        ("Gateway.Example:8000", 200),
        ("a.team.example", 200),
        ("a.b.team.example:80", 200),
        ("team.example", 421),
        ("evilteam.example", 421),
        ("port.example:8443", 200),
        ("port.example", 421),
        ("localhost", 421),
    ],
)
async def test_the_setting_names_the_hosts(named: RunningGateway, host: str, found: int):
    assert status(await answer(named, f"Host: {host}\r\n")) == found


async def test_a_gateway_that_others_can_reach_answers_to_every_name_by_default(start: Start):
    async with start(host="0.0.0.0") as gateway:
        assert status(await answer(gateway, "Host: any.example\r\n")) == 200


async def test_a_host_that_is_refused_stands_in_the_log_on_one_line(
    shared_gateway: RunningGateway, caplog: pytest.LogCaptureFixture
):
    await answer(shared_gateway, f"Host: {'x' * 250}\r\n")
    (line,) = [record.getMessage() for record in caplog.records if record.name == "server.transports.hosts"]
    assert "OLLAGRAPH_ALLOWED_HOSTS" in line
    assert len(line) < 250


@pytest.mark.parametrize("path", ["/graphql", "/graphql/"])
async def test_both_forms_of_the_address_answer_queries(shared_gateway: RunningGateway, path: str):
    response = await shared_gateway.client.post(path, json=ME)
    assert (response.status_code, response.json()["data"]) == (200, {"__typename": "Query"})


async def test_both_forms_of_the_address_open_websockets(shared_gateway: RunningGateway):
    url = shared_gateway.url.replace("http", "ws", 1) + "/graphql/"
    async with websocket(url, subprotocols=[Subprotocol("graphql-transport-ws")]) as socket:
        assert socket.subprotocol == "graphql-transport-ws"


async def test_both_forms_of_the_address_check_the_origin(shared_gateway: RunningGateway):
    response = await shared_gateway.client.get("/graphql/", params=ME, headers={"Origin": "https://stranger.example"})
    assert response.status_code == 403


@pytest.mark.parametrize(
    ("method", "path", "headers", "content"),
    [
        ("POST", "/graphql", {"Content-Type": "application/json"}, b'{"query": "{ __typename }"}'),
        ("POST", "/graphql/", {"Content-Type": "application/json"}, b'{"query": "{ nothing }"}'),
        ("POST", "/graphql", {"Content-Type": "application/json", "Accept": "text/event-stream"}, b'{"query": "{"}'),
        ("POST", "/graphql", {"Content-Type": "application/json", "Accept": "multipart/mixed"}, b'{"query": "{a}"}'),
        ("POST", "/graphql", {"Content-Type": "text/plain"}, b""),
        ("POST", "/graphql", {"Host": "stranger.example"}, b""),
        ("GET", "/graphql?query={__typename}", {}, b""),
        ("GET", "/graphql?query={__typename}", {"Origin": "null"}, b""),
        ("GET", "/graphql", {"Accept": "image/png"}, b""),
        ("DELETE", "/graphql", {}, b""),
        ("HEAD", "/graphql/", {}, b""),
    ],
)
async def test_no_answer_of_the_endpoint_may_be_kept(
    shared_gateway: RunningGateway, method: str, path: str, headers: dict[str, str], content: bytes
):
    response = await shared_gateway.client.request(method, path, headers=headers, content=content)
    assert response.headers["cache-control"] == "no-store"


async def open_sockets(gateway: RunningGateway, *clients: str) -> list[str]:
    """Open a WebSocket for each of these addresses, as a proxy would tell them; what each is told first."""
    told: list[str] = []
    async with AsyncExitStack() as stack:
        for client in clients:
            connection = await stack.enter_async_context(
                websocket(
                    gateway.url.replace("http", "ws") + "/graphql",
                    subprotocols=[Subprotocol("graphql-transport-ws")],
                    additional_headers={"X-Forwarded-For": client},
                )
            )
            await connection.send('{"type": "connection_init"}')
            try:
                told.append(str(await connection.recv()))
            except ConnectionClosed as closed:
                told.append(str(closed.rcvd and closed.rcvd.code))
    return ["ack" if "connection_ack" in text else text for text in told]


async def test_the_clients_of_a_named_proxy_are_told_apart(start: Start):
    async with start(max_sockets_per_user=1, trusted_proxies=["127.0.0.0/8"]) as gateway:
        assert await open_sockets(gateway, "10.0.0.1", "10.0.0.2", "6.6.6.6, 10.0.0.2") == ["ack", "ack", "1013"]


async def test_what_others_say_before_the_proxies_is_not_believed(start: Start):
    async with start(max_sockets_per_user=1, trusted_proxies=["127.0.0.1", "10.9.0.0/16"]) as gateway:
        told = await open_sockets(gateway, "10.0.0.1, 10.9.0.1", "6.6.6.6, 10.0.0.1:5000,10.9.0.2", "x, 10.0.0.3")
    assert told == ["ack", "1013", "ack"]


async def test_nobody_is_believed_without_the_setting(start: Start, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "*")  # what uvicorn reads
    async with start(max_sockets_per_user=1) as gateway:
        assert await open_sockets(gateway, "10.0.0.1", "10.0.0.2") == ["ack", "1013"]


async def handshake(gateway: RunningGateway, origin: str, **headers: str) -> int:
    """Open a WebSocket as a page of this origin would through a proxy; the status of the handshake."""
    try:
        async with websocket(
            gateway.url.replace("http", "ws") + "/graphql",
            subprotocols=[Subprotocol("graphql-transport-ws")],
            origin=Origin(origin),
            additional_headers={name.replace("_", "-"): value for name, value in headers.items()},
        ):
            return 101
    except InvalidStatus as error:
        return error.response.status_code


PUBLIC = {"X_Forwarded_Host": "public.example", "X_Forwarded_Proto": "https"}


@pytest.mark.parametrize(
    ("origin", "headers", "found"),
    [
        ("https://public.example", PUBLIC, 101),
        ("https://public.example:443", PUBLIC, 101),
        ("http://public.example", PUBLIC, 403),
        ("https://other.example", PUBLIC, 403),
        ("https://public.example", {"X_Forwarded_Host": "evil.example, public.example"}, 101),
        ("https://evil.example", {"X_Forwarded_Host": "evil.example, public.example"}, 403),
        ("https://public.example:8443", PUBLIC | {"X_Forwarded_Port": "8443"}, 101),
        ("https://public.example:8443", PUBLIC | {"X_Forwarded_Host": "public.example:8443"}, 101),
        ("https://evil.example", {"X_Forwarded_Host": "evil.example"}, 421),
        ("https://public.example", {"X_Forwarded_Host": "a b"}, 400),
    ],
)
async def test_a_named_proxy_tells_the_host_and_the_scheme(
    start: Start, origin: str, headers: dict[str, str], found: int
):
    hosts = ["public.example", "127.0.0.1"]
    async with start(trusted_proxies=["127.0.0.1"], allowed_hosts=hosts) as gateway:
        assert await handshake(gateway, origin, **headers) == found


async def test_another_program_tells_neither_the_host_nor_the_scheme(shared_gateway: RunningGateway):
    assert await handshake(shared_gateway, "https://public.example", **PUBLIC) == 403
    own = shared_gateway.url.replace("http:", "https:")
    assert await handshake(shared_gateway, own, X_Forwarded_Proto="http") == 101


async def test_a_path_prefix_may_be_in_a_request_or_taken_off_it(start: Start):
    github = {"github_client_id": "x", "github_client_secret": "y"}
    async with start(path_prefix="/ai", **github) as gateway:
        paths = ("/ai/healthz", "/healthz", "/aix/healthz")
        heads = [await answer(gateway, "Host: localhost\r\n", path) for path in paths]
        assert [status(head) for head in heads] == [200, 200, 404]
        sent_on = await answer(gateway, "Host: localhost\r\n", "/ai")
        assert (status(sent_on), "\r\nlocation: /ai/\r\n" in sent_on) == (308, True)

        options = (await gateway.run("{ signInOptions { startUrl } }"))["signInOptions"]
        assert options[-1] == {"startUrl": "/ai/auth/github/start"}
        sent_on = await answer(gateway, "Host: localhost\r\n", "/ai/auth/github/start")
        assert "redirect_uri=http%3A%2F%2Flocalhost%2Fai%2Fauth%2Fgithub%2Fcallback&" in sent_on
