"""The page's debug view in a real Chromium: what was sent, what came, and a connection lost on purpose."""

import pytest
from playwright.async_api import Page

from tests.support.browsers import run_prompt
from tests.support.fake_model_server import Script, count
from tests.support.gateways import RunningGateway


@pytest.fixture
def gateway(emptied_gateway: RunningGateway) -> RunningGateway:
    """One for all tests here, emptied before each of them."""
    return emptied_gateway


async def test_requests_events_and_the_socket_are_told_and_the_connection_can_be_lost(
    signed_in: Page, gateway: RunningGateway
):
    gateway.fake.scripts["fake:echo"] = Script(count(3), stall=True)
    await run_prompt(signed_in, "fake:echo")
    await signed_in.get_by_test_id("answer").get_by_text("0 1 2").wait_for()
    await signed_in.get_by_role("link", name="Debug").click()
    debug = signed_in.get_by_role("region", name="Debug")
    await debug.get_by_text("subscription Stream: begun").wait_for()
    await debug.get_by_text("query Me: HTTP 200").first.wait_for()
    await debug.get_by_text("GenerationStarted 1").wait_for()
    assert await debug.get_by_test_id("socket").inner_text() == "connected"
    await debug.get_by_role("button", name="Simulate a lost connection").click()
    await debug.get_by_role("cell", name="closed (code 4499)").wait_for()
    await debug.get_by_text("subscription WatchGeneration: begun").wait_for()
    gateway.fake.release()
    await signed_in.get_by_role("link", name="Try it").click()
    await signed_in.get_by_test_id("facts").get_by_text("Finished").wait_for()
    await signed_in.get_by_role("link", name="Debug").click()
    await debug.get_by_role("button", name="Clear").click()
    await debug.get_by_text("Nothing was sent yet.").wait_for()
