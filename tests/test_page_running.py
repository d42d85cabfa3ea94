"""Answers that outlive the page: found again after a reload, listed while they run, measured by the gateway."""

from collections.abc import Callable
from decimal import ROUND_HALF_UP, Decimal
from functools import partial
from pathlib import Path
from uuid import UUID

import anyio
import pytest
from playwright.async_api import BrowserContext, Page, Route, WebSocketRoute

from schema.node import global_id
from tests.support.browsers import look_away_and_back, run_prompt, sign_in
from tests.support.fake_model_server import FakeModelServer, Script, count
from tests.support.gateways import RunningGateway, gateway_settings, running_gateway
from tests.support.generations import COMPLETE, asking, look, none_runs, start


@pytest.fixture
def gateway(emptied_gateway: RunningGateway) -> RunningGateway:
    """One for all tests here, emptied before each of them."""
    return emptied_gateway


def as_browsers_round(number: float, step: str) -> Decimal:
    """Write a number as `toFixed` does: of two that are as near it takes the larger (ECMA-262, 21.1.3.3)."""
    return Decimal(number).quantize(Decimal(step), ROUND_HALF_UP)


async def test_a_reloaded_page_finds_its_running_answer_again(signed_in: Page, gateway: RunningGateway):
    gateway.fake.scripts["fake:echo"] = Script(count(5), stall=True, rest=["end"])
    await run_prompt(signed_in, "fake:echo")
    await signed_in.get_by_test_id("answer").get_by_text("0 1 2 3 4").wait_for()
    await signed_in.reload()
    await signed_in.get_by_test_id("answer").get_by_text("0 1 2 3 4").wait_for()
    gateway.fake.release()
    await signed_in.get_by_test_id("facts").get_by_text("Finished").wait_for()
    assert await signed_in.get_by_test_id("answer").inner_text() == "0 1 2 3 4 end"
    assert len(gateway.fake.requests) == 1


async def test_an_answer_that_was_started_elsewhere_can_be_watched_and_stopped(
    signed_in: Page, gateway: RunningGateway
):
    gateway.fake.scripts["fake:echo"] = Script(count(5), stall=True)
    await start(gateway, "fake:echo", onDisconnect="CONTINUE")
    await gateway.fake.request()
    await signed_in.reload()
    await signed_in.get_by_role("region", name="Running").get_by_role("button", name="Watch fake:echo").click()
    await signed_in.get_by_test_id("answer").get_by_text("0 1 2 3 4").wait_for()
    await signed_in.get_by_role("button", name="Stop").click()
    await signed_in.get_by_test_id("facts").get_by_text("Stopped").wait_for()


async def test_an_answer_that_ended_while_nobody_looked_is_shown_on_return(signed_in: Page, gateway: RunningGateway):
    gateway.fake.scripts["fake:echo"] = Script(count(5), stall=True, rest=["end"])
    await run_prompt(signed_in, "fake:echo")
    await signed_in.get_by_test_id("answer").get_by_text("0 1 2 3 4").wait_for()
    await signed_in.goto(f"{gateway.url}/healthz")
    gateway.fake.release()
    await (await gateway.fake.request()).ended.wait()
    await signed_in.goto(gateway.url)
    await signed_in.get_by_test_id("facts").get_by_text("Finished").wait_for()
    assert await signed_in.get_by_test_id("answer").inner_text() == "0 1 2 3 4 end"


async def test_after_a_reload_the_speed_is_still_the_gateways_measurement(signed_in: Page, gateway: RunningGateway):
    gateway.fake.scripts["fake:echo"] = Script(count(5), delay_ms=20, stall=True)
    await run_prompt(signed_in, "fake:echo")
    await signed_in.get_by_test_id("answer").get_by_text("0 1 2 3 4").wait_for()
    await signed_in.reload()
    await signed_in.get_by_test_id("answer").get_by_text("0 1 2 3 4").wait_for()
    gateway.fake.release()
    facts = signed_in.get_by_test_id("facts")
    await facts.get_by_text("tokens/s").wait_for()
    timings = "timings { tokensPerSecond timeToFirstTokenMs totalMs }"
    (node,) = (await gateway.run(f"{{ generations {{ nodes {{ {timings} }} }} }}"))["generations"]["nodes"]
    measured = node["timings"]
    assert (await facts.inner_text()).split(" · ")[3:] == [
        f"{as_browsers_round(measured['tokensPerSecond'], '0.1')} tokens/s",
        f"first token in {as_browsers_round(measured['timeToFirstTokenMs'] / 1000, '0.01')}\xa0s",
        f"{as_browsers_round(measured['totalMs'] / 1000, '0.01')}\xa0s in all",
    ]


