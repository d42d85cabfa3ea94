"""One list of models over all backends, also while some of them fail or are silent. Nobody waits for those."""

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from math import inf
from typing import Any

import anyio
import pytest

from backends.errors import BackendProtocolError
from backends.ollama.backend import OllamaBackend
from backends.openai import OpenAIBackend
from backends.protocol import ModelInfo
from gateway.catalog.catalog import Catalog, Model
from gateway.catalog.listing import DESCRIBED_AT_ONCE, Patience
from gateway.errors import ModelNotFound
from tests.support.fake_model_server import FakeModelServer, running_fake_model_server
from tests.support.polling import pause

ENDLESS = Patience(list=inf, first=inf, stale=0.01, shortest_pause=0)
"""Whoever waits for a silent backend waits for ever, and the test with them."""

HASTY = replace(ENDLESS, first=0.01)
"""A backend that does not answer at once is late."""

PATIENT = replace(ENDLESS, stale=inf)
"""The same for a backend that failed before."""

HANGS = 60
"""Seconds after which a test that hangs is given up."""


class Scene:
    """A catalog over an Ollama and an OpenAI backend, each on a fake server of its own."""

    def __init__(self, ollama: FakeModelServer, openai: FakeModelServer, make: Callable[..., Catalog]) -> None:
        self.ollama = ollama
        self.openai = openai
        self.backends = OllamaBackend("ollama", ollama.url), OpenAIBackend("openai", f"{openai.url}/v1", None)
        self.catalog = make(self.backends)

    async def names(self) -> list[str]:
        return [model.name for model in await self.catalog.models()]

    async def until(self, wanted: Callable[[list[Model]], bool]) -> list[Model]:
        """Ask until the models are as wanted; the scene gives up at some time."""
        while not wanted(models := await self.catalog.models()):
            await pause()
        return models

    async def begin(self) -> None:
        """Ask until both have answered, however hasty the catalog is."""
        await self.until(lambda models: len(models) == 4 and all(model.available for model in models))

    async def available(self) -> dict[str, bool]:
        return {model.name: model.available for model in await self.catalog.models()}


@asynccontextmanager
async def running_scene(max_age: float = 0, patience: Patience = ENDLESS) -> AsyncIterator[Scene]:
    async with running_fake_model_server() as ollama, running_fake_model_server() as openai:
        ollama.models, openai.models = ["a", "both"], ["both", "z"]
        async with AsyncExitStack() as life:
            life.enter_context(anyio.fail_after(HANGS))
            tasks = await life.enter_async_context(anyio.create_task_group())
            life.callback(tasks.cancel_scope.cancel)
            scene = Scene(ollama, openai, lambda backends: Catalog(backends, max_age, tasks, patience))
            for backend in scene.backends:
                life.push_async_callback(backend.aclose)
            yield scene


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    async with running_scene() as scene:
        yield scene


def fail(server: FakeModelServer) -> None:
    server.replies = {path: (503, b"{}") for path in ("/api/tags", "/v1/models", "/api/version")}


def fall_silent(server: FakeModelServer) -> None:
    server.silent = {"/api/tags", "/v1/models", "/api/version"}


# --- names ------------------------------------------------------------------------------------------------------------


async def test_of_two_models_of_one_name_the_second_bears_its_backends(scene: Scene):
    assert await scene.names() == ["a", "both", "openai/both", "z"]


async def test_a_model_is_found_by_each_of_its_names(scene: Scene):
    first, second = await scene.catalog.find("both"), await scene.catalog.find("openai/both")
    assert (first.backend.name, second.backend.name) == ("ollama", "openai")
    assert first.upstream_name == second.upstream_name == "both"


async def test_a_model_without_a_name_is_not_listed(scene: Scene):
    scene.ollama.models = ["", "a"]
    assert await scene.names() == ["a", "both", "z"]


async def test_a_list_that_is_young_is_not_asked_for_again():
    async with running_scene(max_age=3600) as scene:
        for _ in range(3):
            await scene.names()
        assert list(scene.ollama.asked).count("GET /api/tags") == 1


async def test_a_model_that_was_removed_is_not_found(scene: Scene):
    await scene.names()
    scene.ollama.models.remove("a")
    await scene.names()
    with pytest.raises(ModelNotFound, match="There is no model 'a'"):
        await scene.catalog.find("a")


async def test_a_model_that_was_just_added_is_found_although_the_list_is_young(scene: Scene):
    await scene.names()
    scene.ollama.models.append("new")
    assert (await scene.catalog.find("new")).backend.name == "ollama"


# --- backends that fail -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vanish", [fail, fall_silent])
async def test_models_of_a_backend_without_an_answer_stay_and_are_marked(vanish: Callable[[FakeModelServer], None]):
    async with running_scene(patience=HASTY) as scene:
        await scene.begin()
        vanish(scene.ollama)
        while await scene.available() != {"a": False, "both": True, "openai/both": True, "z": True}:
            await pause()


