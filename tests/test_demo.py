"""Sample data: as much as asked for, the same for the same seed, and in no database that somebody uses."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from secrets import token_hex

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import func, select

from db.engine import Database
from db.tables import Transcript, UsageRecord
from gateway.demo import DatabaseInUse, Demo, DemoSize
from gateway.demo.people import make_company
from gateway.demo.year import Year, days_of
from schema.node import global_id
from tests.support.gateways import RunningGateway
from tests.test_cli import run_here

UNTIL = datetime(2026, 6, 1, tzinfo=UTC)
SIZE = DemoSize(seed=7, users=5, generations=300, days=20, until=UNTIL)
SHOWN = """
query($id: ID!) { generation(id: $id) {
  state text cost { amount currency } input { messages { text } } apiKey { name } timings { tokensPerSecond }
} }
"""
TOTALS = """
query($from: DateTime!, $to: DateTime!) { usage(input: {from: $from, to: $to, filter: {allUsers: true}}) {
  totals { generations completed cancelled failed }
} }
"""


def made_up(size: DemoSize) -> list[dict[str, object]]:
    random = Random(size.seed)
    company = make_company(random, size.users, size.begin, size.until)
    return [row for day in Year(random, size, company).rows() for row in day]


def told(written: int) -> None:
    """Be told of progress, and say nothing."""


@given(st.integers(0, 10_000), st.integers(1, 400), st.integers())
def test_there_are_as_many_generations_as_asked_for(generations: int, days: int, seed: int):
    size = DemoSize(seed, 1, generations, days, UNTIL)
    found = list(days_of(Random(seed), size))
    assert sum(count for _, count in found) == generations
    assert [day for day, _ in found] == [size.begin + timedelta(days=number) for number in range(days)]


def test_the_same_seed_gives_the_same_data_and_another_one_other_data():
    assert made_up(SIZE) == made_up(SIZE)
    assert made_up(SIZE) != made_up(DemoSize(8, SIZE.users, SIZE.generations, SIZE.days, SIZE.until))


def test_working_days_and_hours_are_busier_than_others():
    moments = [row["at"] for row in made_up(DemoSize(1, 3, 7_000, 28, UNTIL))]
    days = [moment.weekday() for moment in moments if isinstance(moment, datetime)]
    hours = [moment.hour for moment in moments if isinstance(moment, datetime)]
    assert 3 * sum(day == 6 for day in days) < sum(day == 2 for day in days)
    assert 5 * sum(hour == 3 for hour in hours) < sum(hour == 10 for hour in hours)
    assert moments == sorted(moments, key=str)


async def test_a_database_is_filled_once(database: Database):
    await Demo(database).fill(SIZE, told)
    async with database.reading() as session:
        count = await session.scalar(select(func.count()).select_from(UsageRecord))
        priced = await session.scalar(select(func.count(UsageRecord.cost_nano)))
    assert (count, priced) == (300, 300)
    with pytest.raises(DatabaseInUse):
        await Demo(database).fill(SIZE, told)


async def test_the_gateway_shows_it(emptied_gateway: RunningGateway):
    gateway = emptied_gateway
    await Demo(gateway.database).fill(SIZE, told)
    totals = (await gateway.run(TOTALS, {"from": SIZE.begin.isoformat(), "to": UNTIL.isoformat()}))["usage"]["totals"]
    assert totals["generations"] == 300
    assert all(totals[name] for name in ("completed", "cancelled", "failed"))
    async with gateway.database.reading() as session:
        [generation_id] = await session.scalars(select(Transcript.generation_id).limit(1))
    shown = (await gateway.run(SHOWN, {"id": global_id("Generation", generation_id)}))["generation"]
    assert (shown["state"], shown["cost"]["currency"]) == ("COMPLETED", "EUR")
    assert shown["text"]
    assert shown["input"]["messages"][0]["text"]
    assert shown["timings"]["tokensPerSecond"] > 5


def test_the_command_makes_an_administrator_and_refuses_what_is_in_use(tmp_path: Path):
    folder = tmp_path / "data"
    some = ["demo-data", "--users", "3", "--generations", "50", "--days", "5", "--until", "2026-06-01"]
    made = run_here(folder, *some, "--sum-up")
    assert made.exit_code == 0, made.output
    assert "from 2026-05-27 to 2026-06-01" in made.output
    assert "Added 50 rows" in made.output
    assert "admin\tadmin" in run_here(folder, "list-users").stdout
    again = run_here(folder, *some)
    assert (again.exit_code, "already" in again.output) == (1, True)
    refused = run_here(tmp_path / "other", *some, ENVIRONMENT="production", SECRET_KEY=token_hex(32))
    assert (refused.exit_code, "not for production" in refused.output) == (1, True)
