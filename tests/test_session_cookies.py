"""The refresh token in a cookie: how it is set, who may use it, and what it does not do."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.fake_model_server import FakeModelServer
from tests.support.gateways import ADMIN, PASSWORD, Json, RunningGateway, gateway_settings, running_gateway
from tests.test_sessions import LOGIN, LOGOUT, REFRESH, login, reason

SECURE, PLAIN = "__Host-ollagraph_session", "ollagraph_session"
HTTPS = {"X-Forwarded-Proto": "https"}
IN_COOKIE = {"username": ADMIN, "password": PASSWORD, "refreshTokenIn": "COOKIE"}
FOREIGN = [
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
]


@pytest.fixture
def gateway(used_gateway: RunningGateway) -> RunningGateway:
    return used_gateway


async def send(gateway: RunningGateway, query: str, input: Json, **headers: str) -> httpx.Response:
    """Send a request with these headers and no others that matter: no cookie is remembered, and no token sent."""
    gateway.client.cookies.clear()
    body = {"query": query, "variables": {"input": input}}
    return await gateway.client.post("/graphql", json=body, headers=headers)


async def signed_in(gateway: RunningGateway) -> str:
    """Sign in with a cookie, and give its value."""
    response = await send(gateway, LOGIN, IN_COOKIE)
    return response.cookies[PLAIN]


def with_cookie(value: str, name: str = PLAIN) -> dict[str, str]:
    return {"Cookie": f"{name}={value}"}


def code(response: httpx.Response) -> str:
    return response.json()["errors"][0]["extensions"]["code"]


async def test_the_token_is_in_the_cookie_and_not_in_the_body(gateway: RunningGateway):
    response = await send(gateway, LOGIN, IN_COOKIE)
    value, *attributes = response.headers["set-cookie"].split("; ")
    assert response.json()["data"]["login"]["refreshToken"] is None
    assert value.startswith(f"{PLAIN}=olr_")
    assert sorted(attributes) == ["HttpOnly", "Max-Age=2591999", "Path=/", "SameSite=Strict"]


async def test_without_asking_for_it_there_is_no_cookie(gateway: RunningGateway):
    response = await send(gateway, LOGIN, {"username": ADMIN, "password": PASSWORD})
    assert "set-cookie" not in response.headers


async def test_a_refresh_takes_the_cookie_and_sets_the_next_one(gateway: RunningGateway):
    first = await signed_in(gateway)
    response = await send(gateway, REFRESH, {}, **with_cookie(first))
    answer = response.json()["data"]["refreshSession"]
    assert answer["refreshToken"] is None
    assert await reason(gateway, answer["accessToken"]) is None
    assert response.cookies[PLAIN] not in {first, None}


async def test_a_token_in_the_body_is_answered_in_the_body_whatever_the_cookie(gateway: RunningGateway):
    begun, other = await login(gateway), await signed_in(gateway)
    response = await send(gateway, REFRESH, {"refreshToken": begun["refreshToken"]}, **with_cookie(other))
    assert response.json()["data"]["refreshSession"]["refreshToken"].startswith("olr_")
    assert "set-cookie" not in response.headers


async def test_a_cookie_that_holds_no_longer_is_removed(gateway: RunningGateway):
    response = await send(gateway, REFRESH, {}, **with_cookie("olr_old"))
    assert response.json()["data"]["refreshSession"]["code"] == "SESSION_ENDED"
    assert response.headers["set-cookie"].startswith(f"{PLAIN}=; Max-Age=0; Path=/; HttpOnly")


async def test_without_a_cookie_a_refresh_is_refused_and_none_is_set(gateway: RunningGateway):
    response = await send(gateway, REFRESH, {})
    assert response.json()["data"]["refreshSession"]["code"] == "SESSION_ENDED"
    assert "set-cookie" not in response.headers


async def test_signing_out_removes_the_cookie(gateway: RunningGateway):
    response = await send(gateway, LOGIN, IN_COOKIE)
    token = response.json()["data"]["login"]["accessToken"]
    headers = {"Authorization": f"Bearer {token}", **with_cookie(response.cookies[PLAIN])}
    answer = await send(gateway, LOGOUT, {}, **headers)
    assert answer.headers["set-cookie"].startswith(f"{PLAIN}=; Max-Age=0")


async def test_the_cookie_is_no_credentials(gateway: RunningGateway):
    value = await signed_in(gateway)
    response = await gateway.client.post("/graphql", json={"query": "{ me { id } }"}, headers=with_cookie(value))
    assert response.json()["data"]["me"] is None
    out = await send(gateway, LOGOUT, {}, **with_cookie(value))
    assert code(out) == "UNAUTHENTICATED"


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
@pytest.mark.parametrize("checks", [True, False], ids=["check_origin", "no check_origin"])
async def test_a_page_of_another_site_cannot_use_the_cookie(
    sqlite_url: str, tmp_path: Path, fake: FakeModelServer, headers: dict[str, str], checks: bool
):
    """CSRF: neither with the cookie of who is signed in, nor by signing the browser in as somebody else."""
    settings = gateway_settings(tmp_path, sqlite_url, fake.url, check_origin=checks, cors_origins=["*"])
    async with running_gateway(settings, fake) as gateway:
        value = await signed_in(gateway)
        refused = [
            await send(gateway, REFRESH, {}, **with_cookie(value), **headers),
            await send(gateway, LOGIN, IN_COOKIE, **headers),
        ]
        assert [(code(it), it.headers.get("set-cookie")) for it in refused] == [("FORBIDDEN", None)] * 2
        own = await send(gateway, REFRESH, {}, **with_cookie(value), Origin=gateway.url)
        assert PLAIN in own.cookies


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
async def test_what_a_form_can_send_does_not_use_the_cookie(gateway: RunningGateway, content_type: str):
    value = await signed_in(gateway)
    body = '{"query": "mutation { refreshSession(input: {}) { __typename } }"}'
    headers = {"Content-Type": content_type, **with_cookie(value)}
    response = await gateway.client.post("/graphql", content=body, headers=headers)
    assert (response.status_code, response.headers.get("set-cookie")) == (415, None)


async def test_a_named_origin_with_credentials_can_use_the_cookie(
    sqlite_url: str, tmp_path: Path, fake: FakeModelServer
):
    origins: dict[str, Any] = {"cors_origins": ["https://app.example"], "cors_credentials": True}
    settings = gateway_settings(tmp_path, sqlite_url, fake.url, **origins)
    async with running_gateway(settings, fake) as gateway:
        response = await send(gateway, LOGIN, IN_COOKIE, Origin="https://app.example")
        assert PLAIN in response.cookies
        assert response.headers["access-control-allow-credentials"] == "true"
        assert response.headers["access-control-allow-origin"] == "https://app.example"


async def test_over_https_the_cookie_is_bound_to_the_host_and_no_other_is_read(
    sqlite_url: str, tmp_path: Path, fake: FakeModelServer
):
    """A cookie without the prefix may have been planted by a subdomain."""
    settings = gateway_settings(tmp_path, sqlite_url, fake.url, trusted_proxies=["127.0.0.1"])
    async with running_gateway(settings, fake) as gateway:
        response = await send(gateway, LOGIN, IN_COOKIE, **HTTPS)
        value, *attributes = response.headers["set-cookie"].split("; ")
        assert value.startswith(f"{SECURE}=olr_")
        assert sorted(attributes) == ["HttpOnly", "Max-Age=2591999", "Path=/", "SameSite=Strict", "Secure"]
        token = value.partition("=")[2]
        planted = await send(gateway, REFRESH, {}, **HTTPS, **with_cookie(token))
        assert planted.json()["data"]["refreshSession"]["code"] == "SESSION_ENDED"
        own = await send(gateway, REFRESH, {}, **HTTPS, **with_cookie(token, SECURE))
        assert own.json()["data"]["refreshSession"]["refreshToken"] is None


async def test_a_socket_and_an_event_stream_have_no_cookie(gateway: RunningGateway):
    query = "mutation { refreshSession(input: {}) { ... on UserError { code } } }"
    async with gateway.connect(init={}) as socket:
        await socket.subscribe(query)
        [answer] = [event async for event in socket.events()]
    assert answer == {"code": "INVALID_INPUT"}
    response = await gateway.client.post("/graphql", json={"query": query}, headers={"Accept": "text/event-stream"})
    assert "INVALID_INPUT" in response.text
