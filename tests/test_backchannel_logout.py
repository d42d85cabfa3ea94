"""A provider tells that somebody has signed out there: whose sessions end, and who cannot end any."""

import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import jwt
import pytest

from auth.providers.logout_token import EVENT
from tests.support.databases import SqliteDatabases
from tests.support.gateways import RunningGateway
from tests.support.identity.browser import Browser
from tests.support.identity.browsing import ADA
from tests.support.identity.openid import (
    CLIENT_ID,
    FakeOpenIdProvider,
    gateway_with_providers,
    key_for,
    running_openid_provider,
)

REFRESH = """mutation { refreshSession(input: {}) { ... on RefreshSessionSuccess { accessToken } } }"""
SUBJECT = "248289761001"


@pytest.fixture(scope="module")
async def provider() -> AsyncIterator[FakeOpenIdProvider]:
    async with running_openid_provider() as provider:
        yield provider


@pytest.fixture(scope="module")
async def shared_gateway(
    sqlite_databases: SqliteDatabases, tmp_path_factory: pytest.TempPathFactory, provider: FakeOpenIdProvider
) -> AsyncIterator[RunningGateway]:
    folder = tmp_path_factory.mktemp("backchannel")
    async with gateway_with_providers(sqlite_databases, folder, provider.url, provider.url) as gateway:
        yield gateway


@pytest.fixture
async def gateway(emptied_gateway: RunningGateway, provider: FakeOpenIdProvider) -> RunningGateway:
    provider.person, provider.changes = dict(ADA), {}
    return emptied_gateway


async def told(gateway: RunningGateway, token: str, provider: str = "oidc") -> httpx.Response:
    return await gateway.client.post(f"/auth/{provider}/backchannel-logout", data={"logout_token": token})


def claims(provider: FakeOpenIdProvider, **changes: Any) -> dict[str, Any]:
    """The claims of a logout token for one subject; None leaves one out."""
    at = int(time.time())
    made = {"iss": provider.url, "aud": CLIENT_ID, "iat": at, "exp": at + 120, "jti": "1", "events": {EVENT: {}}}
    return {name: value for name, value in (made | {"sub": SUBJECT} | changes).items() if value is not None}


async def signed_in(gateway: RunningGateway, provider: FakeOpenIdProvider, sid: str) -> Browser:
    """A browser whose session at the provider is called `sid`."""
    provider.changes = {"sid": sid}
    browser = Browser(gateway)
    await browser.sign_in()
    return browser


async def goes_on(browser: Browser) -> bool:
    return "accessToken" in await browser.run(REFRESH)


@pytest.mark.parametrize(
    ("changes", "first", "second"),
    [
        ({}, False, False),
        ({"sid": "s-1"}, False, True),
        ({"sid": "s-1", "sub": None}, False, True),
        ({"sid": "s-9"}, True, True),
        ({"sub": "somebody else"}, True, True),
        ({"iat": 1_700_000_000}, True, True),
    ],
    ids=str,
)
async def test_the_sessions_end_of_which_it_tells(
    gateway: RunningGateway, provider: FakeOpenIdProvider, changes: dict[str, Any], first: bool, second: bool
):
    one, two = await signed_in(gateway, provider, "s-1"), await signed_in(gateway, provider, "s-2")
    async with one, two:
        response = await told(gateway, provider.sign(claims(provider, **changes), typ="logout+jwt"))
        assert (response.status_code, response.headers["cache-control"]) == (200, "no-store")
        assert (await goes_on(one), await goes_on(two)) == (first, second)


@pytest.mark.parametrize(
    "changes",
    [
        *({"events": None}, {"events": {}}, {"events": [EVENT]}, {"nonce": "an ID token"}, {"sub": None}),
        *({"aud": "another"}, {"iss": "https://evil.example"}, {"exp": 1}, {"sub": ""}, {"jti": None}, {"sid": 1}),
    ],
    ids=str,
)
async def test_what_is_no_logout_token_ends_nothing(
    gateway: RunningGateway, provider: FakeOpenIdProvider, changes: dict[str, Any]
):
    async with await signed_in(gateway, provider, "s-1") as browser:
        assert (await told(gateway, provider.sign(claims(provider, **changes)))).status_code == 400
        assert await goes_on(browser)


async def test_a_stranger_ends_nothing(gateway: RunningGateway, provider: FakeOpenIdProvider):
    made = claims(provider)
    stranger = key_for("ES256")
    async with await signed_in(gateway, provider, "s-1") as browser:
        for token in (
            jwt.encode(made, None, "none"),
            jwt.encode(made, stranger, "ES256", headers={"kid": "one"}),
            "x",
            "",
            "x" * 100_000,
        ):
            assert (await told(gateway, token)).status_code == 400
        right = provider.sign(made)
        for name in ("github", "nobody", "password"):
            assert (await told(gateway, right, name)).status_code == 404
        twice = f"logout_token={right}&logout_token={right}"
        form = {"content-type": "application/x-www-form-urlencoded"}
        for body in (twice, "", "\xff", "a=1&" * 20, "x" * 200_000):
            answer = await gateway.client.post("/auth/oidc/backchannel-logout", content=body, headers=form)
            assert answer.status_code == 400
        assert await goes_on(browser)