async def hold_sockets(page: Page) -> Callable[[], None]:
    """Keep back what the gateway says of answers, until the function that this gives is called."""
    held: list[Callable[[], None]] = []
    released = False

    def relay(socket: WebSocketRoute) -> None:
        def pass_on(message: str | bytes) -> None:
            if released or "connection_ack" in str(message):
                socket.send(message)
            else:
                held.append(partial(socket.send, message))

        socket.connect_to_server().on_message(pass_on)

    def release() -> None:
        nonlocal released
        released = True
        for send in held:
            send()

    await page.route_web_socket("**/graphql", relay)
    return release


async def test_an_answer_found_again_never_replaces_one_just_started(signed_in: Page, gateway: RunningGateway):
    """The gateway tells of the old answer after the new one was asked for, and before it has said anything."""
    gateway.fake.scripts["fake:echo"] = Script(["old"], stall=True)
    await run_prompt(signed_in, "fake:echo")
    await signed_in.get_by_test_id("answer").get_by_text("old").wait_for()
    look_up = anyio.Event()

    async def hold(route: Route) -> None:
        if "query Running" in (route.request.post_data or ""):
            await look_up.wait()
        await route.continue_()

    await signed_in.route("**/graphql", hold)
    release = await hold_sockets(signed_in)
    await signed_in.reload()
    await run_prompt(signed_in, "fake:stall-3")
    await gateway.fake.request(1)
    look_up.set()
    await signed_in.get_by_role("region", name="Running").wait_for()
    release()
    await signed_in.get_by_test_id("answer").get_by_text("0 1 2").wait_for()
    await signed_in.get_by_role("button", name="Watch fake:echo").wait_for()


@pytest.mark.parametrize("id", [global_id("Generation", UUID(int=7)), "made-up"])
async def test_an_answer_that_is_gone_on_return_is_told_and_forgotten(signed_in: Page, id: str):
    await signed_in.evaluate("id => sessionStorage.setItem('ollagraph:watched', id)", id)
    await signed_in.reload()
    await signed_in.get_by_test_id("facts").get_by_text("can no longer be watched").wait_for()
    assert await signed_in.evaluate("sessionStorage.getItem('ollagraph:watched')") is None


async def test_an_answer_whose_text_is_no_longer_kept_tells_what_it_used(
    context: BrowserContext, sqlite_url: str, tmp_path: Path, fake: FakeModelServer
):
    settings = gateway_settings(tmp_path, sqlite_url, fake.url, stream_memory=0)
    async with running_gateway(settings, fake) as gateway:
        await gateway.run(COMPLETE, asking("fake:count-3"))
        await gateway.run(COMPLETE, asking("fake:count-3"))
        nodes = (await gateway.run("{ generations { nodes { id } } }"))["generations"]["nodes"]
        page = await context.new_page()
        await page.goto(gateway.url)
        await page.evaluate("id => sessionStorage.setItem('ollagraph:watched', id)", nodes[-1]["id"])
        await sign_in(page, gateway.admin_username, gateway.admin_password)
        await page.get_by_role("alert").get_by_text("no longer kept").wait_for()
        await page.get_by_test_id("facts").get_by_text("3 completion tokens").wait_for()
        await page.close()


async def test_an_answer_that_ended_leaves_the_list_of_what_is_running(signed_in: Page, gateway: RunningGateway):
    gateway.fake.scripts["fake:echo"] = Script(count(5), stall=True)
    await start(gateway, "fake:echo", onDisconnect="CONTINUE")
    await gateway.fake.request()
    await signed_in.reload()
    running = signed_in.get_by_role("region", name="Running")
    await running.wait_for()
    gateway.fake.release()
    await running.wait_for(state="detached")


async def test_looking_at_the_list_of_what_is_running_counts_as_watching_nothing(
    signed_in: Page, gateway: RunningGateway
):
    """An app that asks from time to time keeps its answer, although its own rule ends it with the last viewer."""
    gateway.fake.scripts["fake:echo"] = Script(count(5), stall=True)
    id = await start(gateway, "fake:echo", onDisconnect="CANCEL")
    await gateway.fake.request()
    await signed_in.reload()
    await signed_in.get_by_role("region", name="Running").wait_for()
    await signed_in.close()
    gateway.fake.release()
    await none_runs(gateway)
    assert (await look(gateway, id))["state"] == "COMPLETED"


async def test_what_was_started_elsewhere_is_listed_when_the_tab_is_looked_at_again(
    signed_in: Page, gateway: RunningGateway
):
    await signed_in.get_by_role("button", name="Run").wait_for()
    await start(gateway, "fake:stall-3", onDisconnect="CONTINUE")
    await look_away_and_back(signed_in)
    await signed_in.get_by_role("button", name="Watch fake:stall-3").wait_for()
    gateway.fake.release()
