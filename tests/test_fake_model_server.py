"""The fake model server does what its table says: other tests and the benchmarks build on it."""

import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import httpx
import orjson
import pytest
from anyio.abc import ByteReceiveStream

from server.fake_model_server import server
from tests.support.fake_model_server import FakeModelServer, Prompt, running_fake_model_server, script_for

PROMPT = Prompt(last="hi", words=1, tools=[], max_tokens=None)


@pytest.fixture
async def fake() -> AsyncIterator[FakeModelServer]:
    async with running_fake_model_server() as fake:
        yield fake


def body(model: str, **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "one two"}]} | more


async def lines(fake: FakeModelServer, request: dict[str, Any]) -> list[dict[str, Any]]:
    async with httpx.AsyncClient(verify=False) as client:
        response = await client.post(f"{fake.url}/api/chat", json=request)
    return [orjson.loads(line) for line in response.content.splitlines()]


def test_every_model_of_the_table_exists():
    rows = [row.split("`")[1] for row in (server.__doc__ or "").splitlines() if row.startswith("| `fake:")]
    assert len(rows) == 16
    assert all(script_for(row.replace("-N", "-3").replace("-M", "-1"), PROMPT) for row in rows)


@pytest.mark.parametrize("name", ["llama3", "fake:", "fake:nothing", "fake:count-x", "fake:-3"])
def test_other_names_are_no_model(name: str):
    assert script_for(name, PROMPT) is None


async def test_the_most_tokens_asked_for_cut_the_answer_short(fake: FakeModelServer):
    *tokens, end = await lines(fake, body("fake:count-10", options={"num_predict": 2}))
    assert [token["message"]["content"] for token in tokens] == ["0 ", "1 "]
    assert (end["done_reason"], end["eval_count"]) == ("length", 2)


async def test_an_answer_that_has_begun_is_gone_on_with(fake: FakeModelServer):
    begun = [{"role": "user", "content": "one two"}, {"role": "assistant", "content": "0 1 "}]
    *tokens, end = await lines(fake, {"model": "fake:count-4", "messages": begun})
    assert [token["message"]["content"] for token in tokens] == ["2 ", "3 "]
    assert (end["prompt_eval_count"], end["eval_count"]) == (4, 2)


async def test_a_request_is_recorded_with_the_tokens_sent(fake: FakeModelServer):
    await lines(fake, body("fake:count-10"))
    request = await fake.request()
    assert (request.path, request.model, request.sent, request.left) == ("/api/chat", "fake:count-10", 10, False)


async def read_all(stream: ByteReceiveStream) -> bytes:
    return b"".join([data async for data in stream])


async def test_a_cut_connection_is_a_real_reset(fake: FakeModelServer):
    content = orjson.dumps(body("fake:cut"))
    head = f"POST /api/chat HTTP/1.1\r\nhost: fake\r\ncontent-length: {len(content)}\r\n\r\n"
    async with await anyio.connect_tcp("127.0.0.1", httpx.URL(fake.url).port or 0) as stream:
        await stream.send(head.encode() + content)
        with pytest.raises(anyio.BrokenResourceError) as broken:
            await read_all(stream)
        assert isinstance(broken.value.__cause__, ConnectionResetError)


def test_it_runs_as_a_process_of_its_own():
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.fake_model_server"],
        cwd=Path(__file__).parent.parent,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        try:
            httpx.post(f"{url}/v1/chat/completions", json=body("fake:echo", stream=True)).raise_for_status()
            assert [request["sent"] for request in httpx.get(f"{url}/fake/requests").json()] == [2]
        finally:
            process.kill()


async def test_ollamas_prompt_is_cut_to_half_the_context_unless_that_is_refused(fake: FakeModelServer):
    words = " ".join(map(str, range(600)))
    asked: dict[str, Any] = {
        "model": "fake:echo", "messages": [{"role": "user", "content": words}], "options": {"num_ctx": 512},
    }  # fmt: skip
    *tokens, end = await lines(fake, asked)
    assert (tokens[0]["message"]["content"], end["prompt_eval_count"], end["done_reason"]) == ("342", 258, "stop")
    assert await lines(fake, asked | {"truncate": False}) == [{"error": "the input length exceeds the context length"}]


@pytest.mark.parametrize(("shift", "sent", "reason"), [(True, 10, "stop"), (False, 6, "length")])
async def test_ollamas_answer_ends_at_the_end_of_the_context_unless_that_shifts(
    fake: FakeModelServer, shift: bool, sent: int, reason: str
):
    fake.num_ctx = 8
    *tokens, end = await lines(fake, body("fake:count-10", shift=shift))
    assert (len(tokens), end["done_reason"]) == (sent, reason)
