"""What stands around every answer: headers, the access log, CORS, and the page."""

import gc
import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from server.page import page_folder
from server.serve import spare_the_collector
from tests.support.fake_model_server import FakeModelServer
from tests.support.gateways import RunningGateway, gateway_settings, running_gateway

ORIGIN = "https://app.example"

needs_page = pytest.mark.skipif(page_folder() is None, reason="needs the page: make page")

Start = Callable[..., AbstractAsyncContextManager[RunningGateway]]


@pytest.fixture
def gateway(used_gateway: RunningGateway) -> RunningGateway:
    """One for all tests here, whatever the earlier ones left in its database."""
    return used_gateway


@pytest.fixture
def start(sqlite_url: str, tmp_path: Path, fake: FakeModelServer) -> Start:
    """Starts a gateway with other settings."""

    def start(**settings: Any) -> AbstractAsyncContextManager[RunningGateway]:
        return running_gateway(gateway_settings(tmp_path, sqlite_url, fake.url, **settings), fake)

    return start


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/graphql", "/", "/nothing"])
async def test_every_answer_has_the_security_headers(gateway: RunningGateway, path: str):
    headers = (await gateway.client.get(path)).headers
    told = {name: headers[name] for name in ("x-content-type-options", "referrer-policy", "x-frame-options")}
    assert told == {"x-content-type-options": "nosniff", "referrer-policy": "no-referrer", "x-frame-options": "DENY"}


async def test_no_answer_tells_what_the_server_runs_on(gateway: RunningGateway):
    headers = (await gateway.client.get("/healthz")).headers
    assert not {"server", "x-powered-by"} & set(headers)


async def test_an_answer_has_the_request_id_that_was_given(gateway: RunningGateway):
    response = await gateway.client.get("/healthz", headers={"X-Request-ID": "mine-1.2_3"})
    assert response.headers["x-request-id"] == "mine-1.2_3"


@pytest.mark.parametrize("given", ["", "a b", "x" * 65, "a;b", '"'])
async def test_a_request_id_that_could_do_harm_is_replaced(gateway: RunningGateway, given: str):
    response = await gateway.client.get("/healthz", headers={"X-Request-ID": given})
    assert response.headers["x-request-id"].isalnum()


async def test_an_error_has_the_request_id_of_its_answer(gateway: RunningGateway):
    response = await gateway.post("{ nothing }", **{"X-Request-ID": "mine"})
    assert response.json()["errors"][0]["extensions"]["requestId"] == "mine"


async def test_every_request_has_a_line_in_the_access_log(gateway: RunningGateway, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO, "ollagraph.access"):
        response = await gateway.client.get("/nothing", headers={"X-Request-ID": "mine"})
    (line,) = [record for record in caplog.records if record.name == "ollagraph.access"]
    assert (line.getMessage(), vars(line)["status"]) == ("GET /nothing", 404)
    assert vars(line)["ms"] >= 0
    assert response.headers["X-Request-ID"] == "mine"


async def test_the_log_holds_no_query_string_and_no_secret(gateway: RunningGateway, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO):
        await gateway.client.get("/graphql?query={__typename}&token=hunter2", headers={"X-API-Key": "olg_hunter2"})
        await gateway.client.get("/graphql?query={me{username}}", headers={"Authorization": "Bearer hunter2"})
        await gateway.sign_in()
    ours = "\n".join(str(vars(record)) for record in caplog.records if record.name != "httpx")
    assert "GET /graphql" in ours
    assert [word for word in ("hunter2", "__typename", gateway.admin_password) if word in ours] == []


async def test_a_path_cannot_forge_a_line_of_the_log(gateway: RunningGateway, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO, "ollagraph.access"):
        await gateway.client.get("/a%0aGET%20/b%20200")
    assert [record.getMessage() for record in caplog.records if "\n" in record.getMessage()] == []


async def test_an_unknown_path_is_not_found(gateway: RunningGateway):
    assert (await gateway.client.get("/nothing")).status_code == 404


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/openapi.json"])
async def test_the_frameworks_own_pages_are_not_there(gateway: RunningGateway, path: str):
    assert (await gateway.client.get(path)).status_code == 404


@needs_page
async def test_the_page_may_only_do_what_its_policy_says(gateway: RunningGateway):
    response = await gateway.client.get("/")
    assert response.headers["content-type"].startswith("text/html")
    assert response.headers["content-security-policy"].startswith("default-src 'none'; script-src 'self';")


@needs_page
async def test_the_page_is_asked_for_anew_each_time(gateway: RunningGateway):
    assert (await gateway.client.get("/")).headers["cache-control"] == "no-cache"


@needs_page
async def test_what_has_a_hash_in_its_name_is_kept_for_good(gateway: RunningGateway):
    folder = page_folder()
    assert folder is not None
    name = next(path.name for path in (folder / "assets").iterdir())
    response = await gateway.client.get(f"/assets/{name}")
    assert (response.status_code, response.headers["cache-control"]) == (200, "public, max-age=31536000, immutable")


