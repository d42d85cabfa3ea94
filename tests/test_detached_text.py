"""Text that viewers saw while Valkey took nothing, of a gateway that was killed then: an error, not a shorter text."""

import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from db.clock import new_id
from db.engine import Database
from db.tables import Generation
from gateway.streams.events import Started, TextDelta, TokenUsage
from gateway.streams.log import StreamOwner
from schema.node import parse_uuid
from tests.support.databases import on_postgresql
from tests.support.fake_model_server import FakeModelServer
from tests.support.gateways import PASSWORD, GraphQLErrors, RunningGateway, gateway_settings, running_gateway
from tests.support.generations import START, WATCH, asking, look, next_event, start, text_of
from tests.support.polling import pause
from tests.support.processes import Served, serving
from tests.support.shared.logs import Heard, running_log
from tests.support.valkeys import ValkeyServer
from tests.test_replicas import SECRET, gateways

MODEL = "fake:paced-100-30"

WHOLE = "".join(f"{number} " for number in range(100))


@dataclass
class Cut:
    """A generation whose gateway was killed while Valkey took nothing, as the other gateway tells of it."""

    id: str
    seen: list[dict[str, Any]]
    other: RunningGateway

    @property
    def cursor(self) -> int:
        return self.seen[-1]["sequence"]

    async def ended(self) -> dict[str, Any]:
        """The generation when it has its end."""
        with anyio.fail_after(60):
            while (row := await look(self.other, self.id))["usage"] is None:
                await pause()
        return row


@asynccontextmanager
async def cut_off(
    folder: Path,
    url: str,
    fake: FakeModelServer,
    valkey: ValkeyServer,
    *,
    to_the_end: bool = False,
    on_loss: str = "FAIL",
    **settings: Any,
) -> AsyncGenerator[Cut]:
    """Watch at a gateway until more was seen than Valkey has, and kill the gateway."""
    fake.models.append(MODEL)
    values = {"DATABASE_URL": url, "REDIS_URL": valkey.url, "OLLAMA_URL": fake.url, "SECRET_KEY": SECRET}
    values |= {name.upper(): str(value) for name, value in settings.items()}
    own = gateway_settings(
        folder / "other", url, fake.url, redis_url=valkey.url, secret_key=SECRET, lease_time=1, **settings
    )
    async with (
        serving(folder / "one", **values, ADMIN_PASSWORD=PASSWORD, EVENT_INTERVAL="0") as one,
        running_gateway(own, fake) as other,
    ):
        token = await one.sign_in(PASSWORD)
        asked = asking(MODEL, onDisconnect="CONTINUE", onBackendLoss=on_loss)
        id = (await one.run(START, token, **asked))["startGeneration"]["generation"]["id"]
        async with RunningGateway(one.url, other.app, own, fake, other.client, other.stop, token).connect() as socket:
            await socket.subscribe(WATCH, {"id": id})
            seen = [await next_event(socket)]
            while len(text_of(seen)) < 20:
                seen.append(await next_event(socket))
            async with valkey.refusing("full memory"):
                while await is_ready(one):
                    await pause()
                beyond = len(text_of(seen)) + 100
                while len(text_of(seen)) < beyond or to_the_end:
                    seen.append(await next_event(socket))
                    if seen[-1]["__typename"] == "GenerationCompleted":
                        break
                one.process.send_signal(signal.SIGKILL)
                await one.process.wait()
        yield Cut(id, seen, other)


def tokens_of(events: list[dict[str, Any]]) -> int:
    return sum(event["tokens"] for event in events if event["__typename"] == "TextDelta")


async def is_ready(served: Served) -> bool:
    async with httpx.AsyncClient(verify=False) as client:
        return (await client.get(f"{served.url}/readyz")).json()["streamLog"]["ready"]


async def refusal(gateway: RunningGateway, id: str) -> str:
    """The code that a viewer is told."""
    with pytest.raises(GraphQLErrors) as told:
        await gateway.events(WATCH, {"id": id})
    return told.value.code


async def is_gone(gateway: RunningGateway, id: str) -> None:
    """Its text is told as gone, by each way to it."""
    assert (await look(gateway, id))["text"] is None
    with anyio.fail_after(30):
        assert await refusal(gateway, id) == "STREAM_EXPIRED"


