"""What the page says while a model server is left alone."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Page

from tests.support.browsers import run_prompt
from tests.support.fake_model_server import FakeModelServer
from tests.support.gateways import RunningGateway, gateway_settings, running_gateway
from tests.support.generations import GENERATE, asking


@pytest.fixture
async def gateway(sqlite_url: str, tmp_path: Path, fake: FakeModelServer) -> AsyncIterator[RunningGateway]:
    """One that has just begun to leave its model server alone."""
    fake.models = ["fake:status-500", "fake:count-3"]
    settings = gateway_settings(tmp_path, sqlite_url, fake.url, breaker_failures=1, breaker_pause=60)
    async with running_gateway(settings, fake) as gateway:
        await gateway.events(GENERATE, asking("fake:status-500"))
        yield gateway


async def test_a_model_server_that_is_left_alone_is_named_until_it_answers_again(
    signed_in: Page, gateway: RunningGateway
):
    await signed_in.get_by_text("ollama failed at several answers in a row and is left alone for a while.").wait_for()
    gateway.fake.replies["/api/tags"] = (500, b'{"error": "The disk is full."}')
    await signed_in.get_by_text("ollama does not answer").wait_for()
    gateway.fake.replies.clear()  # it came back, so it need not wait for the end of the pause
    tried = signed_in.get_by_text("ollama failed at several answers in a row and is tried again with the next prompt.")
    await tried.wait_for()
    await run_prompt(signed_in, "fake:count-3")
    await tried.wait_for(state="detached")
