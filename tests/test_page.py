"""The built page in a real Chromium, against a real gateway.

Wants the fixture `gateway`: a running gateway that serves `web/dist` at `/` and has one backend, the fake model
server, with the fields `url` (no slash at the end), `admin_username` and `admin_password`.
"""

import json
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import httpx
import pytest
from graphql import GraphQLSchema, OperationDefinitionNode, build_schema, parse, validate
from graphql.execution import get_variable_values
from playwright.async_api import Browser, BrowserContext, Page, async_playwright

from tests.no_skips import under_ci

ROOT = Path(__file__).parent.parent
OPERATIONS = ROOT / "web" / "src" / "operations"
STARTERS: list[dict[str, Any]] = json.loads((OPERATIONS / "starters.json").read_text())

PACED = "fake:paced-64-20"
"""Slow enough for the page to show it growing, whatever the machine."""

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

GROWS = """() => {
  window.lengths ??= new Set();
  const answer = document.querySelector("[data-testid=answer]");
  return window.lengths.add(answer?.textContent.length ?? 0).size > 3;
}"""
STOPS_AT_FIRST_TEXT = """() => {
  if (!document.querySelector("[data-testid=answer]")?.textContent) return false;
  [...document.querySelectorAll("button")].find((button) => button.textContent === "Stop").click();
  return true;
}"""


class Gateway(Protocol):
    url: str
    admin_username: str
    admin_password: str


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


@pytest.fixture
async def context(browser: Browser) -> AsyncIterator[BrowserContext]:
    context = await browser.new_context()
    context.set_default_timeout(20_000)
    yield context
    await context.close()


@pytest.fixture
async def page(context: BrowserContext, gateway: Gateway) -> Page:
    """The page as it is when nobody has signed in."""
    page = await context.new_page()
    await page.goto(gateway.url)
    return page


@pytest.fixture
async def signed_in(page: Page, gateway: Gateway) -> Page:
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


async def open_graphiql(page: Page) -> None:
    await page.get_by_role("link", name="GraphiQL").click()
    await page.locator(".graphiql-query-editor .view-line").get_by_text("username").wait_for()


async def ask_graphiql(page: Page) -> str:
    """Run the first tab, the query `me`, and give the shown result."""
    await open_graphiql(page)
    await page.get_by_role("button", name="Execute query").click()
    await page.locator(".graphiql-response").get_by_text('"username"').wait_for()
    return await page.locator(".graphiql-response").inner_text()


async def use_everything(context: BrowserContext, gateway: Gateway) -> dict[str, str]:
    """Open the page, sign in and use both views. Gives the headers that the page came with."""
    page = await context.new_page()
    response = await page.goto(gateway.url)
    await sign_in(page, gateway.admin_username, gateway.admin_password)
    await run_prompt(page)
    await page.get_by_test_id("facts").get_by_text("Finished").wait_for()
    await ask_graphiql(page)
    assert response
    return response.headers


async def new_api_key(gateway: Gateway) -> str:
    """Make a key the way an app's owner does, over HTTP."""

    async def send(name: str, variables: dict[str, Any], headers: dict[str, str]) -> dict[str, Any]:
        body = {"query": (OPERATIONS / f"{name}.graphql").read_text(), "variables": variables}
        response = await client.post(f"{gateway.url}/graphql", json=body, headers=headers)
        return response.json()["data"]

    async with httpx.AsyncClient() as client:
        credentials = {"username": gateway.admin_username, "password": gateway.admin_password}
        login = await send("Login", {"input": credentials}, {})
        headers = {"authorization": f"Bearer {login['login']['accessToken']}"}
        created = await send("CreateApiKey", {"input": {"name": "page"}}, headers)
        return created["createApiKey"]["secret"]


