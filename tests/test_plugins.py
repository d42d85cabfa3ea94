"""Plugins: what they see, change and refuse, and that a bad one harms nobody."""

import asyncio
import logging
import shutil
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.protocol import TextChunk
from gateway.plugins import GenerationEnd, Plugin, PluginFailed, Plugins, PluginThread, UsageRecord
from gateway.plugins.filtering import Filters
from server.plugins import find_plugins
from tests.support.databases import SqliteDatabases
from tests.support.fake_model_server import running_fake_model_server
from tests.support.gateways import EVERY_MODEL, GraphQLErrors, Json, RunningGateway, gateway_settings, running_gateway
from tests.support.generations import COMPLETE, GENERATE, WATCH, asking, text_of
from tests.support.polling import pause

ROOT = Path(__file__).parent.parent
ALL_HOOKS = ROOT / "tests/support/plugins/all_hooks.py"
SHORT, LONG = 0.3, 60
"""Time limits in seconds: of a call that hangs, and of all others, on a machine however busy."""

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
async def shared(
    sqlite_databases: SqliteDatabases, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[RunningGateway]:
    """A gateway with the plugin that has every hook."""
    folder = tmp_path_factory.mktemp("plugins")
    shutil.copy(ALL_HOOKS, folder / "all_hooks.py")
    with sqlite_databases.fresh(folder) as url:
        async with running_fake_model_server() as fake:
            fake.models += EVERY_MODEL
            plugins = {"plugins_dir": folder, "plugins": {"all_hooks": {"a": "b"}}, "plugin_timeout": LONG}
            async with running_gateway(gateway_settings(folder, url, fake.url, **plugins), fake) as gateway:
                yield gateway


@pytest.fixture
async def gateway(shared: RunningGateway) -> RunningGateway:
    """The same, with its administrator signed in, and nothing told to the plugin."""
    await shared.be_administrator()
    return shared


def thread_of(gateway: RunningGateway) -> PluginThread:
    [thread] = gateway.app.running.plugins.threads
    return thread


async def told(gateway: RunningGateway, kind: str, generation_id: str | None = None) -> list[Any]:
    """What the plugin was told of a kind, once it was told the end of everything before."""
    thread = thread_of(gateway)
    while thread.waiting:  # noqa: ASYNC110 - it lives in another thread
        await anyio.sleep(0.005)
    return [value for name, value in thread.plugin.told if name == kind]  # pyright: ignore


async def complete(gateway: RunningGateway, prompt: str, model: str = "fake:echo", **fields: Any) -> Json:
    return (await gateway.run(COMPLETE, asking(model, prompt, **fields)))["generate"]


FILTERED = {"tags": [{"name": "filter", "value": "yes"}]}


async def test_a_request_is_changed_before_it_is_asked(gateway: RunningGateway):
    assert (await complete(gateway, "change"))["text"] == "something else"


async def test_a_request_is_refused_with_the_reason(gateway: RunningGateway):
    refused = await complete(gateway, "refuse")
    assert (refused["__typename"], refused["code"], refused["message"]) == (
        "RequestRefused", "REQUEST_REFUSED", "Not for admin.",
    )  # fmt: skip
    [event] = await gateway.events(GENERATE, asking("fake:echo", "refuse"))
    assert (event["__typename"], event["error"]["code"]) == ("GenerationRefused", "REQUEST_REFUSED")


@pytest.mark.parametrize("how", ["raise", "hang", "block", "exit", "cancel", "task that exits", "nonsense", "wrong"])
async def test_a_guard_that_fails_lets_nothing_through(gateway: RunningGateway, how: str):
    asked = len(gateway.fake.requests)
    with pytest.MonkeyPatch.context() as patch:
        if how in ("hang", "block"):
            patch.setattr(thread_of(gateway), "_timeout", SHORT)
        refused = await complete(gateway, how)
    assert (refused["__typename"], refused["code"]) == ("RequestRefused", "GUARD_FAILED")
    assert "sk-secret" not in str(refused)
    assert len(gateway.fake.requests) == asked
    assert (await complete(gateway, "and on"))["text"] == "and on"


async def test_a_key_stands_for_the_request_as_the_caller_made_it(gateway: RunningGateway):
    first = await complete(gateway, "change", idempotencyKey="k")
    again = await complete(gateway, "change", idempotencyKey="k")
    assert first["generation"]["id"] == again["generation"]["id"]


async def test_what_is_shown_went_through_the_filter_and_nothing_else_is_kept(gateway: RunningGateway):
    answer = await complete(gateway, "one two three", **FILTERED)
    assert answer["text"] == "ONE TWO THREE"
    usage = await gateway.run(
        "query($id: ID!) { generation(id: $id) { usage { completionTokens } } }", answer["generation"]
    )
    assert usage["generation"]["usage"]["completionTokens"] == 3
    seen = await gateway.events(WATCH, {"id": answer["generation"]["id"]})
    assert text_of(seen) == "ONE TWO THREE"


async def test_the_probabilities_of_what_was_changed_are_not_told(gateway: RunningGateway):
    query = GENERATE.replace("offset", "offset logprobs { token }", 1)
    events = await gateway.events(query, asking("fake:count-3", **FILTERED))
    assert [event.get("logprobs") for event in events if "text" in event] == [None] * len(
        [event for event in events if "text" in event]
    )


@pytest.mark.parametrize("how", ["fail", "hang"])
async def test_an_answer_whose_filter_fails_shows_nothing_more(
    gateway: RunningGateway, how: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(thread_of(gateway), "_timeout", SHORT if how == "hang" else LONG)
    answer = await complete(gateway, f"one two three {how} secret", **FILTERED)
    assert (answer["__typename"], answer["code"]) == ("GenerateFailure", "GUARD_FAILED")
    assert "secret" not in answer["text"].lower()


async def test_observers_are_told_what_happened_and_what_was_used(gateway: RunningGateway):
    id = (await complete(gateway, "one two", tags=[{"name": "after", "value": "it raises"}]))["generation"]["id"]
    ends: list[GenerationEnd] = await told(gateway, "end")
    usages: list[UsageRecord] = await told(gateway, "usage")
    assert (ends[-1].state, ends[-1].finish_reason, ends[-1].error_code) == ("COMPLETED", "stop", None)
    assert (usages[-1].prompt_tokens, usages[-1].completion_tokens) == (2, 2)
    assert usages[-1].generation.id == ends[-1].generation.id
    kinds = [kind for key, kind in await told(gateway, "event") if key == ends[-1].generation.id]
    assert (kinds[0], kinds[-1]) == ("Started", "Completed")
    assert id
    assert thread_of(gateway).failures["after_generate", "raised"] >= 1


async def test_sign_ins_and_backends_are_told(gateway: RunningGateway):
    login = 'mutation { login(input: {username: "admin", password: "wrong and wrong"}) { __typename } }'
    await gateway.run(login)
    signed = await told(gateway, "sign-in")
    assert (signed[-1].succeeded, signed[-1].username, signed[-1].code) == (False, "admin", "INVALID_CREDENTIALS")
    assert any(one.succeeded for one in signed)
    with anyio.fail_after(30):
        while not (changes := await told(gateway, "backend")):
            await gateway.run("{ models { name } }")  # a backend is asked when somebody wants to know
            await pause()
    assert (changes[0].backend, changes[0].answers) == ("ollama", True)


async def test_a_field_of_a_plugin_is_answered_to_callers_only_and_fails_alone(gateway: RunningGateway):
    assert (await gateway.run("{ motto }"))["motto"] == "admin: be kind"
    gateway.token = None
    with pytest.raises(GraphQLErrors, match="UNAUTHENTICATED"):
        await gateway.run("{ motto }")
    await gateway.be_administrator()
    with pytest.raises(GraphQLErrors) as caught:
        await gateway.run("{ broken }")
    assert "sk-secret" not in str(caught.value)
    assert "motto: String!" in (await gateway.client.get("/schema.graphql", headers=gateway.headers())).text


async def test_routes_of_plugins(gateway: RunningGateway):
    at = "/plugins/all_hooks"
    answer = await gateway.client.post(f"{at}/hello/you?a=b", content=b"abc", headers=gateway.headers())
    assert answer.text == "POST admin {'who': 'you'} {'a': 'b'} 3 set()"
    assert (await gateway.client.get(f"{at}/hello/you")).status_code == 401
    assert (await gateway.client.get(f"{at}/open")).text.startswith("GET nobody")
    assert (await gateway.client.post(f"{at}/open")).status_code in {404, 405}  # the page is behind it
    broken = await gateway.client.get(f"{at}/broken", headers=gateway.headers())
    assert (broken.status_code, "sk-secret" in broken.text) == (500, False)
    large = await gateway.client.post(f"{at}/hello/you", content=b"x" * 1_000_001, headers=gateway.headers())
    assert large.status_code == 413


@pytest.mark.parametrize("given", ["text", TextChunk(None), None])  # pyright: ignore[reportArgumentType]
async def test_a_filter_that_is_no_guard_and_gives_nonsense_is_left_out(given: Any):
    class Nonsense(Plugin):
        guards = False

        async def feed(self, pieces: Any) -> Any:
            return given if given is None else [given]

    thread = PluginThread("nonsense", plugin := Nonsense({}), 5)
    await thread.start()
    assert await Filters([(thread, plugin)]).feed([TextChunk("as it was")]) == [TextChunk("as it was")]  # pyright: ignore
    await thread.stop()


class Slow(Plugin):
    async def after_generate(self, end: Any) -> None:
        await anyio.sleep_forever()


async def test_an_observer_that_is_too_slow_misses_what_comes_and_keeps_nobody(caplog: pytest.LogCaptureFixture):
    thread = PluginThread("slow", Slow({}), 60)
    await thread.start()
    for _ in range(3_000):
        thread.tell("after_generate", None)
    assert thread.failures["after_generate", "dropped"] >= 1_999
    assert caplog.text.count("too slow") == 1
    thread.close()


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError])
async def test_an_observer_that_would_end_its_thread_is_told_what_comes_next(error: type[BaseException]):
    class Ending(Plugin):
        def __init__(self) -> None:
            self.told: list[int] = []

        async def on_event(self, generation: Any, events: Any) -> None:
            self.told.append(generation)
            if generation == 1:
                raise error
            if generation == 2:
                asyncio.get_running_loop().stop()

    thread = PluginThread("ending", plugin := Ending(), 5)
    await thread.start()
    for number in (1, 2, 3):
        thread.tell("on_event", number, ())
    await thread.stop()
    assert plugin.told == [1, 2, 3]
    assert thread.failures == {("on_event", "raised"): 1}


