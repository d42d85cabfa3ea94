"""A model is found by every way to write its name that Ollama takes, and goes by the name that lists it."""

from collections.abc import AsyncIterator

import anyio
import pytest

from backends.ollama.backend import OllamaBackend
from backends.openai import OpenAIBackend
from gateway.catalog.catalog import Catalog, Model
from gateway.catalog.model_names import plain_name
from gateway.errors import ModelNotFound
from tests.support.fake_model_server import FakeModelServer, Script, running_fake_model_server
from tests.support.gateways import RunningGateway
from tests.support.generations import COMPLETE, asking

WRITTEN = [
    "llama3",
    "LLAMA3",
    "Llama3:Latest",
    "llama3:latest",
    "library/llama3",
    "Library/LLAMA3:latest",
    "registry.ollama.ai/library/llama3",
    "https://registry.ollama.ai/library/llama3:latest",
    "ollama/llama3",
    "ollama/library/llama3:latest",
    "OLLAMA/llama3:latest",
]
OTHERS = [
    "llama",
    "llama3:",
    "llama3:8b",
    "lib/llama3",
    "someone/llama3",
    "elsewhere/library/llama3",
    "/llama3",
    "ollama/",
]


class Scene:
    """A catalog over an Ollama and another server, which list what a test wants."""

    def __init__(self, ollama: FakeModelServer, openai: FakeModelServer, catalog: Catalog) -> None:
        self.ollama = ollama
        self.openai = openai
        self.catalog = catalog

    async def found(self, name: str) -> tuple[str, str, str]:
        """The listed name, the backend, and what that one calls it."""
        model: Model = await self.catalog.find(name)
        return model.name, model.backend.name, model.upstream_name


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    async with running_fake_model_server() as ollama, running_fake_model_server() as openai:
        backends = OllamaBackend("ollama", ollama.url), OpenAIBackend("openai", openai.url)
        async with anyio.create_task_group() as tasks:
            yield Scene(ollama, openai, Catalog(backends, 0, tasks))
            tasks.cancel_scope.cancel()
        for backend in backends:
            await backend.aclose()


@pytest.mark.parametrize("name", WRITTEN)
async def test_every_way_to_write_a_name_means_the_listed_model(scene: Scene, name: str):
    scene.ollama.models, scene.openai.models = ["other:7b", "llama3:latest"], ["x"]
    assert await scene.found(name) == ("llama3:latest", "ollama", "llama3:latest")


@pytest.mark.parametrize("name", OTHERS)
async def test_another_name_does_not_mean_it(scene: Scene, name: str):
    scene.ollama.models, scene.openai.models = ["llama3:latest"], ["x"]
    with pytest.raises(ModelNotFound):
        await scene.catalog.find(name)


@pytest.mark.parametrize(
    ("name", "suggestions"),
    [
        ("lama3", ["llama3:latest", "llama2:latest"]),
        ("LLAMA33:latest", ["llama3:latest", "llama2:latest"]),
        ("quen:7b", ["qwen:7b"]),
        ("gpt-5", []),
        ("x" * 100_000, []),
    ],
)
async def test_an_unknown_name_suggests_the_listed_ones_that_are_most_like_it(
    scene: Scene, name: str, suggestions: list[str]
):
    scene.ollama.models, scene.openai.models = ["llama2:latest", "llama3:latest"], ["qwen:7b"]
    with pytest.raises(ModelNotFound) as refusal:
        await scene.catalog.find(name)
    assert refusal.value.suggestions == suggestions


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("someone/Model", "someone/model:latest"),
        ("hf.co/Org/Model-GGUF:Q4_K_M", "hf.co/org/model-gguf:q4_k_m"),
        ("localhost:5000/library/m", "localhost:5000/library/m:latest"),
        ("registry.ollama.ai/someone/m:1b", "someone/m:1b"),
        ("http://registry.ollama.ai/library/m", "m:latest"),
    ],
)
def test_what_is_left_out_is_what_ollama_puts_in(name: str, plain: str):
    assert plain_name(name) == plain


@pytest.mark.parametrize("both", [True, False])
@pytest.mark.parametrize("name", ["m:latest", "m", "M"])
async def test_a_backends_name_may_stand_before_each_of_its_models(scene: Scene, name: str, both: bool):
    scene.ollama.models, scene.openai.models = ["m:latest"], ["m:latest"] if both else ["z"]
    assert await scene.found(f"ollama/{name}") == ("m:latest", "ollama", "m:latest")
    scene.ollama.models, scene.openai.models = ["m:latest"] if both else ["z"], ["m:latest"]
    listed = "openai/m:latest" if both else "m:latest"
    assert await scene.found(f"openai/{name}") == (listed, "openai", "m:latest")


