"""One list of models over all backends, also while some of them are silent."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from backends.ollama import OllamaBackend
from backends.openai import OpenAIBackend
from gateway.catalog import Catalog
from gateway.errors import ModelNotFound
from tests.fake_model_server import FakeModelServer, running_fake_model_server


class Scene:
    """A catalog over an Ollama and an OpenAI backend, each on a fake server of its own."""

    def __init__(self, ollama: FakeModelServer, openai: FakeModelServer, max_age: float) -> None:
        self.ollama = ollama
        self.openai = openai
        self.backends = OllamaBackend("ollama", ollama.url), OpenAIBackend("openai", f"{openai.url}/v1", None)
        self.catalog = Catalog(self.backends, max_age)

    async def names(self) -> list[str]:
        return [model.name for model in await self.catalog.models()]


@asynccontextmanager
async def running_scene(max_age: float) -> AsyncIterator[Scene]:
    async with running_fake_model_server() as ollama, running_fake_model_server() as openai:
        ollama.models, openai.models = ["a", "both"], ["both", "z"]
        scene = Scene(ollama, openai, max_age)
        yield scene
        for backend in scene.backends:
            await backend.aclose()


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    async with running_scene(max_age=0) as scene:
        yield scene


@pytest.fixture
async def scene_that_remembers() -> AsyncIterator[Scene]:
    async with running_scene(max_age=3600) as scene:
        yield scene


def fall_silent(server: FakeModelServer) -> None:
    server.replies = {path: (503, b"{}") for path in ("/api/tags", "/v1/models", "/api/version")}


async def test_of_two_models_of_one_name_the_second_bears_its_backends(scene: Scene):
    assert await scene.names() == ["a", "both", "openai/both", "z"]


async def test_a_model_is_found_by_each_of_its_names(scene: Scene):
    first, second = await scene.catalog.find("both"), await scene.catalog.find("openai/both")
    assert (first.backend.name, second.backend.name) == ("ollama", "openai")
    assert first.backend_name == second.backend_name == "both"


async def test_a_list_that_is_young_is_not_asked_for_again(scene_that_remembers: Scene):
    for _ in range(3):
        await scene_that_remembers.names()
    assert list(scene_that_remembers.ollama.asked).count("GET /api/tags") == 1


async def test_a_silent_backend_lists_nothing_and_disturbs_no_other(scene: Scene):
    await scene.names()
    fall_silent(scene.ollama)
    assert await scene.names() == ["both", "z"]


async def test_a_model_of_a_backend_that_fell_silent_is_still_found(scene: Scene):
    await scene.names()
    fall_silent(scene.ollama)
    assert (await scene.catalog.find("a")).backend.name == "ollama"


async def test_a_backend_that_speaks_again_lists_its_models_again(scene: Scene):
    fall_silent(scene.ollama)
    await scene.names()
    scene.ollama.replies = {}
    assert await scene.names() == ["a", "both", "openai/both", "z"]


async def test_a_model_that_was_removed_is_not_found(scene: Scene):
    await scene.names()
    scene.ollama.models.remove("a")
    with pytest.raises(ModelNotFound, match="There is no model 'a'"):
        await scene.catalog.find("a")


async def test_the_refusal_names_those_that_could_not_be_asked(scene: Scene):
    fall_silent(scene.openai)
    with pytest.raises(ModelNotFound, match="Without an answer now: openai"):
        await scene.catalog.find("none")


async def test_health_tells_of_each_backend_by_itself(scene: Scene):
    fall_silent(scene.openai)
    ollama, openai = await scene.catalog.health()
    assert (ollama.name, ollama.error, ollama.latency_ms is not None) == ("ollama", None, True)
    assert (openai.name, openai.error is not None, openai.latency_ms) == ("openai", True, None)


async def test_a_backend_that_is_gone_is_not_healthy():
    async with AsyncExitStack() as life:
        server = await life.enter_async_context(running_fake_model_server())
        backend = OllamaBackend("ollama", server.url)
        await life.aclose()
        (health,) = await Catalog([backend], 0).health()
        await backend.aclose()
    assert health.error == "The model server cannot be reached."
