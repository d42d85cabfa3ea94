"""A real Chromium for tests, driven by Playwright."""

import os
import shutil
from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser, async_playwright

from tests.no_skips import under_ci

# Nothing but the gateway can be reached, so that a page that asks elsewhere fails here as on a closed network.
CHROMIUM_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
]


@pytest.fixture(scope="module")
def chromium() -> str:
    """The browser's path. Playwright's own build is not used: it cannot be had from a package registry."""
    path = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if path:
        return path
    missing = "needs Chromium: install Debian's package chromium, or name the program in CHROMIUM"
    pytest.fail(missing) if under_ci() else pytest.skip(missing)


@pytest.fixture(scope="module")
async def browser(chromium: str) -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_ARGUMENTS)
        yield browser
        await browser.close()
