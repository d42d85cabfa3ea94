"""Where a model is served: what each backend has of it, has loaded, and is doing."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import orjson
import pytest

from tests.support.fake_model_server import FakeModelServer, running_fake_model_server
from tests.support.gateways import Json, RunningGateway, gateway_settings, running_gateway
from tests.support.generations import START, asking

DEPLOYMENTS = """
{ models { name deployments {
  backend available digest sizeBytes modifiedAt loaded sizeVramBytes loadedUntil contextLength running waiting
} } }
"""
LOADED = {"name": "m:1", "size_vram": 5_000_000_000, "expires_at": "2318-03-04T05:06:07.123456789+02:00"}
HANGS = 60
"""Seconds after which a test that hangs is given up."""


@pytest.fixture
async def two(sqlite_url: str, tmp_path: Path, fake: FakeModelServer) -> AsyncIterator[tuple[RunningGateway, Any]]:
    """A gateway before an Ollama and another server, which make one answer at once."""
    async with running_fake_model_server() as other:
        other.models, fake.models = ["m:1", "other"], ["m:1", "fake:hold-3"]
        settings = gateway_settings(
            tmp_path, sqlite_url, fake.url, openai_url=other.url, ollama_parallel=1, openai_parallel=1
        )
        async with running_gateway(settings, fake) as gateway:
            yield gateway, other


def loads(fake: FakeModelServer, *listed: Json) -> None:
    fake.replies["/api/ps"] = (200, orjson.dumps({"models": listed}))


async def deployments(gateway: RunningGateway) -> dict[str, list[Json]]:
    return {model["name"]: model["deployments"] for model in (await gateway.run(DEPLOYMENTS))["models"]}


async def test_a_model_has_a_deployment_for_each_backend_and_its_own_comes_first(two: tuple[RunningGateway, Any]):
    gateway, _ = two
    found = {name: [it["backend"] for it in places] for name, places in (await deployments(gateway)).items()}
    assert found == {
        "m:1": ["ollama", "openai"],
        "openai/m:1": ["openai", "ollama"],
        "fake:hold-3": ["ollama"],
        "other": ["openai"],
    }


async def test_a_deployment_tells_what_ollama_has_loaded(two: tuple[RunningGateway, Any]):
    gateway, _ = two
    loads(gateway.fake, {**LOADED, "context_length": 8192})
    found = await deployments(gateway)
    ollama, openai = found["m:1"]
    loaded = {name: ollama[name] for name in ("loaded", "sizeVramBytes", "loadedUntil", "contextLength")}
    assert loaded == {
        "loaded": True,
        "sizeVramBytes": 5_000_000_000,
        "loadedUntil": "2318-03-04T05:06:07.123456+02:00",
        "contextLength": 8192,
    }
    assert [openai[name] for name in loaded] == [None] * 4
    assert [found["fake:hold-3"][0][name] for name in loaded] == [False, None, None, None]


async def test_what_is_loaded_is_asked_once_for_all_models_and_only_where_it_is_selected(gateway: RunningGateway):
    loads(gateway.fake)
    await gateway.run("{ models { deployments { backend running digest } } }")
    assert "GET /api/ps" not in gateway.fake.asked
    await gateway.run("{ a: models { deployments { loaded loadedUntil } } b: models { deployments { loaded } } }")
    assert list(gateway.fake.asked).count("GET /api/ps") == 1


@pytest.mark.parametrize(
    ("reply", "loaded"),
    [
        ((500, b'{"error": "no"}'), None),
        ((404, b""), None),
        ((200, b"<html>"), None),
        ((200, b'{"models": [5, {"name": "m:1", "expires_at": 7, "size_vram": -1}]}'), True),
    ],
)
async def test_a_server_that_tells_it_badly_costs_no_error(
    two: tuple[RunningGateway, Any], reply: tuple[int, bytes], loaded: bool | None
):
    gateway, _ = two
    gateway.fake.replies["/api/ps"] = reply
    ollama, _ = (await deployments(gateway))["m:1"]
    assert [ollama[name] for name in ("loaded", "sizeVramBytes", "loadedUntil")] == [loaded, None, None]


async def test_a_silent_server_is_waited_for_only_so_long(
    two: tuple[RunningGateway, Any], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("gateway.catalog.catalog.LOADED_SECONDS", 0.05)
    gateway, _ = two
    gateway.fake.silent = {"/api/ps"}
    with anyio.fail_after(HANGS):
        assert (await deployments(gateway))["m:1"][0]["loaded"] is None


async def test_running_and_waiting_generations_are_counted_for_each_backend(two: tuple[RunningGateway, Any]):
    gateway, _ = two
    for _ in range(3):
        await gateway.run(START, asking("fake:hold-3", onDisconnect="CONTINUE"))
    found = await deployments(gateway)
    assert [(it["backend"], it["running"], it["waiting"]) for it in found["m:1"]] == [
        ("ollama", 1, 2),
        ("openai", 0, 0),
    ]
    gateway.fake.release()