def largest_asset() -> Path:
    folder = page_folder()
    assert folder is not None
    return max((folder / "assets").glob("*.js"), key=lambda path: path.stat().st_size)


@needs_page
@pytest.mark.parametrize("accepted", ["gzip", "br, GZIP", "deflate, gzip;q=0.5", "gzip; q=1.000"])
async def test_who_takes_it_gets_what_the_build_compressed(gateway: RunningGateway, accepted: str):
    asset = largest_asset()
    ways = {"Accept-Encoding": accepted}
    response = await gateway.client.get(f"/assets/{asset.name}", headers=ways)
    assert (response.headers["content-encoding"], response.headers["vary"]) == ("gzip", "Accept-Encoding")
    assert response.headers["content-type"].startswith("text/javascript")
    assert int(response.headers["content-length"]) == asset.with_name(f"{asset.name}.gz").stat().st_size
    assert response.content == asset.read_bytes()
    again = {**ways, "If-None-Match": response.headers["etag"]}
    assert (await gateway.client.get(f"/assets/{asset.name}", headers=again)).status_code == 304


@needs_page
@pytest.mark.parametrize("accepted", ["identity", "br", "gzip;q=0", "deflate, gzip; q=0.000", "x-gzipped", ""])
async def test_who_does_not_take_it_gets_the_file(gateway: RunningGateway, accepted: str):
    asset = largest_asset()
    response = await gateway.client.get(f"/assets/{asset.name}", headers={"Accept-Encoding": accepted})
    assert "content-encoding" not in response.headers
    assert response.headers["vary"] == "Accept-Encoding"
    assert response.content == asset.read_bytes()
    packed = await gateway.client.get(f"/assets/{asset.name}", headers={"Accept-Encoding": "gzip"})
    assert packed.headers["etag"] != response.headers["etag"]


@needs_page
async def test_what_is_missing_is_not_kept(gateway: RunningGateway):
    response = await gateway.client.get("/assets/missing.js")
    assert response.status_code == 404
    assert "immutable" not in response.headers.get("cache-control", "")


@pytest.mark.parametrize(
    "path", ["/../pyproject.toml", "/%2e%2e/%2e%2e/pyproject.toml", "/assets/..%2f..%2f..%2fLICENSE"]
)
async def test_nothing_outside_the_page_is_served(gateway: RunningGateway, path: str):
    assert (await gateway.client.get(path)).status_code == 404


async def test_without_the_page_there_is_nothing_at_the_root(start: Start):
    async with start(page=False) as gateway:
        assert (await gateway.client.get("/")).status_code == 404


async def test_another_site_may_not_call_by_default(gateway: RunningGateway):
    response = await gateway.client.post("/graphql", json={"query": "{ __typename }"}, headers={"Origin": ORIGIN})
    assert "access-control-allow-origin" not in response.headers


async def test_a_named_site_may_call(start: Start):
    async with start(cors_origins=[ORIGIN]) as gateway:
        response = await gateway.client.post("/graphql", json={"query": "{ __typename }"}, headers={"Origin": ORIGIN})
    assert response.headers["access-control-allow-origin"] == ORIGIN


async def test_a_site_that_is_not_named_may_not_call(start: Start):
    async with start(cors_origins=[ORIGIN]) as gateway:
        response = await gateway.client.get("/healthz", headers={"Origin": "https://other.example"})
    assert "access-control-allow-origin" not in response.headers


async def test_a_named_site_may_send_what_signs_a_call(start: Start):
    asked = {
        "Origin": ORIGIN,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type,x-api-key,x-request-id",
    }
    async with start(cors_origins=[ORIGIN]) as gateway:
        response = await gateway.client.options("/graphql", headers=asked)
    assert (response.status_code, response.headers["access-control-allow-origin"]) == (200, ORIGIN)


@pytest.mark.parametrize(("allowed", "told"), [(True, "true"), (False, None)])
async def test_a_named_site_may_send_cookies_if_the_settings_say_so(start: Start, allowed: bool, told: str | None):
    async with start(cors_origins=[ORIGIN], cors_credentials=allowed) as gateway:
        response = await gateway.client.get("/healthz", headers={"Origin": ORIGIN})
    assert response.headers.get("access-control-allow-credentials") == told


async def test_a_named_site_may_read_the_request_id(start: Start):
    async with start(cors_origins=[ORIGIN]) as gateway:
        response = await gateway.client.get("/healthz", headers={"Origin": ORIGIN})
    exposed = set(response.headers["access-control-expose-headers"].split(", "))
    assert {"x-request-id", "ratelimit", "ratelimit-policy", "retry-after"} <= exposed


def test_what_lives_as_long_as_the_server_is_not_looked_at_for_garbage():
    thresholds = gc.get_threshold()
    gc.unfreeze()
    gc.disable()
    spare_the_collector()
    gc.set_threshold(*thresholds)
    assert gc.isenabled()
    assert gc.get_freeze_count() > 10 * len(gc.get_objects())