async def test_an_exact_name_comes_before_a_backends_and_before_another_way_to_write_it(scene: Scene):
    scene.ollama.models = ["x:latest", "meta-llama/llama-3:latest", "Foo:latest"]
    scene.openai.models = ["ollama/x", "meta-llama/Llama-3", "foo"]
    assert await scene.found("ollama/x") == ("ollama/x", "openai", "ollama/x")
    assert await scene.found("meta-llama/Llama-3") == ("meta-llama/Llama-3", "openai", "meta-llama/Llama-3")
    assert await scene.found("foo") == ("foo", "openai", "foo")
    assert await scene.found("ollama/x:latest") == ("x:latest", "ollama", "x:latest")
    assert await scene.found("FOO") == ("Foo:latest", "ollama", "Foo:latest")


async def test_a_name_with_slashes_may_have_its_backends_before_it(scene: Scene):
    scene.ollama.models, scene.openai.models = ["z"], ["meta-llama/Llama-3"]
    assert await scene.found("openai/meta-llama/Llama-3") == ("meta-llama/Llama-3", "openai", "meta-llama/Llama-3")


async def test_no_listed_model_is_hidden_by_a_name_of_the_gateways(scene: Scene):
    scene.ollama.models, scene.openai.models = ["m"], ["m", "openai/m"]
    listed = [model.name for model in await scene.catalog.models()]
    assert listed == ["m", "openai/openai/m", "openai/m"]
    assert [await scene.found(name) for name in listed] == [
        ("m", "ollama", "m"),
        ("openai/openai/m", "openai", "m"),
        ("openai/m", "openai", "openai/m"),
    ]


async def test_while_the_first_backend_fails_another_way_to_write_a_name_means_the_others(scene: Scene):
    scene.ollama.models, scene.openai.models = ["m:latest"], ["m:latest"]
    await scene.catalog.models()
    scene.ollama.replies = {"/api/tags": (503, b"{}")}
    await scene.catalog.models()
    assert await scene.found("M") == ("m:latest", "openai", "m:latest")
    assert await scene.found("ollama/m") == ("m:latest", "ollama", "m:latest")


async def test_what_lost_its_backend_goes_on_where_the_model_is_listed_in_another_way(scene: Scene):
    scene.ollama.models, scene.openai.models = ["m:latest"], ["m"]
    places = await scene.catalog.serving(await scene.catalog.find("m:latest"))
    assert [(place.backend.name, place.upstream_name) for place in places] == [("ollama", "m:latest"), ("openai", "m")]


# --- through the API --------------------------------------------------------------------------------------------------

RECORDS = """{
  generations(first: 10, filter: {model: "LLAMA3"}) { nodes { model { name } } }
  model(name: "library/llama3") { name id }
  usage(input: {groupBy: [MODEL]}) { rows { nodes { model totals { generations } } } }
}"""


@pytest.mark.parametrize("name", ["llama3", "LIBRARY/Llama3", "ollama/llama3:LATEST"])
async def test_the_server_and_every_record_have_the_listed_name(gateway: RunningGateway, name: str):
    gateway.fake.models = ["llama3:latest"]
    gateway.fake.scripts["llama3:latest"] = Script(["hi"])
    answer = await gateway.run(COMPLETE, asking(name))
    assert answer["generate"]["text"] == "hi"
    assert gateway.fake.requests[0].model == "llama3:latest"
    records = await gateway.run(RECORDS)
    assert records["generations"]["nodes"] == [{"model": {"name": "llama3:latest"}}]
    assert records["model"]["name"] == "llama3:latest"
    assert records["usage"]["rows"]["nodes"] == [{"model": "llama3:latest", "totals": {"generations": 1}}]


@pytest.mark.parametrize(
    ("name", "path"), [("ollama/fake:echo", "/api/chat"), ("openai/fake:echo", "/v1/chat/completions")]
)
async def test_the_backends_name_decides_who_is_asked(double: RunningGateway, name: str, path: str):
    answer = await double.run(COMPLETE, asking(name))
    assert answer["generate"]["text"] == "one two three"
    assert [(request.path, request.model) for request in double.fake.requests] == [(path, "fake:echo")]
