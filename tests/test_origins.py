"""What pages of other sites may do in a browser: WebSockets, requests without a preflight, and CORS."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from websockets.asyncio.client import connect as websocket
from websockets.exceptions import InvalidStatus
from websockets.typing import Origin, Subprotocol

from tests.support.fake_model_server import FakeModelServer
from tests.support.gateways import RunningGateway, gateway_settings, running_gateway

ME = {"query": "{ me { username } }"}
FRIEND = "https://friend.example"
FORMS = ["https://Friend.Example", "HTTPS://friend.example:443", "https://friend.example/"]
"""The same, written otherwise."""

STRANGER = "https://stranger.example"


@pytest.fixture(scope="module")
async def friendly(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningGateway]:
    """A gateway that another site may call."""
    folder = tmp_path_factory.mktemp("friendly")
    settings = gateway_settings(folder, f"sqlite:///{folder / 'o.db'}", None, cors_origins=[FRIEND])
    async with running_gateway(settings, FakeModelServer()) as gateway:
        yield gateway


async def handshake(gateway: RunningGateway, origin: str | None) -> int:
    """Open a WebSocket as a page of this origin would; the status of the handshake."""
    try:
        async with websocket(
            gateway.url.replace("http", "ws") + "/graphql",
            subprotocols=[Subprotocol("graphql-transport-ws")],
            origin=None if origin is None else Origin(origin),
        ):
            return 101
    except InvalidStatus as error:
        return error.response.status_code


@pytest.mark.parametrize(
    "origin",
    [
        STRANGER,
        "null",
        "http://127.0.0.1",
        "https://friend.example.evil.example",
        "http://friend.example",
        "https://friend.example:8443",
        "nonsense",
        "http://[::1",
        "",
    ],
)
async def test_a_page_of_another_site_gets_no_websocket(friendly: RunningGateway, origin: str):
    assert await handshake(friendly, origin) == 403


async def test_clients_that_are_no_browsers_and_allowed_sites_get_websockets(friendly: RunningGateway):
    assert [await handshake(friendly, origin) for origin in (None, FRIEND, friendly.url)] == [101, 101, 101]


@pytest.mark.parametrize("origin", FORMS)
async def test_an_allowed_site_is_known_in_every_form(friendly: RunningGateway, origin: str):
    assert await handshake(friendly, origin) == 101


async def test_an_allowed_site_may_be_written_in_every_form(tmp_path: Path, sqlite_url: str, fake: FakeModelServer):
    settings = gateway_settings(tmp_path, sqlite_url, fake.url, cors_origins=[FORMS[1]])
    async with running_gateway(settings, fake) as gateway:
        assert await handshake(gateway, FRIEND) == 101
        assert (await preflight(gateway, FRIEND))["access-control-allow-origin"] == FRIEND


@pytest.mark.parametrize(
    ("origin", "host", "status"),
    [
        ("http://localhost", "localhost:80", 200),
        ("http://localhost:80", "localhost", 200),
        ("https://LOCALHOST", "localhost:443", 200),
        ("http://[::1]:8000", "[0:0:0:0:0:0:0:1]:8000", 200),
        ("http://localhost:8000", "localhost", 403),
        ("http://localhost", "localhost:443", 403),
        ("http://localhost", "127.0.0.1", 403),
    ],
)
async def test_a_page_of_the_own_host_is_known_in_every_form(
    friendly: RunningGateway, origin: str, host: str, status: int
):
    response = await friendly.client.get("/graphql", params=ME, headers={"Origin": origin, "Host": host})
    assert response.status_code == status


async def test_a_refusal_is_logged_with_what_was_compared_and_the_setting(
    friendly: RunningGateway, caplog: pytest.LogCaptureFixture
):
    await handshake(friendly, f"https://{'x' * 300}.example")
    await handshake(friendly, STRANGER)
    long, line = [record.getMessage() for record in caplog.records if record.name == "server.transports.origins"]
    assert f"its origin is '{STRANGER}', the host ws://'{friendly.url.removeprefix('http://')}'" in line
    assert "OLLAGRAPH_CORS_ORIGINS" in line
    assert len(long) < 500


async def test_the_check_can_be_switched_off(tmp_path: Path, sqlite_url: str, fake: FakeModelServer):
    settings = gateway_settings(tmp_path, sqlite_url, fake.url, check_origin=False)
    async with running_gateway(settings, fake) as gateway:
        assert await handshake(gateway, STRANGER) == 101


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "GraphQL-Require-Preflight": "1"}, 200),
        ({"Sec-Fetch-Site": "cross-site", "Apollo-Require-Preflight": "true"}, 200),
        ({"Origin": STRANGER}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": FRIEND, "Sec-Fetch-Site": "cross-site"}, 200),
        ({"Origin": STRANGER, "X-API-Key": "olg_x"}, 200),
    ],
)
async def test_a_get_of_another_site_needs_a_preflight(friendly: RunningGateway, headers: dict[str, str], status: int):
    response = await friendly.client.get("/graphql", params=ME, headers=headers)
    assert response.status_code == status
    if status == 403:
        assert response.json()["errors"][0]["extensions"]["code"] == "FORBIDDEN"


async def test_a_post_that_needs_no_preflight_is_not_read(friendly: RunningGateway):
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        response = await friendly.client.post("/graphql", content=b"{}", headers={"Content-Type": kind})
        assert response.status_code == 415


async def test_the_page_may_be_linked_to(friendly: RunningGateway):
    response = await friendly.client.get("/", headers={"Sec-Fetch-Site": "cross-site"})
    assert response.status_code != 403


async def preflight(gateway: RunningGateway, origin: str) -> dict[str, str]:
    response = await gateway.client.options(
        "/graphql",
        headers={
            "Origin": origin,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,content-type,x-api-key",
        },
    )
    return {name: value for name, value in response.headers.items() if name.startswith("access-control-allow")}


async def test_an_allowed_site_passes_the_preflight(friendly: RunningGateway):
    allowed = await preflight(friendly, FRIEND)
    assert allowed["access-control-allow-origin"] == FRIEND
    assert {"authorization", "content-type"} <= set(allowed["access-control-allow-headers"].lower().split(", "))


async def test_another_site_does_not(friendly: RunningGateway, shared_gateway: RunningGateway):
    for gateway in (friendly, shared_gateway):
        assert "access-control-allow-origin" not in await preflight(gateway, STRANGER)


async def test_an_allowed_site_may_read_the_answer(friendly: RunningGateway):
    response = await friendly.client.post("/graphql", json=ME, headers={"Origin": FRIEND})
    assert response.headers["access-control-allow-origin"] == FRIEND
