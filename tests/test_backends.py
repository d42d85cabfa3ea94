"""Model servers and their models as the API tells of them, also while one fails or is silent."""

import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import orjson
import pytest

from tests.support.fake_model_server import FakeModelServer, running_fake_model_server
from tests.support.gateways import GraphQLErrors, RunningGateway, gateway_settings, running_gateway
from tests.support.polling import pause

HANGS = 60
"""Seconds after which a test that hangs is given up."""

LOOK = "{ models { name available deployments { backend available } } backends { name kind ready error latencyMs } }"


@pytest.fixture
async def two(sqlite_url: str, tmp_path: Path, fake: FakeModelServer) -> AsyncIterator[tuple[RunningGateway, Any]]:
    """A gateway before two servers, Ollama's and another, with lists that may be a little old."""
    async with running_fake_model_server() as other:
        other.models, fake.models = ["other"], ["fake:count-3"]
        settings = gateway_settings(tmp_path, sqlite_url, fake.url, openai_url=other.url, models_max_age=0.001)
        async with running_gateway(settings, fake) as gateway:
            yield gateway, other


async def test_the_api_tells_which_backend_does_not_answer_and_why(two: tuple[RunningGateway, FakeModelServer]):
    gateway, other = two
    await gateway.run(LOOK)
    other.replies = {"/v1/models": (500, b'{"error": "no disk at http://10.0.0.1/ for sk-12"}')}
    told = await gateway.run(LOOK)
    while all(backend["ready"] for backend in told["backends"]):
        await pause()
        told = await gateway.run(LOOK)
    assert told["backends"][0].pop("latencyMs") > 0
    assert told == {
        "models": [
            {
                "name": "fake:count-3",
                "available": True,
                "deployments": [{"backend": "ollama", "available": True}],
            },
            {"name": "other", "available": False, "deployments": [{"backend": "openai", "available": False}]},
        ],
        "backends": [
            {"name": "ollama", "kind": "OLLAMA", "ready": True, "error": None},
            {
                "name": "openai",
                "kind": "OPENAI",
                "ready": False,
                "error": "no disk at [...] for [...]",
                "latencyMs": None,
            },
        ],
    }


async def test_backends_are_told_to_those_who_may_read_models(two: tuple[RunningGateway, FakeModelServer]):
    gateway, _ = two
    gateway.token = (await gateway.make_key(scopes=["USAGE_READ"]))["secret"]
    with pytest.raises(GraphQLErrors) as refused:
        await gateway.run("{ backends { name } }")
    assert refused.value.code == "FORBIDDEN"


async def test_a_silent_backend_delays_no_answer_of_another(two: tuple[RunningGateway, FakeModelServer]):
    gateway, other = two
    other.silent = {"/v1/models"}
    generate = "mutation($input: GenerateInput!) { generate(input: $input) { ... on GenerateSuccess { text } } }"
    with anyio.fail_after(HANGS):
        for _ in range(20):
            answer = await gateway.run(generate, {"input": {"model": "fake:count-3", "prompt": {"text": "x"}}})
            assert answer["generate"]["text"] == "0 1 2 "


async def test_numbers_too_large_for_the_api_are_not_told(two: tuple[RunningGateway, FakeModelServer]):
    gateway, _ = two
    model = {"name": "vast", "size": 2**60, "details": {"context_length": 2**40}, "capabilities": []}
    gateway.fake.replies["/api/tags"] = (200, orjson.dumps({"models": [model]}))
    data = await gateway.run("{ models { name contextLength deployments { sizeBytes } } }")
    assert data["models"][0] == {"name": "vast", "contextLength": None, "deployments": [{"sizeBytes": None}]}


async def test_a_client_who_leaves_at_once_leaves_no_half_made_query_behind(gateway: RunningGateway):
    """A coroutine that nobody awaits is a warning, and so an error here."""
    body = orjson.dumps({"query": "{ models { name } backends { name } }"})
    head = f"POST /graphql HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    request = f"{head}Authorization: Bearer {gateway.token}\r\n\r\n".encode() + body
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", int(gateway.url.rpartition(":")[2]))) as connection:
            connection.sendall(request)
        await gateway.run("{ me { username } }")


@pytest.mark.parametrize(
    ("chosen", "names"),
    [
        ({}, {"Seer:1", "plain:1", "other"}),
        ({"capabilities": ["VISION"]}, {"Seer:1"}),
        ({"capabilities": ["VISION", "COMPLETION"]}, {"Seer:1"}),
        ({"capabilities": ["EMBEDDING"]}, set()),
        ({"capabilities": []}, {"Seer:1", "plain:1", "other"}),
        ({"backend": "openai"}, {"other"}),
        ({"available": False}, set()),
        ({"nameContains": "SEER"}, {"Seer:1"}),
        ({"nameContains": ":1", "capabilities": ["COMPLETION"], "available": True}, {"Seer:1", "plain:1"}),
        ({"capabilities": None, "backend": None, "available": None}, {"Seer:1", "plain:1", "other"}),
    ],
    ids=lambda value: str(sorted(value)) if isinstance(value, set) else str(value),
)
async def test_models_are_chosen_by_a_filter(
    two: tuple[RunningGateway, FakeModelServer], chosen: dict[str, Any], names: set[str]
):
    gateway, _ = two
    tags = [
        {"name": "Seer:1", "capabilities": ["vision", "completion"], "details": {"context_length": 9}},
        {"name": "plain:1", "capabilities": ["completion"], "details": {"context_length": 9}},
    ]
    gateway.fake.replies["/api/tags"] = (200, orjson.dumps({"models": tags}))
    found: set[str] = set()
    while "Seer:1" not in found:  # the lists are renewed behind the answers
        await pause()
        found = {model["name"] for model in (await gateway.run("{ models { name } }"))["models"]}
    models = await gateway.run("query($filter: ModelFilter) { models(filter: $filter) { name } }", {"filter": chosen})
    assert {model["name"] for model in models["models"]} == names
