"""nginx with the configuration of deploy/nginx, in front of two gateways: at the root of a host, and below a path."""

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import anyio
import httpx
import pytest
from playwright.async_api import Browser

from server.page import page_folder
from tests.support.browsers import run_prompt, sign_in
from tests.support.databases import PostgresqlDatabases
from tests.support.deployed.nginx import Nginx, nginx_before
from tests.support.fake_model_server import FakeModelServer, running_fake_model_server
from tests.support.gateways import EVERY_MODEL, RunningGateway, gateway_settings, running_gateway
from tests.support.generations import GENERATE, WATCH, asking, start, text_of, until, until_tokens
from tests.support.http_streams import EVENT_STREAM, http_stream
from tests.support.polling import pause
from tests.support.valkeys import ValkeyServer
from tests.test_page import ask_graphiql

PREFIX = "/ai"
REFRESH = "mutation { refreshSession(input: {}) { __typename ... on UserError { code message } } }"
LOGIN = "mutation($input: LoginInput!) { login(input: $input) { __typename ... on UserError { code message } } }"
DEVICE = """mutation { startDeviceSignIn(input: {clientName: "a test"}) {
  ... on StartDeviceSignInSuccess { verificationUri } ... on UserError { code message } } }"""


@asynccontextmanager
async def team(
    folder: Path, database_url: str, valkey: ValkeyServer, fake: FakeModelServer, location: str = "/", **settings: Any
) -> AsyncGenerator[tuple[Nginx, RunningGateway, list[RunningGateway]]]:
    """Give nginx, the gateways as one sees them through it, and both by themselves."""
    shared = {"redis_url": valkey.url, "secret_key": "the gateways of one team sign with one secret"}
    shared |= {"lease_time": 0.5, "trusted_proxies": ["127.0.0.1"], **settings}
    async with AsyncExitStack() as stack:
        gateways: list[RunningGateway] = []
        for name in ("one", "other"):
            own = gateway_settings(folder / name, database_url, fake.url, **shared)
            gateways.append(await stack.enter_async_context(running_gateway(own, fake)))
        nginx = await stack.enter_async_context(nginx_before(folder, [it.url for it in gateways], location))
        url = nginx.url + location.rstrip("/")
        client = await stack.enter_async_context(httpx.AsyncClient(base_url=url, timeout=30, verify=nginx.tls))
        yield nginx, replace(gateways[0], url=url, client=client, tls=nginx.tls), gateways


@pytest.fixture(scope="module")
def shared_url(postgresql_databases: PostgresqlDatabases) -> Iterator[str]:
    with postgresql_databases.fresh() as url:
        yield url


