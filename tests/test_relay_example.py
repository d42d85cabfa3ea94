"""The Relay example: its compiler and TypeScript check it against the schema, and it runs in a real Chromium."""

from pathlib import Path

from playwright.async_api import Browser, expect

from tests.support.example_pages import build, loose_packages, npm, served
from tests.support.fake_model_server import FakeModelServer
from tests.support.gateways import gateway_settings, running_gateway


async def test_the_operations_fit_the_schema():
    await npm("relay", "check")


async def test_it_streams_an_answer_and_pages_through_the_history(
    browser: Browser, tmp_path: Path, sqlite_url: str, fake: FakeModelServer
):
    with served(await build("relay", tmp_path / "site")) as site:
        settings = gateway_settings(tmp_path, sqlite_url, fake.url, cors_origins=[site])
        async with running_gateway(settings, fake) as gateway:
            context = await browser.new_context()
            context.set_default_timeout(20_000)
            page = await context.new_page()
            await page.goto(f"{site}/?gateway={gateway.url}/graphql")
            await page.get_by_label("API key").fill((await gateway.make_key())["secret"])
            await page.get_by_role("button", name="Sign in").click()
            history = page.get_by_label("History").get_by_role("listitem")
            rows: list[str] = []
            for tokens in (3, 5, 3):
                await page.get_by_label("Model").fill(f"fake:count-{tokens}")
                await page.get_by_role("button", name="Ask").click()
                await expect(page.get_by_role("status")).to_have_text(f"STOP: {tokens} tokens")
                rows.insert(0, f"fake:count-{tokens}: COMPLETED, {tokens} tokens")
                await expect(history).to_have_text(rows[:2])
            await page.get_by_role("button", name="More").click()
            await expect(history).to_have_text(rows)
            await page.get_by_label("Model").fill("no-such-model")
            await page.get_by_role("button", name="Ask").click()
            await expect(page.get_by_role("status")).to_have_text(
                "There is no model 'no-such-model'. The query `models` lists those that you may use."
            )
            await context.close()


def test_the_packages_are_exact_and_name_no_host():
    assert loose_packages("relay") == []
