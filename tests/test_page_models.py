"""What the page says and does while a model server does not answer."""

from contextlib import suppress
from datetime import datetime

import pytest
from playwright.async_api import Page
from playwright.async_api import TimeoutError as PlaywrightTimeout

from tests.support.browsers import look_away_and_back, run_prompt, sign_in
from tests.support.gateways import RunningGateway
from tests.support.generations import start


@pytest.fixture
def gateway(emptied_gateway: RunningGateway) -> RunningGateway:
    """One for all tests here, emptied before each of them."""
    return emptied_gateway


def take_away_models(gateway: RunningGateway) -> None:
    gateway.fake.replies["/api/tags"] = (500, b'{"error": "The disk is full."}')


async def test_a_model_server_that_does_not_answer_is_named_with_the_reason(page: Page, gateway: RunningGateway):
    take_away_models(gateway)
    await sign_in(page, gateway.admin_username, gateway.admin_password)
    await page.get_by_text("ollama does not answer: The disk is full.").wait_for()
    assert await page.get_by_text("There is no model yet").count() == 0
    assert not await page.get_by_role("button", name="Run").is_enabled()


async def test_the_models_come_by_themselves_when_their_server_is_back(page: Page, gateway: RunningGateway):
    take_away_models(gateway)
    await sign_in(page, gateway.admin_username, gateway.admin_password)
    trouble = page.get_by_text("ollama does not answer")
    await trouble.wait_for()
    gateway.fake.replies.clear()
    await trouble.wait_for(state="detached")
    await run_prompt(page, "fake:count-3")
    await page.get_by_test_id("facts").get_by_text("Finished").wait_for()


async def test_models_that_cannot_be_reached_stay_in_the_list_and_cannot_be_chosen(
    signed_in: Page, gateway: RunningGateway
):
    option = signed_in.get_by_role("option", name="fake:echo")
    await option.wait_for(state="attached")
    count_before = await signed_in.get_by_role("option").count()
    take_away_models(gateway)
    await look_away_and_back(signed_in)
    await signed_in.get_by_text("ollama does not answer").wait_for()
    await signed_in.get_by_role("option", name="fake:echo (not reachable)").wait_for(state="attached")
    options = await signed_in.get_by_role("option").all()
    told = [(await one.inner_text(), await one.is_disabled()) for one in options]
    assert told.pop(0) == ("No model can be reached", False)
    assert len(told) == count_before
    assert all(text.endswith("(not reachable)") and disabled for text, disabled in told)
    assert not await signed_in.get_by_role("button", name="Run").is_enabled()


async def test_a_person_need_not_wait_for_the_page_to_try_again(page: Page, gateway: RunningGateway):
    await page.clock.install()  # now time stands still in the page
    await page.clock.pause_at(datetime(2030, 1, 1))
    take_away_models(gateway)
    await sign_in(page, gateway.admin_username, gateway.admin_password)
    trouble = page.get_by_text("ollama does not answer")
    await trouble.wait_for()
    gateway.fake.replies.clear()
    while await trouble.count():
        with suppress(PlaywrightTimeout):  # the button may vanish while it is looked for
            await page.get_by_role("button", name="Try again").press("Enter", timeout=500)


async def test_the_page_fits_a_phone_with_all_that_can_go_wrong(page: Page, gateway: RunningGateway):
    await page.set_viewport_size({"width": 390, "height": 844})
    await sign_in(page, gateway.admin_username, gateway.admin_password)
    await run_prompt(page, "fake:error-3")
    await page.get_by_role("alert").wait_for()
    await start(gateway, "fake:stall-3", onDisconnect="CONTINUE")
    take_away_models(gateway)
    await look_away_and_back(page)
    await page.get_by_text("ollama does not answer").wait_for()
    await page.get_by_role("region", name="Running").wait_for()
    assert await page.evaluate("document.documentElement.scrollWidth") == 390
    gateway.fake.release()
