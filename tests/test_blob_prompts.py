"""Prompts that name files in the place of their bytes."""

from base64 import b64decode, b64encode
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
from sqlalchemy import func, select, update

from db.clock import now
from db.tables import Blob, Generation
from gateway.blobs import CHUNK_SIZE, _Budget
from tests.support.databases import on_postgresql
from tests.support.fake_model_server import FakeModelServer
from tests.support.gateways import Json, RunningGateway, gateway_settings, refused_field, running_gateway
from tests.support.generations import COMPLETE, GENERATION, WATCH
from tests.support.polling import settled
from tests.support.valkeys import ValkeyServer
from tests.test_replicas import gateways

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 8
MP3 = b"ID3\x04" + b"\0" * 12
PDF = b"%PDF-1.7\n" + b"x" * 8

ASK = """mutation($input: GenerateInput!) { startGeneration(input: $input) {
  __typename ... on StartGenerationSuccess { generation { id } } ... on UserError { code message }
  ... on InvalidInput { issues { path } } ... on Unsupported { capability }
} }"""


async def upload(gateway: RunningGateway, data: bytes) -> str:
    answer = await gateway.client.post("/blobs", content=data, headers=gateway.headers())
    return answer.json()["id"]


def parts(model: str, *parts: Json, **fields: Any) -> Json:
    return {"input": {"model": model, "prompt": {"messages": [{"role": "USER", "parts": parts}]}, **fields}}


async def begun(gateway: RunningGateway, model: str, *given: Json, **fields: Any) -> Json:
    return (await gateway.run(ASK, parts(model, *given, **fields)))["startGeneration"]


async def rows(gateway: RunningGateway) -> int:
    async with gateway.database.reading() as session:
        return await session.scalar(select(func.count()).select_from(Generation)) or 0


def image(id: str) -> Json:
    return {"image": {"blobId": id}}


async def test_a_picture_is_the_same_to_ollama_however_it_came(own_gateway: RunningGateway):
    gateway, large = own_gateway, PNG + b"\1" * (CHUNK_SIZE * 2)
    ids = [await upload(gateway, data) for data in (large, PNG)]
    message = parts("fake:echo", {"text": "a"}, image(ids[0]), {"text": "b"}, image(ids[1]), image(ids[0]))
    assert (await gateway.run(COMPLETE, message))["generate"]["text"]
    [sent] = (await gateway.fake.request()).body["messages"]
    assert [b64decode(each) for each in sent["images"]] == [large, PNG, large]
    assert sent["content"] == "a\nb"


async def test_media_reach_openai_in_their_order(double: RunningGateway):
    ids = [await upload(double, data) for data in (PNG, MP3, PDF)]
    given = [{"file": {"blobId": ids[2]}}, {"text": "a"}, {"audio": {"blobId": ids[1]}}, image(ids[0])]
    await double.run(COMPLETE, parts("openai/fake:echo", *given))
    [sent] = (await double.fake.request()).body["messages"]
    assert [part["type"] for part in sent["content"]] == ["file", "text", "input_audio", "image_url"]
    assert sent["content"][0]["file"]["file_data"] == "data:application/pdf;base64," + b64encode(PDF).decode()
    assert sent["content"][2]["input_audio"] == {"data": b64encode(MP3).decode(), "format": "mp3"}


@pytest.mark.parametrize(("kind", "data", "capability"), [("audio", MP3, "AUDIO"), ("file", PDF, "FILES")])
@pytest.mark.parametrize("form", ["base64", "blobId"])
async def test_what_ollama_cannot_carry_is_refused_before_a_row_is_written(
    shared_gateway: RunningGateway, kind: str, data: bytes, capability: str, form: str
):
    value = b64encode(data).decode() if form == "base64" else await upload(shared_gateway, data)
    before = await rows(shared_gateway)
    refused = await begun(shared_gateway, "fake:echo", {kind: {form: value}})
    assert (refused["code"], refused["capability"]) == ("UNSUPPORTED", capability)
    assert await rows(shared_gateway) == before


@pytest.fixture(scope="module")
async def anothers(shared_gateway: RunningGateway) -> str:
    """A blob of somebody else's."""
    await shared_gateway.make_user("ada")
    own, _ = shared_gateway.token, await shared_gateway.sign_in("ada")
    id = await upload(shared_gateway, PNG + b"hers")
    shared_gateway.token = own
    return id


