"""How fast a model is: by its server's own clock, or by ours where the answer came in pieces; never by one read."""

import pytest
from sqlalchemy import text

from db import migrations
from db.clock import new_id
from db.engine import Database
from db.tables import Generation, User
from schema.generation import MEASURABLE_MS, Timings
from tests.support.fake_model_server import Raw, Script, count
from tests.support.gateways import RunningGateway
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
