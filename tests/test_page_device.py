"""Approving a device on the page: what a link does by itself (nothing), and what the person is shown."""

import pytest
from playwright.async_api import Page, expect

from tests.support.browsers import sign_in
from tests.support.gateways import ADMIN, PASSWORD, Json, RunningGateway
from tests.test_devices import poll, start


@pytest.fixture
def gateway(used_gateway: RunningGateway) -> RunningGateway:
    """A gateway that the tests of this module share."""
    return used_gateway


async def asked(page: Page, gateway: RunningGateway, name: str) -> Json:
    """A device that waits, and the page on which the person, who has just signed in, sees who asks."""
    device = await start(gateway, name)
    await page.goto(device["verificationUriComplete"])
    await page.reload()
    await sign_in(page, ADMIN, PASSWORD)
    await expect(page.get_by_label("Code that the device shows")).to_have_value(device["userCode"])
    await page.get_by_role("button", name="Continue").click()
    await expect(page.locator(".secret code")).to_have_text(device["userCode"])
    return device


async def test_a_person_signs_in_sees_who_asks_and_approves(page: Page, gateway: RunningGateway):
    device = await asked(page, gateway, "the <b>laptop</b>")
    await expect(page.get_by_text("wants to sign in as you")).to_contain_text("the <b>laptop</b>")
    await expect(page.get_by_text("wants to sign in as you")).to_contain_text("127.0.0.1")
    assert (await poll(gateway, device))["code"] == "AUTHORIZATION_PENDING"
    await page.get_by_role("button", name="approve").click()
    await expect(page.get_by_role("status")).to_contain_text("is signed in as you")
    assert (await poll(gateway, device))["code"] == "SLOW_DOWN"


async def test_a_person_denies(page: Page, gateway: RunningGateway):
    device = await asked(page, gateway, "a stranger")
    await page.get_by_role("button", name="Deny").click()
    await expect(page.get_by_role("status")).to_have_text("a stranger was denied.")
    assert (await poll(gateway, device))["code"] == "ACCESS_DENIED"


async def test_a_code_that_nobody_shows_is_told_and_another_can_be_typed(page: Page, gateway: RunningGateway):
    await sign_in(page, ADMIN, PASSWORD)
    await page.get_by_text("Signed in as").wait_for()
    await page.goto(f"{gateway.url}/#device")
    device = await start(gateway, "a laptop")
    for code, seen in (("BBBB-BBBB", page.get_by_role("alert")), (device["userCode"].lower(), page.locator(".secret"))):
        await page.get_by_label("Code that the device shows").fill(code)
        await page.get_by_role("button", name="Continue").click()
        await expect(seen).to_be_visible()
