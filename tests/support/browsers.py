"""A real Chromium for tests, driven by Playwright."""

import os
import shutil
from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser, BrowserContext, Page, async_playwright

from tests.support.gateways import RunningGateway
from tests.support.no_skips import under_ci

# Nothing but the gateway can be reached, so that a page that asks elsewhere fails here as on a closed network. Without
# a process for graphics, and with functions compiled when they are called, a page takes a tenth less of the processor.
CHROMIUM_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--in-process-gpu",
    "--js-flags=--max-lazy",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
]


PACED = "fake:paced-64-20"
"""Slow enough for the page to show it growing, whatever the machine."""


@pytest.fixture(scope="session")
def chromium() -> str:
    """The browser's path. Playwright's own build is not used: it cannot be had from a package registry.

    The one without windows comes first: it takes a third less of the processor for the same pages.
    """
    for path in (os.environ.get("CHROMIUM"), shutil.which("chromium-headless-shell"), shutil.which("chromium")):
        if path:
            return path
    missing = "needs Chromium: install Debian's package chromium-headless-shell, or name the program in CHROMIUM"
    pytest.fail(missing) if under_ci() else pytest.skip(missing)


@pytest.fixture(scope="session")
async def browser(chromium: str) -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_ARGUMENTS)
        yield browser
        await browser.close()


@pytest.fixture
async def context(browser: Browser, gateway: RunningGateway) -> AsyncIterator[BrowserContext]:
    """A browser profile of its own. It wants the gateway so that it is closed before it."""
    context = await browser.new_context()
    context.set_default_timeout(20_000)
    yield context
    await context.close()


@pytest.fixture
async def page(context: BrowserContext, gateway: RunningGateway) -> Page:
    """The page as it is when nobody has signed in."""
    page = await context.new_page()
    await page.goto(gateway.url)
    return page


@pytest.fixture
async def signed_in(page: Page, gateway: RunningGateway) -> Page:
    await sign_in(page, gateway.admin_username, gateway.admin_password)
    await page.get_by_text("Signed in as").wait_for()
    return page


async def sign_in(page: Page, username: str, password: str) -> None:
    await page.get_by_label("User name").fill(username)
    await page.get_by_label("Password").fill(password)
    await page.get_by_role("button", name="Sign in", exact=True).click()


async def run_prompt(page: Page, model: str = PACED) -> None:
    await page.get_by_label("Model").select_option(model)
    await page.get_by_label("Prompt").fill("Hello")
    await page.get_by_role("button", name="Run").click()


async def look_away_and_back(page: Page) -> None:
    """Tell the page what a browser tells when its tab comes to the front."""
    await page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