@pytest.mark.parametrize(
    ("database_url", "on_loss"), [("sqlite", "FAIL"), ("postgresql", "CONTINUE")], indirect=["database_url"]
)
async def test_what_was_seen_beyond_the_shared_log_is_neither_shortened_nor_continued(
    tmp_path: Path, database_url: str, fake: FakeModelServer, own_valkey: ValkeyServer, on_loss: str
):
    async with cut_off(tmp_path, database_url, fake, own_valkey, on_loss=on_loss) as cut:
        row = await cut.ended()
        assert (row["state"], row["error"]["code"]) == ("FAILED", "INTERRUPTED")
        assert tokens_of(cut.seen) <= row["usage"]["completionTokens"] <= 100
        assert len(fake.requests) == 1
        await is_gone(cut.other, cut.id)
        (last,) = await cut.other.events(WATCH, {"id": cut.id, "after": cut.cursor})
        assert (last["__typename"], last["error"]["code"]) == ("GenerationFailed", "INTERRUPTED")


@on_postgresql
async def test_what_was_finished_beyond_the_shared_log_stays_finished_without_its_text(
    tmp_path: Path, database_url: str, fake: FakeModelServer, own_valkey: ValkeyServer
):
    async with cut_off(tmp_path, database_url, fake, own_valkey, to_the_end=True) as cut:
        assert text_of(cut.seen) == WHOLE
        row = await cut.ended()
        assert (row["state"], row["usage"]["completionTokens"]) == ("COMPLETED", 100)
        with anyio.fail_after(60):
            while (code := await refusal(cut.other, cut.id)) != "STREAM_EXPIRED":
                assert code == "STREAM_LOG_UNAVAILABLE"  # until its gateway is missed, it may come back and write it
                await pause()
        await is_gone(cut.other, cut.id)


async def test_the_database_has_the_whole_text_where_it_keeps_texts(
    tmp_path: Path, sqlite_url: str, fake: FakeModelServer, own_valkey: ValkeyServer
):
    async with cut_off(tmp_path, sqlite_url, fake, own_valkey, to_the_end=True, text_retention=60) as cut:
        with anyio.fail_after(60):
            assert text_of(await cut.other.events(WATCH, {"id": cut.id})) == WHOLE
            assert (await look(cut.other, cut.id))["text"] == WHOLE


@on_postgresql
async def test_the_note_is_taken_back_when_valkey_has_everything(
    tmp_path: Path, database_url: str, fake: FakeModelServer, own_valkey: ValkeyServer
):
    async with gateways(2, tmp_path, database_url, fake, own_valkey) as (one, other):
        id = await start(one, "fake:stall-3", onDisconnect="CONTINUE")
        async with one.connect() as socket:
            await socket.subscribe(WATCH, {"id": id})
            await next_event(socket)
            async with own_valkey.refusing("full memory"):
                fake.release()
                with anyio.fail_after(30):
                    while not await is_noted(one.database, id):
                        await pause()
            with anyio.fail_after(30):
                while await is_noted(one.database, id):
                    await pause()
        assert (await look(other, id))["text"] == "0 1 2 "


async def is_noted(database: Database, id: str) -> bool:
    async with database.reading() as session:
        row = await session.get(Generation, parse_uuid(id, "Generation"))
    assert row is not None
    return row.detached_at is not None


async def test_viewers_see_nothing_that_the_database_was_not_told_of(own_valkey: ValkeyServer):
    order: list[str] = []

    class Slow(Heard):
        async def _take_note(self, streams: Any, detached: bool) -> None:
            await anyio.sleep(0.2)
            order.append("noted")

    stream = new_id()
    async with running_log(own_valkey, handlers=Slow()) as log, own_valkey.refusing("full memory"):
        await log.open(stream, StreamOwner(1))
        await log.append(stream, [Started(1, 0)])
        with anyio.fail_after(30):
            async for _ in log.follow(stream):
                order.append("seen")
                break
    assert order[:2] == ["noted", "seen"]


async def test_viewers_see_nothing_whose_usage_the_database_was_not_told_of(own_valkey: ValkeyServer):
    stream, heard, said = new_id(), Heard(), 0

    def usage() -> TokenUsage:
        return TokenUsage(1, said)

    async with running_log(own_valkey, handlers=heard) as log, own_valkey.refusing("full memory"):
        await log.open(stream, StreamOwner(1, usage))
        await log.append(stream, [Started(1, 0)])
        with anyio.fail_after(30):
            async for batch in log.follow(stream):
                assert heard.used[stream].completion_tokens >= batch[-1].sequence - 1
                said += 1
                await log.append(stream, [TextDelta(said + 1, "x", said - 1, 1)])
                if said == 10:
                    break
