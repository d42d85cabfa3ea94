"""What a person manages of their own on the page: password, sessions, API keys, and the link of an invitation."""

from collections.abc import AsyncIterator
from urllib.parse import quote

import pytest
from playwright.async_api import Page, expect

from tests.support.gateways import PASSWORD, RunningGateway
from tests.test_accounts import mutate

NEW_PASSWORD = "a lantern on the harbour wall"


@pytest.fixture
def gateway(emptied_gateway: RunningGateway) -> RunningGateway:
    """One for all tests here, emptied before each of them."""
    return emptied_gateway


@pytest.fixture(autouse=True)
async def settled(page: Page) -> AsyncIterator[None]:
    """Let the page load again what a test has changed, before it is closed in the middle of that."""
    yield
    await page.wait_for_load_state("networkidle")


async def opened(page: Page) -> Page:
    await page.get_by_role("link", name="Account").click()
    await page.get_by_role("heading", name="API keys").wait_for()
    return page


async def test_a_key_is_made_shown_once_and_revoked(signed_in: Page, gateway: RunningGateway):
    page = await opened(signed_in)
    await page.get_by_label("Name of a new key").fill("robot")
    await page.get_by_role("button", name="Create key").click()
    secret = await page.locator(".secret code").inner_text()
    gateway.token = secret
    assert (await gateway.run("{ viewer { apiKey { name } } }"))["viewer"] == {"apiKey": {"name": "robot"}}
    await page.get_by_role("button", name="Done").click()
    assert secret not in await page.content()
    await page.get_by_role("button", name="Revoke robot").click()
    await expect(page.get_by_text("There is no valid key.")).to_be_visible()
    assert (await gateway.post("{ me { id } }")).json()["errors"][0]["extensions"]["reason"] == "REVOKED_API_KEY"


async def test_a_rotated_key_shows_its_new_secret_and_until_when_the_old_one_works(
    signed_in: Page, gateway: RunningGateway
):
    await gateway.make_key("robot")
    page = await opened(signed_in)
    await page.get_by_role("button", name="Rotate robot").click()
    await expect(page.locator(".secret")).to_contain_text("The old secret works until")
    gateway.token = await page.locator(".secret code").inner_text()
    assert (await gateway.run("{ viewer { method } }"))["viewer"] == {"method": "API_KEY"}


async def test_another_session_is_ended_and_its_own_is_not(signed_in: Page, gateway: RunningGateway):
    page = await opened(signed_in)
    await expect(page.get_by_text("this session")).to_have_count(1)
    ends = page.get_by_role("button", name="End the session of python-httpx")
    for left in reversed(range(await ends.count())):
        await ends.first.click()
        await expect(ends).to_have_count(left)
    assert (await gateway.post("{ me { id } }")).json()["errors"][0]["extensions"]["reason"] == "REVOKED_SESSION"
    await page.reload()
    await page.get_by_text("Signed in as").wait_for()


async def test_a_password_is_changed_and_a_wrong_one_is_told(signed_in: Page, gateway: RunningGateway):
    page = await opened(signed_in)

    async def change(current: str, again: str = NEW_PASSWORD) -> None:
        await page.get_by_label("Current password").fill(current)
        await page.get_by_label("New password", exact=True).fill(NEW_PASSWORD)
        await page.get_by_label("New password, once more").fill(again)
        await page.get_by_role("button", name="Change password").click()

    await change(PASSWORD, "another one")
    await expect(page.get_by_role("alert")).to_have_text("The two new passwords are different.")
    await change("a wrong one")
    await expect(page.get_by_role("alert")).to_contain_text("wrong")
    await change(PASSWORD)
    await expect(page.get_by_text("Your password was changed.")).to_be_visible()
    gateway.token = None
    await gateway.sign_in(password=NEW_PASSWORD)
    await mutate(gateway, "changePassword", "user", currentPassword=NEW_PASSWORD, newPassword=PASSWORD)  # for others


async def test_who_is_invited_sets_a_password_and_signs_in(page: Page, gateway: RunningGateway):
    link = await gateway.run(
        'mutation { inviteUser(input: {username: "grace"}) { ... on InviteUserSuccess { link { token } } } }'
    )
    await page.goto(f"{gateway.url}/#set-password={quote(link['inviteUser']['link']['token'])}")
    await page.get_by_label("New password", exact=True).fill(NEW_PASSWORD)
    await page.get_by_label("New password, once more").fill(NEW_PASSWORD)
    await page.get_by_role("button", name="Set password").click()
    await expect(page.get_by_role("status")).to_have_text("Your password is set. Sign in as grace.")
    await page.get_by_label("User name").fill("grace")
    await page.get_by_label("Password").fill(NEW_PASSWORD)
    await page.get_by_role("button", name="Sign in").click()
    await page.get_by_text("Signed in as grace").wait_for()


async def test_who_must_change_their_password_does_that_first(page: Page, gateway: RunningGateway):
    await gateway.run(
        'mutation($p: String!) { createUser(input: {username: "ida", password: $p}) { __typename } }', {"p": PASSWORD}
    )
    await page.goto(gateway.url)
    await page.get_by_label("User name").fill("ida")
    await page.get_by_label("Password").fill(PASSWORD)
    await page.get_by_role("button", name="Sign in").click()
    await page.get_by_text("Choose a password of your own").wait_for()
    await page.get_by_label("Current password").fill(PASSWORD)
    await page.get_by_label("New password", exact=True).fill(NEW_PASSWORD)
    await page.get_by_label("New password, once more").fill(NEW_PASSWORD)
    await page.get_by_role("button", name="Change password").click()
    await page.get_by_text("Signed in as ida").wait_for()