async def test_while_its_first_backend_fails_a_plain_name_means_the_others(scene: Scene):
    await scene.names()
    fail(scene.ollama)
    await scene.names()
    assert (await scene.catalog.find("both")).backend.name == "openai"


async def test_a_model_of_a_backend_that_fails_is_still_found(scene: Scene):
    await scene.names()
    fail(scene.ollama)
    await scene.names()
    found = await scene.catalog.find("a")
    assert (found.backend.name, found.available) == ("ollama", False)


async def test_a_backend_that_answers_again_lists_its_models_again():
    async with running_scene(patience=PATIENT) as scene:
        fail(scene.ollama)
        await scene.names()
        scene.ollama.replies = {}
        assert await scene.available() == {"a": True, "both": True, "openai/both": True, "z": True}


async def test_a_backend_that_failed_is_left_alone_for_a_while():
    async with running_scene(patience=replace(PATIENT, shortest_pause=3600, longest_pause=3600)) as scene:
        fail(scene.ollama)
        for _ in range(5):
            await scene.names()
        assert list(scene.ollama.asked).count("GET /api/tags") == 1


async def test_each_failure_doubles_the_pause_up_to_the_longest():
    async with running_scene(patience=replace(ENDLESS, shortest_pause=0.001, longest_pause=0.01)) as scene:
        fail(scene.ollama)
        while list(scene.ollama.asked).count("GET /api/tags") < 8:
            await scene.names()
            await pause()


async def test_a_model_of_a_backend_that_answers_again_is_found_without_a_pause():
    async with running_scene(patience=replace(PATIENT, shortest_pause=3600, longest_pause=3600)) as scene:
        fail(scene.ollama)
        await scene.names()
        scene.ollama.replies = {}
        assert (await scene.catalog.find("a")).available


async def test_the_refusal_names_those_that_could_not_be_asked(scene: Scene):
    fail(scene.openai)
    with pytest.raises(ModelNotFound, match="These backends do not answer now: openai"):
        await scene.catalog.find("none")


async def test_a_list_that_breaks_the_reader_breaks_nothing_else(scene: Scene):
    async def broken() -> list[Any]:
        raise ZeroDivisionError

    scene.backends[0].models = broken  # pyright: ignore[reportAttributeAccessIssue] - no server can bring this about
    assert await scene.names() == ["both", "z"]


# --- backends that are silent -----------------------------------------------------------------------------------------


async def test_at_first_a_silent_backend_holds_the_list_up_only_until_it_is_late():
    async with running_scene(patience=HASTY) as scene:
        fall_silent(scene.ollama)
        while await scene.names() != ["both", "z"]:
            await pause()


async def test_a_known_list_is_given_while_a_backend_is_silent():
    async with running_scene(max_age=1e-9) as scene:
        await scene.names()
        fall_silent(scene.ollama)
        assert await scene.names() == ["a", "both", "openai/both", "z"]


async def test_a_known_list_is_renewed_behind_the_one_that_is_given():
    async with running_scene(max_age=1e-9, patience=replace(ENDLESS, stale=0)) as scene:
        await scene.catalog.find("a")
        scene.ollama.models.append("new")
        while "new" not in await scene.names():
            await pause()


@pytest.mark.parametrize(("silent", "name"), [("ollama", "z"), ("openai", "a")])
async def test_a_model_of_a_backend_that_answers_waits_for_no_other(scene: Scene, silent: str, name: str):
    fall_silent(getattr(scene, silent))
    for _ in range(3):
        assert (await scene.catalog.find(name)).name == name


async def test_a_silent_backend_is_not_asked_again_while_it_is_being_asked():
    async with running_scene(patience=HASTY) as scene:
        fall_silent(scene.ollama)
        for _ in range(5):
            await scene.names()
            with pytest.raises(ModelNotFound, match="These backends do not answer now: ollama"):
                await scene.catalog.find("none")
        assert list(scene.ollama.asked).count("GET /api/tags") == 1


async def test_a_silent_backend_is_given_up_at_some_time_and_asked_anew():
    async with running_scene(patience=replace(HASTY, list=0.02)) as scene:
        fall_silent(scene.ollama)
        while list(scene.ollama.asked).count("GET /api/tags") < 3:
            await scene.names()
            await pause()
        scene.ollama.silent = set()
        while "a" not in await scene.names():
            await pause()


@pytest.mark.parametrize("vanish", [None, fail, fall_silent])
async def test_a_flood_of_unknown_names_asks_each_backend_once(vanish: Callable[[FakeModelServer], None] | None):
    async with running_scene(max_age=3600, patience=replace(ENDLESS, first=1)) as scene:
        if vanish is not None:
            vanish(scene.ollama)

        async def ask(number: int) -> None:
            with pytest.raises(ModelNotFound):
                await scene.catalog.find(f"none-{number}")

        async with anyio.create_task_group() as callers:
            for number in range(100):
                callers.start_soon(ask, number)
        assert list(scene.ollama.asked) == ["GET /api/tags"]
        assert scene.openai.asked.count("GET /v1/models") == 1


