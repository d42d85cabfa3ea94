"""How fast a model is: by its server's own clock, or by ours where the answer came in pieces; never by one read."""

from pathlib import Path

import pytest
from sqlalchemy import text

from db import migrations
from db.clock import new_id, now
from db.engine import Database
from db.tables import Generation, GenerationAttempt, UsageRecord, User
from gateway.streams import TokenUsage as Counts
from gateway.usage.histograms import MEASURABLE_MS
from schema.generation import Timings
from schema.limits import TokenUsage
from tests.support.databases import on_sqlite
from tests.support.fake_model_server import FakeModelServer, Raw, Script, count
from tests.support.gateways import RunningGateway, gateway_settings, running_gateway
from tests.support.generations import asking
from tests.support.quirks import DONE, GENERATE, OLLAMA, OPENAI, ask, delta, end, said, sse, usage

SPEED = "{ generations(first: 1) { nodes { timings { tokensPerSecond loadMs } } } }"


async def speed(gateway: RunningGateway) -> float | None:
    """Of the generation asked for last."""
    (node,) = (await gateway.run(SPEED))["generations"]["nodes"]
    return node["timings"]["tokensPerSecond"]


async def test_ollamas_own_clock_tells_the_speed_of_an_answer_that_came_at_once(double: RunningGateway):
    told = end(prompt_eval_count=7, eval_count=50, eval_duration=2_000_000_000)
    await ask(double, OLLAMA, Raw([said("a") + said("b") + told]))
    assert await speed(double) == 25


TIMINGS = {"cache_n": 0, "prompt_n": 7, "predicted_n": 50, "predicted_ms": 2000.9}


@pytest.mark.parametrize(
    "last", [[delta("stop") + usage(completion_tokens=50)], [delta("stop"), sse({"choices": [], "timings": TIMINGS})]]
)
async def test_llama_cpps_own_clock_tells_it_wherever_it_stands(double: RunningGateway, last: list[bytes]):
    first = sse({"choices": [{"delta": {"content": "a"}}], "timings": TIMINGS})
    await ask(double, OPENAI, Raw([first, *last, DONE]))
    assert await speed(double) == 25


@pytest.mark.parametrize("path", [OLLAMA, OPENAI])
async def test_an_answer_that_came_at_once_from_a_server_without_a_clock_has_no_speed(
    double: RunningGateway, path: str
):
    whole = {
        OLLAMA: said("a") + said("b") + end(prompt_eval_count=7, eval_count=50),
        OPENAI: delta(content="a") + delta("stop", content="b") + usage(prompt_tokens=7, completion_tokens=50) + DONE,
    }
    await ask(double, path, Raw([whole[path]]))
    assert await speed(double) is None


async def test_an_answer_in_pieces_from_a_server_without_a_clock_has_the_speed_that_was_seen(double: RunningGateway):
    double.fake.scripts["fake:echo"] = Script(count(3), delay_ms=MEASURABLE_MS)
    await double.events(GENERATE, asking("fake:echo"))
    assert await speed(double) is not None


@pytest.mark.parametrize("duration", [b"0", b"-1", b"true", b'"2"', b"null", b"1e400", b"NaN", b"99999999999999999999"])
async def test_a_clock_that_makes_no_sense_is_not_told(double: RunningGateway, duration: bytes):
    told = end(prompt_eval_count=7, eval_count=50).replace(b"}\n", b',"eval_duration":%s}\n' % duration)
    events = await ask(double, OLLAMA, Raw([said("ab") + told]))
    assert events[-1]["finishReason"] == "STOP"
    assert await speed(double) is None


COUNTS = "usage { promptTokens completionTokens totalTokens thinkingTokens cachedTokens }"
MEASURED = f"""{{
  generations(first: 1) {{ nodes {{
    {COUNTS} timings {{ promptMs promptTokensPerSecond tokensPerSecond }} attempts {{ {COUNTS} }}
  }} }}
  usage {{ totals {{ thinkingTokens }} }}
}}"""