@pytest.fixture(scope="module")
async def below(
    shared_url: str, shared_valkey: ValkeyServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[RunningGateway]:
    """Two gateways below a path, for the tests of this module that leave nothing behind."""
    await shared_valkey.answers()
    folder = tmp_path_factory.mktemp("below")
    async with running_fake_model_server() as fake:
        below = team(folder, shared_url, shared_valkey, fake, f"{PREFIX}/", path_prefix=PREFIX)
        async with below as (_, through, _):
            yield through


async def test_a_stream_comes_token_by_token_and_outlives_its_gateway(
    tmp_path: Path, postgresql_url: str, valkey: ValkeyServer, fake: FakeModelServer
):
    async with team(tmp_path, postgresql_url, valkey, fake) as (nginx, through, gateways):
        async with httpx.AsyncClient() as plain:
            sent_on = await plain.get(f"{nginx.plain}/x?y=z")
        assert (sent_on.status_code, sent_on.headers["location"]) == (308, "https://127.0.0.1/x?y=z")

        async with http_stream(through, EVENT_STREAM, GENERATE, asking("fake:stall-3")) as stream:
            with anyio.fail_after(30):  # it comes while the model waits to be released
                first = await anext(stream.events())
            assert first["sequence"] == 1
            fake.release()

        id = await start(gateways[0], "fake:stall-3", onDisconnect="CONTINUE", onBackendLoss="CONTINUE")
        async with through.connect() as socket:
            await socket.subscribe(WATCH, {"id": id})
            seen = await until_tokens(socket, 2)
        gateways[0].stop()
        with anyio.fail_after(30):
            while await _listens(gateways[0].url):
                await pause()
        answers = [await through.post("{ __typename }") for _ in range(8)]
        assert {it.status_code for it in answers} == {200}
        async with through.connect() as socket:
            await socket.subscribe(WATCH, {"id": id, "after": seen[-1]["sequence"]})
            fake.release()
            with anyio.fail_after(30):
                seen += await until(socket, "GenerationCompleted")
        assert text_of(seen) == "0 1 2 "


async def _listens(url: str) -> bool:
    async with httpx.AsyncClient() as client:
        try:
            return (await client.get(f"{url}/healthz")).is_success
        except httpx.TransportError:
            return False


async def test_below_a_path_operations_streams_and_sockets_are_served(below: RunningGateway):
    below.fake.reset()
    below.fake.models += EVERY_MODEL
    async with http_stream(below, EVENT_STREAM, GENERATE, asking("fake:count-3")) as stream:
        assert text_of([event async for event in stream.events()]) == "0 1 2 "
    assert text_of(await below.events(GENERATE, asking("fake:count-3"))) == "0 1 2 "
    assert (await below.client.get("/healthz")).json() == {"status": "ok"}
    async with httpx.AsyncClient(verify=below.tls or True) as client:
        assert (await client.get(below.url.removesuffix(PREFIX))).status_code == 404


@pytest.mark.skipif(page_folder() is None, reason="needs the page: make page")
async def test_below_a_path_the_page_finds_its_files(below: RunningGateway):
    page = await below.client.get(below.url, follow_redirects=True)
    assert str(page.url) == f"{below.url}/"
    source = page.text.partition('<script type="module"')[2].partition('src="')[2].partition('"')[0]
    assert (await below.client.get(urljoin(f"{below.url}/", source))).headers["content-type"].startswith("text/java")


@pytest.mark.skipif(page_folder() is None, reason="needs the page: make page")
async def test_below_a_path_the_page_and_graphiql_work_in_a_browser(below: RunningGateway, browser: Browser):
    context = await browser.new_context(ignore_https_errors=True)  # it does not know the authority of the test
    context.set_default_timeout(20_000)
    try:
        page = await context.new_page()
        await page.goto(below.url)
        await sign_in(page, below.admin_username, below.admin_password)
        await run_prompt(page)
        await page.get_by_test_id("facts").get_by_text("Finished").wait_for()
        assert below.admin_username in await ask_graphiql(page)
        await page.reload()
        await (
            page.get_by_role("navigation").get_by_role("link", name="GraphiQL").wait_for()
        )  # still signed in, by the cookie
    finally:
        await context.close()


async def test_below_a_path_a_browser_keeps_its_session(below: RunningGateway):
    given = {"username": below.admin_username, "password": below.admin_password, "refreshTokenIn": "COOKIE"}
    async with httpx.AsyncClient(base_url=below.url, verify=below.tls or True) as browser:
        await browser.post("/graphql", json={"query": LOGIN, "variables": {"input": given}})
        assert [(it.name, it.path, it.secure) for it in browser.cookies.jar] == [
            ("__Host-ollagraph_session", "/", True)
        ]
        refreshed = (await browser.post("/graphql", json={"query": REFRESH})).json()
    assert refreshed["data"]["refreshSession"]["__typename"] == "RefreshSessionSuccess"


async def test_below_a_path_the_addresses_that_are_told_have_it(below: RunningGateway):
    stored = await below.client.post(
        "/blobs", content=b"text", headers={**below.headers(), "content-type": "text/plain"}
    )
    assert stored.headers["location"].startswith(f"{PREFIX}/blobs/")
    told = (await below.run(DEVICE))["startDeviceSignIn"]["verificationUri"]
    assert told == f"{below.url}/#device"
