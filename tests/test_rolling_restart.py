"""Clients over HTTP while their gateway stops, with another one at hand: real processes, and a real SIGTERM."""

import random
import signal
from pathlib import Path
from typing import Any

import anyio
import httpx
import orjson
import pytest

from tests.support.chaos.streams import GENERATE, WATCH, Stream, Tally
from tests.support.chaos.world import Program, World, running_world
from tests.support.polling import pause

MODEL = "fake:paced-100-20"
ASK = "mutation($input: GenerateInput!) { generate(input: $input) { ... on GenerateSuccess { text } } }"
STATES = "{ generations(first: 10) { nodes { state } } }"


async def test_streams_over_http_go_on_elsewhere_and_requests_are_answered(tmp_path: Path):
    async with running_world(tmp_path, 2, DRAIN_TIME="30") as world:
        stopping, other = world.gateways
        streams = [new_stream(name) for name in ("text/event-stream", "multipart/mixed")]
        answers: list[str] = []

        async def ask() -> None:
            data = await post(world, stopping, ASK, {"input": {"model": MODEL, "prompt": {"text": "asked count"}}})
            answers.append(data["generate"]["text"])

        async def cut(stream: Stream) -> None:
            with pytest.raises(httpx.RemoteProtocolError):
                await read(world, stopping, stream)
            assert not stream.terminals
            await read(world, other, stream)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            for stream in streams:
                tasks.start_soon(cut, stream)
            while await running(world, other) < 3:
                await pause()
            await stopping.end(signal.SIGTERM)
        expected = streams[0].expected
        assert answers == [expected]
        for stream in streams:
            assert (stream.text, stream.lost, stream.doubled) == (expected, 0, 0)
            assert stream.terminals[0]["__typename"] == "GenerationCompleted"
            assert not stream.seams


def new_stream(accept: str) -> Stream:
    return Stream(accept, MODEL, continues=False, chance=random.Random(1), tally=Tally())


async def running(world: World, gateway: Program) -> int:
    data = await post(world, gateway, STATES, {})
    return [node["state"] for node in data["generations"]["nodes"]].count("RUNNING")


async def post(world: World, gateway: Program, query: str, variables: dict[str, Any]) -> Any:
    headers = {"authorization": f"Bearer {world.key}"}
    async with httpx.AsyncClient(timeout=60, verify=False) as client:
        body = {"query": query, "variables": variables}
        return (await client.post(f"{gateway.url}/graphql", json=body, headers=headers)).json()["data"]


async def read(world: World, gateway: Program, stream: Stream) -> None:
    """Read one HTTP response of the stream to its end, in the form that its name says."""
    accept = stream.name + (";subscriptionSpec=1.0" if "multipart" in stream.name else "")
    headers = {"authorization": f"Bearer {world.key}", "accept": accept}
    asked = {"model": MODEL, "prompt": {"text": "watched count"}}
    query, variables = (
        (WATCH, {"id": stream.id, "after": stream.sequence}) if stream.id else (GENERATE, {"input": asked})
    )
    body = {"query": query, "variables": variables}
    async with (
        httpx.AsyncClient(timeout=60, verify=False) as client,
        client.stream("POST", f"{gateway.url}/graphql", json=body, headers=headers) as response,
    ):
        async for line in response.aiter_lines():
            if (text := line.removeprefix("data: ")).startswith("{"):
                message = orjson.loads(text)
                if payload := message.get("payload", message):
                    stream.take(next(iter(payload["data"].values())))