@on_sqlite
async def test_thinking_and_the_speed_of_reading_are_told_and_kept(
    database_url: str, tmp_path: Path, fake: FakeModelServer
):
    told = usage(
        prompt_tokens=10,
        completion_tokens=50,
        prompt_tokens_details={"cached_tokens": 3},
        completion_tokens_details={"reasoning_tokens": 40},
    )
    first = sse({"choices": [{"delta": {"content": "a"}}], "timings": TIMINGS | {"cache_n": 3, "prompt_ms": 20.9}})
    settings = gateway_settings(tmp_path, database_url, None, openai_url=fake.url)
    async with running_gateway(settings, fake) as gateway:
        await ask(gateway, OPENAI, Raw([first, delta("stop") + told, DONE]))
        found = await gateway.run(MEASURED)
    counts = {"promptTokens": 10, "completionTokens": 50, "totalTokens": 60, "thinkingTokens": 40, "cachedTokens": 3}
    (node,) = found["generations"]["nodes"]
    assert node == {
        "usage": counts,
        "timings": {"promptMs": 20, "promptTokensPerSecond": 350.0, "tokensPerSecond": 25.0},
        "attempts": [{"usage": counts}],
    }
    assert found["usage"]["totals"] == {"thinkingTokens": 40}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, 70.0),
        ({"cached_tokens": 3}, 40.0),
        ({"cached_tokens": 7}, None),  # nothing had to be read
        ({"cached_tokens": 9}, None),
        ({"prompt_ms": 0}, None),  # too short for a clock of milliseconds
        ({"prompt_ms": None}, None),
        ({"prompt_tokens": None}, None),
    ],
)
def test_the_speed_of_reading_is_of_what_was_not_cached(fields: dict[str, int | None], expected: float | None):
    known = {"prompt_tokens": 7, "prompt_ms": 100, **fields}
    assert Timings.of(Generation(**known)).prompt_tokens_per_second == expected


def test_a_total_that_is_no_int_is_the_largest_one():
    assert TokenUsage.of(Counts(2**31 - 1, 1)).total_tokens == 2**31 - 1


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"eval_ms": 100, "completion_tokens": 5}, 50),
        ({"eval_ms": 100, "completion_tokens": 1}, None),  # one token tells of no speed
        ({"eval_ms": 0, "last_token_ms": 1010}, 4.0),  # too short for a clock of milliseconds
        ({"last_token_ms": 1010}, 4.0),
        ({"last_token_ms": 10 + MEASURABLE_MS - 1}, None),
        ({"last_token_ms": 10, "total_ms": 5010}, None),  # it came at once; what followed was waiting for its usage
        ({"total_ms": 2010}, 2.0),  # a row of before, of which no more is known
        ({"completion_tokens": None}, None),
        ({"time_to_first_token_ms": None}, None),
    ],
)
def test_the_speed_is_told_from_the_best_that_is_known(fields: dict[str, int | None], expected: float | None):
    known = {"completion_tokens": 5, "time_to_first_token_ms": 10, "total_ms": 1010, **fields}
    assert Timings.of(Generation(**known)).tokens_per_second == expected


async def test_generations_of_before_are_kept_when_the_columns_come(database: Database):
    user = User(username="ada", password_hash="!")
    async with database.transaction() as tx:
        tx.add(user)
    row = Generation(
        id=new_id(), user_id=user.id, model="m", backend="o", state="COMPLETED", on_disconnect="CANCEL", total_ms=7
    )
    async with database.transaction() as tx:
        tx.add(row)
    await migrations.downgrade(database, "0004")
    await migrations.upgrade(database)
    async with database.reading() as session:
        found = (await session.execute(text("SELECT total_ms, last_token_ms, eval_ms FROM generations"))).one()
    assert tuple(found) == (7, None, None)


async def test_counts_of_before_thinking_was_told_are_kept(database: Database):
    user, generation = User(username="ada", password_hash="!"), new_id()
    used = {"prompt_tokens": 3, "completion_tokens": 5, "thinking_tokens": 4}
    asked = {"backend": "o", "state": "COMPLETED"}
    async with database.transaction() as tx:
        tx.add(user)
        await tx.flush()
        made = {"user_id": user.id, "model": "m"}
        tx.add(Generation(id=generation, on_disconnect="CANCEL", prompt_ms=9, **made, **asked, **used))
        await tx.flush()
        tx.add(GenerationAttempt(generation_id=generation, number=1, backend="o", started_at=now(), **used))
        tx.add(UsageRecord(generation_id=generation, source="BACKEND", at=now(), **made, **asked, **used))
    await migrations.downgrade(database, "0011")
    await migrations.upgrade(database)
    async with database.reading() as session:
        for table in ("generations", "generation_attempts", "usage"):
            counts = text(f"SELECT prompt_tokens, completion_tokens, thinking_tokens FROM {table}")
            assert tuple((await session.execute(counts)).one()) == (3, 5, None)
        assert await session.scalar(text("SELECT prompt_ms FROM generations")) is None