def origins(context: BrowserContext) -> set[str]:
    """Begin to collect where requests, those of workers too, and WebSockets go. Data URLs go nowhere."""
    seen: set[str] = set()

    def note(url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("data", "blob"):
            seen.add(f"{parts.scheme}://{parts.netloc}")

    context.on("request", lambda request: note(request.url))
    context.on("page", lambda page: page.on("websocket", lambda socket: note(socket.url)))
    return seen


async def test_the_form_signs_in_and_the_page_shows_who_it_is(page: Page, gateway: Gateway):
    await sign_in(page, gateway.admin_username, gateway.admin_password)
    assert await page.get_by_text("Signed in as").inner_text() == f"Signed in as {gateway.admin_username}"


async def test_a_wrong_password_is_told_and_nobody_is_signed_in(page: Page, gateway: Gateway):
    await sign_in(page, gateway.admin_username, "not the password")
    assert "password" in await page.get_by_role("alert").inner_text()
    assert await page.get_by_text("Signed in as").count() == 0


async def test_an_api_key_signs_in(page: Page, gateway: Gateway):
    await page.get_by_role("button", name="Use an API key instead").click()
    await page.get_by_label("API key").fill(await new_api_key(gateway))
    await page.get_by_role("button", name="Sign in", exact=True).click()
    assert await page.get_by_text("Signed in as").inner_text() == f"Signed in as {gateway.admin_username}"


async def test_a_made_up_api_key_is_refused_with_the_reason(page: Page):
    await page.get_by_role("button", name="Use an API key instead").click()
    await page.get_by_label("API key").fill("made-up")
    await page.get_by_role("button", name="Sign in", exact=True).click()
    assert "does not accept this key" in await page.get_by_role("alert").inner_text()


async def test_a_token_that_no_longer_holds_brings_the_form_back_with_the_reason(
    context: BrowserContext, gateway: Gateway
):
    await context.add_init_script("sessionStorage.setItem('ollagraph:token', 'expired')")
    page = await context.new_page()
    await page.goto(gateway.url)
    await page.get_by_text("Your session has ended").wait_for()
    assert await page.get_by_label("Password").is_visible()


async def test_signing_out_leaves_nothing_in_the_browser(signed_in: Page):
    await ask_graphiql(signed_in)
    await signed_in.get_by_role("button", name="Sign out").click()
    await signed_in.get_by_label("Password").wait_for()
    assert await signed_in.evaluate("sessionStorage.length + localStorage.length") == 0


async def test_a_reload_keeps_the_session(signed_in: Page):
    await signed_in.reload()
    await signed_in.get_by_text("Signed in as").wait_for()


async def test_graphiql_runs_a_query_as_the_one_who_signed_in(signed_in: Page, gateway: Gateway):
    assert gateway.admin_username in await ask_graphiql(signed_in)


async def test_graphiql_runs_a_subscription_to_its_end(signed_in: Page):
    await open_graphiql(signed_in)
    await signed_in.get_by_role("tab", name="Stream").click()
    variables = signed_in.get_by_role("region", name="Variables").locator(".view-lines:visible")
    await variables.click()
    await signed_in.keyboard.press("ControlOrMeta+A")
    await signed_in.keyboard.insert_text(json.dumps({"input": {"model": PACED, "prompt": "Hello"}}))
    await signed_in.get_by_role("button", name="Execute query").click()
    await signed_in.locator(".graphiql-response").get_by_text('"GenerationCompleted"').wait_for()


async def test_an_answer_grows_while_it_streams(signed_in: Page):
    await run_prompt(signed_in)
    await signed_in.wait_for_function(GROWS)
    await signed_in.get_by_test_id("facts").get_by_text("Finished").wait_for()
    assert await signed_in.get_by_test_id("answer").text_content() == "".join(f"{number} " for number in range(64))


async def test_the_end_of_an_answer_tells_what_it_used(signed_in: Page):
    await run_prompt(signed_in)
    facts = signed_in.get_by_test_id("facts")
    await facts.get_by_text("tokens/s").wait_for()
    assert "64 completion tokens" in await facts.inner_text()


async def test_stop_ends_the_answer_early_and_tells_what_it_used(signed_in: Page):
    await run_prompt(signed_in)
    # Pressed inside the browser: the answer would not wait for a test that is slow to press.
    await signed_in.wait_for_function(STOPS_AT_FIRST_TEXT)
    facts = signed_in.get_by_test_id("facts")
    await facts.get_by_text("Stopped").wait_for()
    assert "completion token" in await facts.inner_text()


async def test_no_request_leaves_the_gateway(context: BrowserContext, gateway: Gateway):
    seen = origins(context)
    await use_everything(context, gateway)
    assert seen == {gateway.url, gateway.url.replace("http", "ws", 1)}


async def test_the_content_security_policy_lets_the_whole_page_work(context: BrowserContext, gateway: Gateway):
    logged: list[tuple[str, str]] = []
    context.on("console", lambda message: logged.append((message.type, message.text)))
    headers = await use_everything(context, gateway)
    errors = [text for kind, text in logged if kind == "error"]
    assert ("content-security-policy" in headers, errors) == (True, [])


@pytest.fixture(scope="module")
def sdl() -> GraphQLSchema:
    return build_schema((ROOT / "schema.graphql").read_text())


@pytest.mark.parametrize("path", sorted(OPERATIONS.glob("*.graphql")), ids=lambda path: path.stem)
def test_an_operation_of_the_page_fits_the_schema(path: Path, sdl: GraphQLSchema):
    assert validate(sdl, parse(path.read_text())) == []


@pytest.mark.parametrize("starter", STARTERS, ids=lambda starter: starter["operation"])
def test_the_variables_of_a_starter_fit_the_schema(starter: dict[str, Any], sdl: GraphQLSchema):
    document = parse((OPERATIONS / f"{starter['operation']}.graphql").read_text())
    (operation,) = (node for node in document.definitions if isinstance(node, OperationDefinitionNode))
    definitions = operation.variable_definitions or ()
    variables = starter.get("variables", {})
    assert set(variables) <= {definition.variable.name.value for definition in definitions}
    assert not isinstance(get_variable_values(sdl, definitions, variables), list)