@pytest.mark.parametrize("vanish", [fail, fall_silent])
async def test_what_lost_its_backend_goes_on_at_one_that_answers(vanish: Callable[[FakeModelServer], None]):
    async with running_scene(patience=HASTY) as scene:
        await scene.begin()
        model = await scene.catalog.find("both")
        vanish(scene.ollama)
        places = await scene.catalog.serving(model)
        while not places:  # the other may have been late by chance
            places = await scene.catalog.serving(model)
        assert [place.backend.name for place in places] == ["openai"]


async def test_what_lost_its_backend_finds_it_again_without_a_pause():
    async with running_scene(patience=replace(PATIENT, shortest_pause=3600, longest_pause=3600)) as scene:
        model = await scene.catalog.find("a")
        fail(scene.ollama)
        assert await scene.catalog.serving(model) == []
        scene.ollama.replies = {}
        assert [place.backend.name for place in await scene.catalog.serving(model)] == ["ollama"]


def are_described(models: list[Model]) -> bool:
    return all(model.info.context_length is not None for model in models)


# --- descriptions -----------------------------------------------------------------------------------------------------


def be_old(server: FakeModelServer, models: Iterable[str]) -> None:
    """Have models that the list tells little about."""
    server.old_ollama = True
    server.models = list(models)


async def test_many_models_are_listed_before_they_are_described(scene: Scene):
    be_old(scene.ollama, (f"m{number}" for number in range(500)))
    scene.ollama.silent = {"/api/show"}
    assert (await scene.names())[:500] == scene.ollama.models


async def test_what_the_list_leaves_out_comes_later(scene: Scene):
    be_old(scene.ollama, ["a", "b"])
    scene.openai.models = []
    for model in await scene.until(are_described):
        assert (model.info.context_length, model.info.capabilities) == (4096, {"completion", "tools"})


async def test_a_server_is_asked_about_a_few_models_at_once(scene: Scene):
    be_old(scene.ollama, (f"m{number}" for number in range(50)))
    scene.ollama.silent = {"/api/show"}
    await scene.names()
    await scene.ollama.was_asked("POST /api/show", DESCRIBED_AT_ONCE)
    for _ in range(5):
        await scene.names()
    assert list(scene.ollama.asked).count("POST /api/show") == DESCRIBED_AT_ONCE


async def test_a_model_is_asked_about_once(scene: Scene):
    be_old(scene.ollama, ["a", "b"])
    scene.openai.models = []
    await scene.until(are_described)
    await scene.names()
    assert list(scene.ollama.asked).count("POST /api/show") == 2


async def test_a_server_that_describes_nothing_is_not_asked_about_all_its_models():
    async with running_scene(max_age=3600) as scene:
        be_old(scene.ollama, (f"m{number}" for number in range(100)))
        scene.ollama.replies = {"/api/show": (500, b'{"error": "no"}')}
        await scene.names()
        for _ in range(100):  # in this time it could be asked about each of them
            await scene.catalog.health()
        assert list(scene.ollama.asked).count("POST /api/show") < 20


async def test_a_model_that_cannot_be_described_keeps_no_other_from_it():
    async with running_scene() as scene:
        be_old(scene.ollama, ["a", "b"])
        describe = scene.backends[0].describe

        async def describe_all_but_a(info: ModelInfo) -> ModelInfo:
            if info.name == "a":
                raise BackendProtocolError("The model server sent malformed JSON.")
            return await describe(info)

        scene.backends[0].describe = describe_all_but_a  # pyright: ignore[reportAttributeAccessIssue]
        await scene.until(lambda models: any(model.name == "b" and model.info.context_length for model in models))


# --- health -----------------------------------------------------------------------------------------------------------


async def test_health_tells_of_each_backend_by_itself(scene: Scene):
    fail(scene.openai)
    ollama, openai = await scene.catalog.health()
    assert (ollama.name, ollama.error, ollama.latency_ms is not None) == ("ollama", None, True)
    assert (openai.name, openai.error is not None, openai.latency_ms) == ("openai", True, None)


async def test_health_is_told_within_the_time_that_its_asker_has(scene: Scene):
    fall_silent(scene.ollama)
    ollama, _ = await scene.catalog.health(0.05)
    assert ollama.error == "The model server did not answer within 0.05 s."


async def test_a_backend_that_is_gone_is_not_healthy():
    async with AsyncExitStack() as life, anyio.create_task_group() as tasks:
        server = await life.enter_async_context(running_fake_model_server())
        backend = OllamaBackend("ollama", server.url)
        await life.aclose()
        (health,) = await Catalog([backend], 0, tasks).health()
        await backend.aclose()
    assert health.error == "The model server cannot be reached."
