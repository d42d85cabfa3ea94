"""The examples, run as their users run them: what they print is what the model said, also over a failing network."""

import json
import os
import runpy
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import reduce
from urllib.parse import urlsplit

import anyio
import pytest
from anyio.abc import Process
from anyio.streams.text import TextReceiveStream

from tests.support.cut_proxy import CutProxy, cut_proxy
from tests.support.fake_model_server import Script
from tests.support.gateways import PASSWORD, RunningGateway
from tests.support.node import ROOT, node


@pytest.fixture
def gateway(emptied_gateway: RunningGateway) -> RunningGateway:
    """One for all tests here, emptied before each of them."""
    return emptied_gateway


EXAMPLES = ROOT / "examples"
SECONDS = 60
"""Until an example must have printed what it is waited for: far more than it takes."""

TEXT = ["Once ", "upon ", "a time 😀 ", "there ", "was ", "a 🐉", ".", "\n"]

every_example = pytest.mark.parametrize(
    "name",
    [
        "graphql-ws.mjs",
        "graphql-sse.mjs",
        "urql.mjs",
        "urql-sse.mjs",
        "apollo.mjs",
        "apollo-multipart.mjs",
        "python_gql.py",
    ],
)


@dataclass
class Example:
    """An example that runs, and what it printed so far."""

    process: Process
    printed: str = ""
    errors: str = ""

    async def read(self, stop: str | None = None) -> str:
        """Read what it prints until there is as much as `stop`, or to its end; give all that was printed so far."""
        assert self.process.stdout is not None
        with anyio.fail_after(SECONDS):
            while stop is None or len(self.printed) < len(stop):
                try:
                    self.printed += await self._text.receive()
                except anyio.EndOfStream:
                    break
        return self.printed

    async def end(self) -> tuple[str, str, int]:
        """What it printed, what it said to standard error, and its exit status."""
        assert self.process.stderr is not None
        await self.read()
        self.errors = "".join([text async for text in TextReceiveStream(self.process.stderr)])
        return self.printed, self.errors.strip(), await self.process.wait()

    def __post_init__(self) -> None:
        assert self.process.stdout is not None
        self._text = TextReceiveStream(self.process.stdout)


def command(name: str) -> list[str]:
    """How to run an example. Skips the test where that cannot be."""
    if name.endswith(".py"):
        return [sys.executable, str(EXAMPLES / name)]
    if not (EXAMPLES / "node_modules").is_dir():
        pytest.skip("the packages of the examples are not installed: run `make .make/examples`")
    return [node(), str(EXAMPLES / name)]


@asynccontextmanager
async def running(name: str, proxy: CutProxy, model: str, **environment: str) -> AsyncGenerator[Example]:
    """Run an example; it is killed after the block if it still runs."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("OLLAGRAPH_")}
    values = inherited | {"OLLAGRAPH_URL": f"http://127.0.0.1:{proxy.port}/graphql"} | environment
    async with await anyio.open_process([*command(name), "one two three", model], env=values) as process:
        try:
            yield Example(process)
        finally:
            if process.returncode is None:
                process.kill()


@pytest.fixture
async def proxy(gateway: RunningGateway) -> AsyncGenerator[CutProxy]:
    """A proxy before the gateway."""
    async with cut_proxy(urlsplit(gateway.url).port or 0) as proxy:
        yield proxy


@every_example
async def test_an_example_loses_nothing_when_its_connection_is_cut(name: str, gateway: RunningGateway, proxy: CutProxy):
    begin, rest = [f"{number}😀 " for number in range(200)], ["and ", "on\n"]
    gateway.fake.scripts["story"] = Script(begin, delay_ms=1, stall=True, rest=rest)
    gateway.fake.models.append("story")
    key = (await gateway.make_key())["secret"]
    async with running(name, proxy, "story", OLLAGRAPH_API_KEY=key) as example:
        await example.read("0")
        proxy.cut()  # in the flow
        assert await example.read("".join(begin)) == "".join(begin)
        proxy.cut()  # in the silence
        await proxy.connection()
        gateway.fake.release()
        assert await example.end() == ("".join(begin + rest), "[STOP: 3 + 202 tokens]", 0)
    assert len(gateway.fake.requests) == 1


@every_example
async def test_an_example_that_is_interrupted_cancels_its_generation(
    name: str, gateway: RunningGateway, proxy: CutProxy
):
    # no other test has this model finish an answer, which would teach the gateway how long its tokens are
    gateway.fake.scripts["unfinished"] = Script(TEXT, stall=True)
    gateway.fake.models.append("unfinished")
    async with running(name, proxy, "unfinished", OLLAGRAPH_PASSWORD=PASSWORD) as example:
        await example.read("".join(TEXT))
        example.process.send_signal(signal.SIGINT)
        # two of the eight pieces hold an emoji, which no model says in one token
        assert await example.end() == ("".join(TEXT), "[CANCELLED (REQUESTED): 4 + 12 tokens]", 0)
    request = await gateway.fake.request()
    await request.ended.wait()
    assert request.left


@every_example
async def test_an_example_says_why_it_was_refused(name: str, gateway: RunningGateway, proxy: CutProxy):
    async with running(name, proxy, "no-such-model", OLLAGRAPH_PASSWORD=PASSWORD) as example:
        printed, errors, status = await example.end()
    assert errors == "There is no model 'no-such-model'. The query `models` lists those that you may use."
    assert (printed, status) == ("", 1)


DELTAS = [{"text": "a😀", "offset": 0}, {"text": "b", "offset": 3}, {"text": "c🐉", "offset": 4}]
AGAIN = [DELTAS[0], DELTAS[1], DELTAS[0], DELTAS[1], {"text": "bc🐉", "offset": 3}, DELTAS[2]]


async def test_deltas_that_come_twice_change_nothing_in_javascript():
    script = f"""
        import {{ apply }} from {json.dumps((EXAMPLES / "generation.mjs").as_uri())};
        process.stdout.write({json.dumps([DELTAS, AGAIN])}.map((deltas) => deltas.reduce(apply, "")).join(" "));
    """
    done = await anyio.run_process([node(), "--input-type=module", "--eval", script])
    assert done.stdout.decode() == "a😀bc🐉 a😀bc🐉"


def test_deltas_that_come_twice_change_nothing_in_python():
    example = runpy.run_path(str(EXAMPLES / "python_gql.py"))
    assert [reduce(example["apply"], deltas, "") for deltas in (DELTAS, AGAIN)] == ["a😀bc🐉"] * 2


def test_the_packages_of_the_examples_are_exact_and_name_no_host():
    asked = json.loads((EXAMPLES / "package.json").read_text())["dependencies"]
    packages = json.loads((EXAMPLES / "package-lock.json").read_text())["packages"]
    assert packages.pop("")["dependencies"] == asked
    assert [name for name, version in asked.items() if packages[f"node_modules/{name}"]["version"] != version] == []
    assert [path for path, it in packages.items() if "integrity" not in it or "://" in it.get("resolved", "")] == []
