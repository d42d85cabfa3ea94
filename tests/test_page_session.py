"""The page stays signed in by a cookie that no script can read, and keeps its access token in memory alone."""

import pytest
from playwright.async_api import BrowserContext, Page, Response, Route
from sqlalchemy import select, update

from db.clock import now
from db.tables import Session
from tests.support.browsers import look_away_and_back, run_prompt
from tests.support.gateways import RunningGateway

COOKIE = "ollagraph_session"
STORED = "() => JSON.stringify([{...sessionStorage}, {...localStorage}, document.cookie])"
SPENT = '{"errors": [{"message": "x", "extensions": {"code": "UNAUTHENTICATED", "reason": "EXPIRED_TOKEN"}}]}'


@pytest.fixture
def gateway(emptied_gateway: RunningGateway) -> RunningGateway:
    """One for all tests here, emptied before each of them."""
    return emptied_gateway


async def cookie(context: BrowserContext) -> str:
    [found] = [it for it in await context.cookies() if it.get("name") == COOKIE]
    assert (found.get("httpOnly"), found.get("sameSite")) == (True, "Strict")
    return found.get("value", "")


async def is_signed_in(page: Page) -> None:
    await page.get_by_text("Signed in as").wait_for()


async def sessions(gateway: RunningGateway) -> list[Session]:
    """The sessions that the page began; another one is the test's own."""
    async with gateway.database.reading() as reading:
        return list(await reading.scalars(select(Session).where(Session.client.contains("Chrom"))))


async def test_a_reload_keeps_the_session_and_no_script_can_read_a_token(signed_in: Page, gateway: RunningGateway):
    before = await cookie(signed_in.context)
    await signed_in.reload()
    await is_signed_in(signed_in)
    stored = await signed_in.evaluate(STORED)
    assert "eyJ" not in stored
    assert "olr_" not in stored
    assert await cookie(signed_in.context) != before
    assert len(await sessions(gateway)) == 1


async def test_another_tab_is_signed_in_and_both_go_on(signed_in: Page, gateway: RunningGateway):
    other = await signed_in.context.new_page()
    await other.goto(gateway.url)
    for page in (other, signed_in, other):
        await page.reload()
        await is_signed_in(page)
    assert [it.revoke_reason for it in await sessions(gateway)] == [None]


async def refuse_its_token(page: Page) -> list[str]:
    """Refuse the token that the page has as one that has expired; gives the tokens sent."""
    tokens: list[str] = []

    async def answer(route: Route) -> None:
        token = route.request.headers.get("authorization")
        if token is None:
            return await route.continue_()
        tokens.append(token)
        if token == tokens[0]:
            return await route.fulfill(status=401, content_type="application/json", body=SPENT)
        return await route.continue_()

    await page.route("**/graphql", answer)
    return tokens


async def test_an_expired_token_is_renewed_and_the_request_sent_again(signed_in: Page):
    tokens = await refuse_its_token(signed_in)

    def has_another(answer: Response) -> bool:
        return bool(tokens) and answer.request.headers.get("authorization") not in (None, tokens[0])

    async with signed_in.expect_response(has_another) as answered:
        await look_away_and_back(signed_in)
    assert (await answered.value).ok
    await is_signed_in(signed_in)


async def test_a_session_that_is_revoked_brings_the_form_back(signed_in: Page, gateway: RunningGateway):
    await run_prompt(signed_in, "fake:stall-3")
    await signed_in.get_by_test_id("answer").get_by_text("0 1 2").wait_for()
    async with gateway.database.transaction() as tx:
        await tx.execute(update(Session).where(Session.client.contains("Chrom")).values(revoked_at=now()))
    await signed_in.get_by_text("Your session has ended").wait_for()
    assert await signed_in.get_by_label("Password").is_visible()
    assert await signed_in.context.cookies() == []


async def test_signing_out_ends_the_session_at_the_gateway(signed_in: Page, gateway: RunningGateway):
    other = await signed_in.context.new_page()
    await signed_in.get_by_role("button", name="Sign out").click()
    await signed_in.get_by_label("Password").wait_for()
    assert [it.revoke_reason for it in await sessions(gateway)] == ["SIGNED_OUT"]
    await other.goto(gateway.url)
    await other.get_by_label("Password").wait_for()


async def test_who_cannot_be_signed_out_is_told(signed_in: Page):
    await signed_in.route("**/graphql", lambda route: route.abort())
    await signed_in.get_by_role("button", name="Sign out").click()
    assert "You are still signed in." in await signed_in.get_by_role("alert").first.inner_text()
