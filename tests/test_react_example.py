"""The React example, built as its users build it, in a real Chromium on a site of its own."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Browser, Page, expect

from tests.support.cut_proxy import CutProxy, cut_proxy
from tests.support.example_pages import build, check_types, loose_packages, served
from tests.support.fake_model_server import FakeModelServer, Script
from tests.support.gateways import RunningGateway, gateway_settings, running_gateway

TEXT = [f"{number}😀 " for number in range(20)]


@pytest.fixture(scope="module")
async def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return await build("react", tmp_path_factory.mktemp("react"))


@pytest.fixture
def site(built: Path) -> Iterator[str]:
    """The origin that serves the example: not the gateway's."""
    with served(built) as origin:
        yield origin


@pytest.fixture
async def gateway(site: str, tmp_path: Path, sqlite_url: str, fake: FakeModelServer) -> AsyncIterator[RunningGateway]:
    """A gateway that the site may call."""
    settings = gateway_settings(tmp_path, sqlite_url, fake.url, cors_origins=[site])
    async with running_gateway(settings, fake) as gateway:
        yield gateway


@pytest.fixture
async def proxy(gateway: RunningGateway) -> AsyncIterator[CutProxy]:
    async with cut_proxy(urlsplit(gateway.url).port or 0) as proxy:
        yield proxy


@pytest.fixture
async def page(browser: Browser, site: str, gateway: RunningGateway, proxy: CutProxy) -> AsyncIterator[Page]:
    """The example, with a key, about to ask for a story that stalls after its 20 words."""
    gateway.fake.scripts["story"] = Script(TEXT, stall=True, rest=["end"])
    gateway.fake.models.append("story")
    context = await browser.new_context()
    context.set_default_timeout(20_000)
    page = await context.new_page()
    await page.goto(f"{site}/?gateway=http://127.0.0.1:{proxy.port}/graphql")
    await page.get_by_label("API key").fill((await gateway.make_key())["secret"])
    await page.get_by_label("Model").fill("story")
    yield page
    await context.close()


async def shows(page: Page, text: str) -> None:
    await expect(page.get_by_label("Answer")).to_have_text(text.rstrip(), timeout=20_000)


async def ended(page: Page, how: str) -> None:
    await expect(page.get_by_role("status")).to_have_text(how, timeout=20_000)


@pytest.mark.usefixtures("built")
async def test_the_operations_fit_the_schema():
    await check_types("react")


async def test_an_answer_comes_whole_though_the_connection_is_cut(page: Page, gateway: RunningGateway, proxy: CutProxy):
    await page.get_by_role("button", name="Ask").click()
    await shows(page, "".join(TEXT))
    proxy.cut()
    await proxy.connection()
    gateway.fake.release()
    await shows(page, "".join(TEXT) + "end")
    await ended(page, "STOP: 21 tokens")
    assert len(gateway.fake.requests) == 1


async def test_a_reloaded_tab_finds_its_answer_again(page: Page, gateway: RunningGateway):
    await page.get_by_role("button", name="Ask").click()
    await shows(page, "".join(TEXT))
    await page.reload()
    await shows(page, "".join(TEXT))
    gateway.fake.release()
    await ended(page, "STOP: 21 tokens")
    assert len(gateway.fake.requests) == 1


async def test_an_answer_can_be_cancelled(page: Page, gateway: RunningGateway):
    await page.get_by_role("button", name="Ask").click()
    await shows(page, "".join(TEXT))
    await page.get_by_role("button", name="Cancel").click()
    await ended(page, "CANCELLED: 52 tokens")  # an emoji in each piece, which no model says in one token
    request = await gateway.fake.request()
    await request.ended.wait()
    assert request.left


async def test_a_refusal_is_told(page: Page):
    await page.get_by_label("Model").fill("no-such-model")
    await page.get_by_role("button", name="Ask").click()
    await ended(page, "There is no model 'no-such-model'. The query `models` lists those that you may use.")


def test_the_packages_are_exact_and_name_no_host():
    assert loose_packages("react") == []
