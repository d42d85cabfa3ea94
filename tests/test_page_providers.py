"""Signing in at an identity provider from the page, in a browser that decides about cookies and redirects itself."""

import os
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from playwright.async_api import Page
from sqlalchemy import update

from db.clock import now
from db.tables import Session
from tests.support.fake_model_server import FakeModelServer
from tests.support.gateways import PASSWORD, RunningGateway, gateway_settings, running_gateway
from tests.support.identity.browsing import ADA
from tests.support.identity.openid import CLIENT_ID
from tests.support.identity.real_provider import running_real_provider


@pytest.fixture(scope="module")
def provider() -> Iterator[str]:
    with running_real_provider(sub="u-1", **ADA) as url:
        yield url


@pytest.fixture
async def gateway(
    sqlite_url: str, tmp_path: Path, fake: FakeModelServer, provider: str
) -> AsyncIterator[RunningGateway]:
    settings = gateway_settings(
        tmp_path,
        sqlite_url,
        fake.url,
        oidc_issuer=provider,
        oidc_client_id=CLIENT_ID,
        oidc_client_secret="any",
        oidc_label="Acme",
    )
    async with running_gateway(settings, fake) as gateway:
        yield gateway


async def test_a_person_signs_in_at_the_provider_and_stays_signed_in(page: Page, gateway: RunningGateway):
    await page.get_by_role("link", name="Sign in with Acme").focus()
    await page.keyboard.press("Enter")
    await page.locator("input[name=sub]").fill("u-1")
    await page.locator("button[type=submit], input[type=submit]").first.click()
    await page.get_by_text("Signed in as ada").wait_for()
    assert page.url.rstrip("/") == gateway.url
    await page.reload()
    await page.get_by_text("Signed in as ada").wait_for()


async def test_what_went_wrong_is_a_sentence_once_and_nothing_of_the_address(page: Page, gateway: RunningGateway):
    for code, sentence in (("cancelled", "was cancelled"), ("any-thing", "did not work")):
        await page.goto(f"{gateway.url}/?{code}#sign-in-error={code}")
        assert sentence in await page.get_by_role("alert").inner_text()
        await page.wait_for_url(f"{gateway.url}/?{code}")


async def test_a_person_links_the_provider_to_their_account_and_unlinks_it(signed_in: Page, gateway: RunningGateway):
    page = signed_in
    await page.get_by_role("link", name="Account").click()
    await page.get_by_role("button", name="Link Acme").click()
    await page.locator("input[name=sub]").fill("u-1")
    await page.locator("button[type=submit], input[type=submit]").first.click()
    await page.get_by_role("button", name="Unlink Acme").wait_for()
    assert page.url == f"{gateway.url}/#account"
    if folder := os.environ.get("SCREENSHOTS"):
        await page.screenshot(path=f"{folder}/linked.png", full_page=True)
    await page.get_by_role("button", name="Unlink Acme").click()
    await page.get_by_text("No identity provider is linked.").wait_for()


async def test_a_link_that_came_to_nothing_is_told_in_the_account(signed_in: Page, gateway: RunningGateway):
    await signed_in.goto(f"{gateway.url}/?again#link-error=taken")
    await signed_in.get_by_text("belongs to another user").wait_for()
    await signed_in.wait_for_url(f"{gateway.url}/?again#account")


async def test_an_old_sign_in_is_asked_for_the_password(signed_in: Page, gateway: RunningGateway):
    async with gateway.database.transaction() as tx:
        await tx.execute(update(Session).values(created_at=now() - timedelta(hours=1)))
    await signed_in.get_by_role("link", name="Account").click()
    await signed_in.get_by_role("button", name="Link Acme").click()
    await signed_in.get_by_label("Your sign-in is some time ago").fill(PASSWORD)
    await signed_in.get_by_role("button", name="Link Acme").click()
    await signed_in.locator("input[name=sub]").wait_for()


async def test_signing_out_ends_the_session_at_the_provider(page: Page, gateway: RunningGateway, provider: str):
    await page.get_by_role("link", name="Sign in with Acme").click()
    await page.locator("input[name=sub]").fill("u-1")
    await page.locator("button[type=submit], input[type=submit]").first.click()
    await page.get_by_text("Signed in as ada").wait_for()
    await page.get_by_role("button", name="Sign out").click()
    await page.wait_for_url(lambda url: url.startswith(provider))