async def test_every_reference_that_does_not_hold_is_refused_by_its_place(
    shared_gateway: RunningGateway, anothers: str
):
    expired, sound = [await upload(shared_gateway, data) for data in (PNG + b"expired", MP3)]
    async with shared_gateway.database.transaction() as tx:
        await tx.execute(update(Blob).where(Blob.size == len(PNG) + 7).values(expires_at=now() - timedelta(seconds=1)))
    before = await rows(shared_gateway)
    ids = [expired, anothers, "QmxvYjp4", "x", "", "TW9kZWw6eA=="]
    refused = await begun(shared_gateway, "fake:echo", {"text": "x"}, *map(image, ids), image(sound))
    paths = [refused_field({"issues": [issue]}) for issue in refused["issues"]]
    assert paths == [f"prompt.messages[0].parts[{number}].image.blobId" for number in range(1, 8)]
    assert "audio/mpeg" not in refused["message"]  # the first three are told
    alike = [await begun(shared_gateway, "fake:echo", image(id)) for id in ids[:3]]
    assert len({each["message"] for each in alike}) == 1
    assert await rows(shared_gateway) == before


async def test_a_blob_that_is_used_is_kept_for_longer(gateway: RunningGateway):
    id = await upload(gateway, PNG)
    async with gateway.database.transaction() as tx:
        await tx.execute(update(Blob).values(expires_at=now() + timedelta(seconds=5)))
    await gateway.run(COMPLETE, parts("fake:echo", {"text": "x"}, image(id)))
    async with gateway.database.reading() as session:
        (blob,) = await session.scalars(select(Blob))
    assert blob.expires_at > now() + timedelta(hours=23)


async def test_the_blobs_of_one_prompt_may_be_so_large_together(tmp_path: Path, sqlite_url: str, fake: FakeModelServer):
    settings = gateway_settings(tmp_path, sqlite_url, fake.url, blob_max_request_size=2_000)
    async with running_gateway(settings, fake) as gateway:
        ids = [await upload(gateway, PNG + bytes([seed]) * 984) for seed in range(3)]
        twice = await begun(gateway, "fake:echo", {"text": "x"}, image(ids[0]), image(ids[1]), image(ids[0]))
        refused = await begun(gateway, "fake:echo", *map(image, ids))
    assert twice["__typename"] == "StartGenerationSuccess"
    assert refused_field(refused) == "prompt.messages[0].parts[2].image.blobId"
    assert "OLLAGRAPH_BLOB_MAX_REQUEST_SIZE" in refused["message"]


async def test_a_blob_that_is_deleted_while_its_prompt_waits_fails_the_generation(
    tmp_path: Path, sqlite_url: str, fake: FakeModelServer
):
    async with running_gateway(gateway_settings(tmp_path, sqlite_url, fake.url, ollama_parallel=1), fake) as gateway:
        await begun(gateway, "fake:hold-3", {"text": "x"}, onDisconnect="CONTINUE")
        first = await fake.request()
        id = await upload(gateway, PNG)
        waiting = (await begun(gateway, "fake:echo", image(id), onDisconnect="CONTINUE"))["generation"]["id"]
        await gateway.client.delete(f"/blobs/{id}", headers=gateway.headers())
        first.release()
        await gateway.events(WATCH, {"id": waiting})
        found = (await gateway.run(GENERATION, {"id": waiting}))["generation"]
    assert (found["state"], found["error"]["code"], found["usage"]["promptTokens"]) == ("FAILED", "NOT_FOUND", 0)
    assert len(fake.requests) == 1


@on_postgresql
async def test_a_generation_that_goes_on_at_another_replica_still_has_its_picture(
    tmp_path: Path, database_url: str, fake: FakeModelServer, valkey: ValkeyServer
):
    picture = PNG + b"\1" * CHUNK_SIZE
    async with gateways(2, tmp_path, database_url, fake, valkey) as (one, other):
        id = await upload(one, picture)
        fields = {"onDisconnect": "CONTINUE", "onBackendLoss": "CONTINUE"}
        begun_at_other = await begun(other, "fake:hold-3", {"text": "x"}, image(id), **fields)
        await fake.request()
        other.stop()
        with anyio.fail_after(20):
            while len(fake.requests) < 2:  # noqa: ASYNC110 - the fake server has no event for it
                await anyio.sleep(0.01)
        fake.release()
        events = await one.events(WATCH, {"id": begun_at_other["generation"]["id"]})
    assert events[-1]["__typename"] == "GenerationCompleted"
    for request in fake.requests:
        assert b64decode(request.body["messages"][0]["images"][0]) == picture


async def test_who_wants_more_bytes_than_are_free_waits_and_is_not_overtaken():
    budget, order, first_may_go = _Budget(10), list[str](), anyio.Event()

    async def hold(name: str, size: int) -> None:
        async with budget.holding(size):
            order.append(name)
            if name == "first":
                await first_may_go.wait()

    async with anyio.create_task_group() as tasks:
        for name, size in (("first", 8), ("large", 10), ("small", 1)):
            tasks.start_soon(hold, name, size)
        await settled()
        assert order == ["first"]
        first_may_go.set()
    assert order == ["first", "large", "small"]