async def test_plugins_stop_all_at_once():
    together = threading.Barrier(2, timeout=30)

    class Waiting(Plugin):
        async def stop(self) -> None:
            together.wait()

    plugins = Plugins({"one": Waiting({}), "other": Waiting({})}, plugin_timeout=60)
    async with plugins.running():
        pass
    assert not plugins.failures()


HANGS_AT_ITS_END = """
import time, anyio
from gateway.plugins import Plugin, PluginThread

class Blocking(Plugin):
    async def stop(self):
        time.sleep(600)

async def main():
    thread = PluginThread("blocking", Blocking({}), 0.1)
    await thread.start()
    thread.stop_seconds = 0.1
    await thread.stop()

anyio.run(main)
"""


def test_a_plugin_that_hangs_does_not_keep_the_gateway_from_ending():
    subprocess.run([sys.executable, "-c", HANGS_AT_ITS_END], cwd=ROOT, timeout=30, check=True)


def example(name: str, tmp_path: Path, **settings: str) -> Plugin:
    chosen = gateway_settings(tmp_path, "sqlite://", None, plugins_dir=ROOT / "examples/plugins", plugins={
        "failure_webhook": {"url": "http://localhost"}, name: settings})  # fmt: skip
    return next(found.plugin for found in find_plugins(chosen) if found.name == name)


