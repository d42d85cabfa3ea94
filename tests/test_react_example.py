"""The React example, built as its users build it, in a real Chromium on a site of its own."""

import json
import shutil
from collections.abc import AsyncIterator, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

import anyio
import pytest
from playwright.async_api import Browser, Page, expect

from tests.support.cut_proxy import CutProxy, cut_proxy
from tests.support.fake_model_server import FakeModelServer, Script
from tests.support.gateways import RunningGateway, gateway_settings, running_gateway
from tests.support.node import ROOT, node

REACT = ROOT / "examples" / "react"
TEXT = [f"{number}😀 " for number in range(20)]


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


async def npm(*arguments: str) -> None:
    """Run a command of the example. Skips the test where that cannot be."""
    command = shutil.which("npm", path=f"{Path(node()).parent}:{ROOT / '.venv' / 'bin'}") or shutil.which("npm")
    if command is None or not (REACT / "node_modules").is_dir():
        pytest.skip("the packages of the React example are not installed: run `make .make/react`")
    done = await anyio.run_process([command, "run", *arguments], cwd=REACT, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr).decode()


@pytest.fixture(scope="module")
async def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("react")
    await npm("build", "--", "--outDir", str(folder), "--logLevel", "warn")
    return folder


@pytest.fixture
def site(built: Path) -> Iterator[str]:
    """The origin that serves the example: not the gateway's."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(built))) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


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


async def test_the_operations_fit_the_schema():
    await npm("check")


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
    manifest = json.loads((REACT / "package.json").read_text())
    asked = manifest["dependencies"] | manifest["devDependencies"]
    packages = json.loads((REACT / "package-lock.json").read_text())["packages"]
    del packages[""]
    assert [name for name, version in asked.items() if packages[f"node_modules/{name}"]["version"] != version] == []
    assert [path for path, it in packages.items() if "integrity" not in it or "://" in it.get("resolved", "")] == []
