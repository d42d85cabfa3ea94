"""The built page in a real Chromium, against a whole gateway. `make page` builds it."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from graphql import GraphQLSchema, OperationDefinitionNode, build_schema, parse, validate
from graphql.execution import get_variable_values
from playwright.async_api import Browser, BrowserContext, Page

from server.graphql.introspection import OFF
from tests.support.browsers import run_prompt, sign_in
from tests.support.fake_model_server import FakeModelServer, Script, count
from tests.support.gateways import RunningGateway, gateway_settings, running_gateway


@pytest.fixture
def gateway(emptied_gateway: RunningGateway) -> RunningGateway:
    """One for all tests here, emptied before each of them."""
    return emptied_gateway


ROOT = Path(__file__).parent.parent
OPERATIONS = ROOT / "web" / "src" / "operations"
STARTERS: list[dict[str, Any]] = json.loads((OPERATIONS / "starters.json").read_text())

REVOKE = "mutation($id: ID!) { revokeApiKey(input: {id: $id}) { ... on UserError { message } } }"

# Functions and not expressions: those would be evaluated in the page, which its policy forbids.
STREAM_IS_READ = "() => sessionStorage.getItem('graphiql:query')?.includes('subscription Stream')"
GROWS = """() => {
  window.lengths ??= new Set();
  const answer = document.querySelector("[data-testid=answer]");
  return window.lengths.add(answer?.textContent.length ?? 0).size > 3;
}"""


def source(operation: str) -> str:
    return (OPERATIONS / f"{operation}.graphql").read_text()


async def sign_in_with_key(page: Page, key: str) -> None:
    await page.get_by_role("button", name="Use an API key instead").click()
    await page.get_by_label("API key").fill(key)
    await page.get_by_role("button", name="Sign in", exact=True).click()


async def open_graphiql(page: Page) -> None:
    await page.get_by_role("link", name="GraphiQL").click()
    await page.locator(".graphiql-query-editor .view-line").get_by_text("username").wait_for()


async def ask_graphiql(page: Page) -> str:
    """Run the first tab, the query `me`, and give the shown result."""
    await open_graphiql(page)
    await page.get_by_role("button", name="Execute query").click()
    await page.locator(".graphiql-response").get_by_text('"username"').wait_for()
    return await page.locator(".graphiql-response").inner_text()


async def use_everything(context: BrowserContext, gateway: RunningGateway) -> dict[str, str]:
    """Open the page, sign in and use both views. Gives the headers that the page came with."""
    page = await context.new_page()
    response = await page.goto(gateway.url)
    await sign_in(page, gateway.admin_username, gateway.admin_password)
    await run_prompt(page)
    await page.get_by_test_id("facts").get_by_text("Finished").wait_for()
    await ask_graphiql(page)
    assert response
    return response.headers


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


async def test_the_form_signs_in_and_the_page_shows_who_it_is(page: Page, gateway: RunningGateway):
    await sign_in(page, gateway.admin_username, gateway.admin_password)
    assert await page.get_by_text("Signed in as").inner_text() == f"Signed in as {gateway.admin_username}"


async def test_a_wrong_password_is_told_and_nobody_is_signed_in(page: Page, gateway: RunningGateway):
    await sign_in(page, gateway.admin_username, "not the password")
    assert "password" in await page.get_by_role("alert").inner_text()
    assert await page.get_by_text("Signed in as").count() == 0


async def test_an_api_key_signs_in(page: Page, gateway: RunningGateway):
    await sign_in_with_key(page, (await gateway.make_key())["secret"])
    assert await page.get_by_text("Signed in as").inner_text() == f"Signed in as {gateway.admin_username}"


async def test_a_made_up_api_key_is_refused_with_the_reason(page: Page):
    await sign_in_with_key(page, "made-up")
    assert "does not accept this key" in await page.get_by_role("alert").inner_text()


async def test_a_key_that_no_longer_holds_brings_the_form_back_with_the_reason(
    context: BrowserContext, gateway: RunningGateway
):
    await context.add_init_script("sessionStorage.setItem('ollagraph:key', 'expired')")
    page = await context.new_page()
    await page.goto(gateway.url)
    await page.get_by_text("Your session has ended").wait_for()
    assert await page.get_by_label("Password").is_visible()


async def test_a_key_that_is_revoked_while_an_answer_streams_brings_the_form_back(page: Page, gateway: RunningGateway):
    key = await gateway.make_key()
    await sign_in_with_key(page, key["secret"])
    await run_prompt(page, "fake:stall-3")
    await page.get_by_test_id("answer").get_by_text("0 1 2").wait_for()
    await gateway.run(REVOKE, {"id": key["apiKey"]["id"]})
    await page.get_by_text("Your session has ended").wait_for()


async def test_signing_out_leaves_nothing_in_the_browser(signed_in: Page):
    await ask_graphiql(signed_in)
    await signed_in.get_by_role("button", name="Sign out").click()
    await signed_in.get_by_label("Password").wait_for()
    assert await signed_in.evaluate("sessionStorage.length + localStorage.length") == 0
    assert await signed_in.context.cookies() == []


async def test_graphiql_runs_a_query_as_the_one_who_signed_in(signed_in: Page, gateway: RunningGateway):
    assert gateway.admin_username in await ask_graphiql(signed_in)


async def test_graphiql_runs_a_starter_subscription_to_its_end(signed_in: Page, gateway: RunningGateway):
    """Its variables name the first model that the gateway has."""
    gateway.fake.models[:] = ["zebra"]
    gateway.fake.scripts["zebra"] = Script(count(3))
    await open_graphiql(signed_in)
    await signed_in.get_by_role("tab", name="Stream").click()
    # GraphiQL reads the operation of a tab a moment after showing it, and tells by storing it.
    await signed_in.wait_for_function(STREAM_IS_READ)
    await signed_in.get_by_role("button", name="Execute query").click()
    await signed_in.locator(".graphiql-response").get_by_text('"GenerationCompleted"').wait_for()


async def test_graphiql_says_that_introspection_is_off_and_runs_all_the_same(
    browser: Browser, sqlite_url: str, tmp_path: Path, fake: FakeModelServer
):
    settings = gateway_settings(tmp_path, sqlite_url, fake.url, introspection="off")
    async with running_gateway(settings, fake) as gateway:
        context = await browser.new_context()
        page = await context.new_page()
        await page.goto(gateway.url)
        await sign_in(page, gateway.admin_username, gateway.admin_password)
        assert gateway.admin_username in await ask_graphiql(page)
        assert OFF in await page.locator(".explorer").get_by_role("note").inner_text()
        await context.close()


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


async def test_stop_ends_the_answer_and_tells_what_it_used(signed_in: Page):
    await run_prompt(signed_in, "fake:stall-3")
    await signed_in.get_by_test_id("answer").get_by_text("0 1 2").wait_for()
    await signed_in.get_by_role("button", name="Stop").click()
    facts = signed_in.get_by_test_id("facts")
    await facts.get_by_text("Stopped").wait_for()
    assert "3 completion tokens" in await facts.inner_text()


async def test_an_answer_that_fails_keeps_its_text_and_tells_the_reason(signed_in: Page):
    await run_prompt(signed_in, "fake:error-3")
    assert "failed on purpose" in await signed_in.get_by_role("alert").inner_text()
    assert await signed_in.get_by_test_id("answer").text_content() == "0 1 2 "


async def test_the_whole_page_asks_its_gateway_alone_and_fits_its_content_security_policy(
    context: BrowserContext, gateway: RunningGateway
):
    seen = origins(context)
    logged: list[tuple[str, str]] = []
    context.on("console", lambda message: logged.append((message.type, message.text)))
    headers = await use_everything(context, gateway)
    errors = [text for kind, text in logged if kind == "error"]
    assert ("content-security-policy" in headers, errors) == (True, [])
    assert seen == {gateway.url, gateway.url.replace("http", "ws", 1)}


@pytest.fixture(scope="module")
def sdl() -> GraphQLSchema:
    return build_schema((ROOT / "schema.graphql").read_text())


@pytest.mark.parametrize("path", sorted(OPERATIONS.glob("*.graphql")), ids=lambda path: path.stem)
def test_an_operation_of_the_page_fits_the_schema(path: Path, sdl: GraphQLSchema):
    assert validate(sdl, parse(path.read_text())) == []


@pytest.mark.parametrize("starter", STARTERS, ids=lambda starter: starter["operation"])
def test_the_variables_of_a_starter_fit_the_schema(starter: dict[str, Any], sdl: GraphQLSchema):
    document = parse(source(starter["operation"]))
    (operation,) = (node for node in document.definitions if isinstance(node, OperationDefinitionNode))
    definitions = operation.variable_definitions or ()
    variables = {name: {"model": "zebra"} | value for name, value in starter.get("variables", {}).items()}
    assert set(variables) <= {definition.variable.name.value for definition in definitions}
    assert not isinstance(get_variable_values(sdl, definitions, variables), list)