PERSONAL = ["jane.doe+x@mail.example.com", "DE89 3704 0044 0532 0130 00", "+49 170 1234567", "4111 1111 1111 1111"]
WORDS = st.sampled_from(["call ", "me ", "at ", "7 ", "or,", "\n", "A-1. ", "é"])


@given(st.data())
def test_the_redactor_shows_no_part_of_personal_data_however_it_is_cut(data: st.DataObject):
    redactor: Any = example("redactor", ROOT)
    parts = data.draw(st.lists(WORDS, max_size=12))
    at = data.draw(st.integers(0, len(parts)))
    secret = data.draw(st.sampled_from(PERSONAL))
    text = "".join([*parts[:at], " ", secret, " ", *parts[at:]])
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=30)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]

    async def shown() -> list[str]:
        filter = await redactor.output_filter(None, "")
        given: list[str] = []
        for piece in pieces:
            given += [it.text for it in await filter.feed([TextChunk(piece)])]
        return given + [it.text for it in await filter.end()]

    whole = "".join(asyncio.run(shown()))
    assert whole == redactor.pattern.sub("[redacted]", text)
    assert secret not in whole


async def test_a_prompt_for_a_group_comes_first(tmp_path: Path):
    from uuid import UUID

    from auth.principal import Principal
    from gateway.generation import GenerationRequest

    group = UUID(int=7)
    plugin = example("group_prompts", tmp_path, **{str(group): "Be brief.", "*": "Be kind."})
    request = GenerationRequest("m", "hello", system="Mine.")
    for groups, system in (((group,), "Be brief.\n\nMine."), ((), "Be kind.\n\nMine.")):
        caller = Principal(UUID(int=1), "ada", frozenset(), group_ids=groups)
        changed = await plugin.before_generate(caller, request)
        assert changed is not None
        assert changed.system == system


async def test_a_call_that_raises_is_logged_with_its_reason(caplog: pytest.LogCaptureFixture):
    class Raising(Plugin):
        async def before_generate(self, caller: Any, request: Any) -> None:
            raise ValueError("why")

    thread = PluginThread("raising", Raising({}), 1)
    await thread.start()
    with caplog.at_level(logging.ERROR), pytest.raises(PluginFailed):
        await thread.call("before_generate", None, None)
    assert "plugin raising: before_generate raised (ValueError)" in caplog.text
    await thread.stop()
