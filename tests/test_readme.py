"""What README.md shows runs as it stands there, but for the address, the password and the key."""

import json
import os
import re
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio
import pytest

from tests.support.cut_proxy import CutProxy, cut_proxy
from tests.support.fake_model_server import Script
from tests.support.gateways import PASSWORD, RunningGateway
from tests.support.node import ROOT, node

README = (ROOT / "README.md").read_text()
ADDRESS = "127.0.0.1:8000"
STORY = ["Once ", "upon ", "a 😀 ", "time."]


def blocks(language: str, *, holding: str) -> list[str]:
    """The blocks of code in a language that hold a piece of text."""
    found = re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    return [block for block in found if holding in block]


def tell_story(gateway: RunningGateway, **script: Any) -> None:
    gateway.fake.scripts["smollm2:135m"] = Script(STORY, **script)
    gateway.fake.models.append("smollm2:135m")


async def run_shell(gateway: RunningGateway, script: str, **environment: str) -> str:
    """Run a script that calls the gateway, and give what it printed."""
    address = urlsplit(gateway.url).netloc
    done = await anyio.run_process(
        ["sh", "-eu", "-c", script.replace(ADDRESS, address)], env=dict(os.environ) | environment
    )
    return done.stdout.decode()


def answers(text: str) -> list[Any]:
    """The JSON values in a text, one after the other."""
    found: list[Any] = []
    while text := text.strip():
        value, end = json.JSONDecoder().raw_decode(text)
        found.append(value)
        text = text[end:]
    return found


async def test_the_commands_of_the_shell_run(gateway: RunningGateway):
    tell_story(gateway)
    (begin,) = blocks("sh", holding="graphql() {")
    begin = begin.replace("PASSWORD", PASSWORD).partition("TOKEN=")[0]
    (signed_in,) = answers(await run_shell(gateway, begin, TOKEN=""))
    token, refresh_token = (signed_in["data"]["login"][name] for name in ("accessToken", "refreshToken"))
    function = begin.splitlines()[0]
    for block in blocks("sh", holding="graphql '{")[1:]:
        block = block.replace("REFRESH_TOKEN", refresh_token).partition("TOKEN=...")[0]
        for answer in answers(await run_shell(gateway, function + "\n" + block, TOKEN=token)):
            assert "errors" not in answer
            assert "message" not in json.dumps(answer["data"])
    (stream,) = blocks("sh", holding="curl -N")
    assert "".join(re.findall(r'"text":"(.*?)"', await run_shell(gateway, stream, TOKEN=token))) == "".join(STORY)


@pytest.fixture
async def proxy(gateway: RunningGateway) -> AsyncGenerator[CutProxy]:
    """A proxy before the gateway."""
    async with cut_proxy(urlsplit(gateway.url).port or 0) as proxy:
        yield proxy


async def test_the_program_with_graphql_ws_loses_nothing_when_its_connection_is_cut(
    gateway: RunningGateway, proxy: CutProxy, tmp_path: Path
):
    if not (ROOT / "examples" / "node_modules").is_dir():
        pytest.skip("the packages of the examples are not installed: run `make .make/examples`")
    tell_story(gateway, stall=True, rest=["The ", "end."])
    (program,) = blocks("js", holding="graphql-ws")
    file = tmp_path / "readme.mjs"
    file.write_text(program.replace(ADDRESS, f"127.0.0.1:{proxy.port}"))
    (tmp_path / "node_modules").symlink_to(ROOT / "examples" / "node_modules")
    environment = dict(os.environ) | {"KEY": (await gateway.make_key())["secret"]}
    async with await anyio.open_process([node(), str(file)], env=environment, stderr=None) as process:
        assert process.stdout is not None
        printed = b""
        while printed.decode(errors="ignore") != "".join(STORY):
            printed += await process.stdout.receive()
        proxy.cut()
        await proxy.connection()
        gateway.fake.release()
        with anyio.fail_after(60):
            async for piece in process.stdout:
                printed += piece
    assert (printed.decode(), process.returncode) == ("".join([*STORY, "The ", "end."]), 0)
    assert len(gateway.fake.requests) == 1
