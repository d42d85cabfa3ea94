"""Usage by tag and end user, as a plain computation in Python has it, on both databases."""

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import combinations
from typing import Any

import pytest

from auth.principal import Principal
from auth.scopes import ALL_SCOPES, DEVELOPER_SCOPES
from db.clock import new_id
from db.engine import Database
from db.tables import UsageRecord, User
from gateway.errors import InvalidInput
from gateway.usage import (
    Granularity,
    Usage,
    UsageDimension,
    UsageFilter,
    UsageOrder,
    UsageReport,
    UsageRequest,
    UsageRow,
)
from tests.support.gateways import Json, RunningGateway

START = datetime(2026, 3, 1, tzinfo=UTC)
RANGE = (START, START + timedelta(days=4))
NAMES = ["team", 'a "quoted" name', "$.x\\y[0]", "größe", "😀"]
VALUES = ["", "red", "Red", "null", "ü\n"]
DIMENSIONS = [UsageDimension.TAG, UsageDimension.END_USER, UsageDimension.MODEL]

Tagged = tuple[str | None, str | None]


async def some_usage(database: Database, rng: random.Random) -> tuple[Principal, list[UsageRecord]]:
    """Rows of one user, and one row of another with the same tags."""
    ada, bob = (User(id=new_id(), username=name, password_hash="!") for name in ("ada", "bob"))
    rows = [
        UsageRecord(
            generation_id=new_id(),
            user_id=ada.id if number else bob.id,
            model=rng.choice("aB"),
            tags={name: rng.choice(VALUES) for name in rng.sample(NAMES, rng.randrange(4))} or None,
            end_user=rng.choice([None, "x", "Größe"]),
            prompt_tokens=rng.choice([1, 2**31 - 1]),
            completion_tokens=rng.randrange(1000),
            source="BACKEND",
            backend="b",
            state="COMPLETED",
            at=RANGE[0] + rng.random() * (RANGE[1] - RANGE[0]),
        )
        for number in range(50)
    ]
    async with database.transaction() as tx:
        tx.add_all([ada, bob])
        await tx.flush()
        tx.add_all(rows)
    return Principal(ada.id, ada.username, DEVELOPER_SCOPES), rows[1:]


def tags_of(row: UsageRecord) -> list[Tagged]:
    return list((row.tags or {}).items()) or [(None, None)]


def plainly(rows: Sequence[UsageRecord], by: Sequence[UsageDimension]) -> Counter[Any]:
    """The tokens of each day, under each value of the dimensions."""
    found: Counter[Any] = Counter()
    for row in rows:
        for tag in tags_of(row) if UsageDimension.TAG in by else [(None, None)]:
            end_user = row.end_user if UsageDimension.END_USER in by else None
            model = row.model if UsageDimension.MODEL in by else None
            found[row.at.date(), tag, end_user, model] += row.prompt_tokens + row.completion_tokens
    return found


def pages(report: UsageReport, order: UsageOrder) -> Iterator[UsageRow]:
    after = None
    while (page := report.page(order, 7, after)).rows:
        after = page.rows[-1][0]
        yield from (row for _, row in page.rows)


async def test_a_report_is_what_plain_python_makes_of_the_tags(database: Database):
    caller, rows = await some_usage(database, random.Random(1))
    for by in [by for count in range(4) for by in combinations(DIMENSIONS, count)]:
        report = await Usage(database).report(caller, UsageRequest(*RANGE, group_by=by))
        wanted = plainly(rows, by)
        for order in UsageOrder:
            found = [
                (
                    (row.start.date(), (row.tag_name, row.tag_value), row.end_user, row.model),
                    row.sums.prompt_tokens + row.sums.completion_tokens,
                )
                for row in pages(report, order)
            ]
            assert len(found) == len(wanted), (by, order)
            assert dict(found) == wanted, (by, order)
        assert report.totals.generations == report.totals.completed == len(rows), by
        assert report.totals.prompt_tokens == sum(row.prompt_tokens for row in rows), by


@pytest.mark.parametrize("by", [(), (UsageDimension.TAG,)])
async def test_a_filter_of_tags_is_what_plain_python_chooses(database: Database, by: Sequence[UsageDimension]):
    caller, rows = await some_usage(database, random.Random(2))
    rng = random.Random(3)
    pairs = [(name, value) for name in NAMES for value in VALUES]
    for chosen in [[], *([pair] for pair in pairs), *(rng.choices(pairs, k=rng.randrange(2, 8)) for _ in range(15))]:
        values = {name: {value for other, value in chosen if other == name} for name, _ in chosen}
        matching = [
            row
            for row in rows
            if chosen and all((row.tags or {}).get(name) in allowed for name, allowed in values.items())
        ]
        request = UsageRequest(*RANGE, granularity=Granularity.NONE, group_by=by, filter=UsageFilter(tags=chosen))
        report = await Usage(database).report(caller, request)
        assert report.totals.generations == len(matching), chosen
        if by:
            found = {(row.tag_name, row.tag_value): row.sums.generations for row in report.rows}
            assert found == Counter(tag for row in matching for tag in tags_of(row)), chosen


async def test_a_filter_of_end_users_chooses_generations(database: Database):
    caller, rows = await some_usage(database, random.Random(4))
    for chosen in ([], ["x"], ["Größe", "x", "nobody"]):
        report = await Usage(database).report(caller, UsageRequest(*RANGE, filter=UsageFilter(end_users=chosen)))
        assert report.totals.generations == sum(row.end_user in chosen for row in rows)


async def test_tags_combine_with_all_dimensions(database: Database):
    caller, rows = await some_usage(database, random.Random(6))
    admin = Principal(caller.user_id, caller.username, ALL_SCOPES)
    report = await Usage(database).report(admin, UsageRequest(*RANGE, group_by=list(UsageDimension)))
    assert report.totals.generations == len(rows)
    assert sum(row.sums.generations for row in report.rows) == sum(len(tags_of(row)) for row in rows)
    assert {row.user_id for row in report.rows} == {caller.user_id}


async def test_a_report_by_all_dimensions_of_nothing_has_no_rows(database: Database):
    caller = Principal(new_id(), "ada", ALL_SCOPES)
    report = await Usage(database).report(caller, UsageRequest(*RANGE, group_by=list(UsageDimension)))
    assert (report.rows, report.totals.generations, report.totals.prompt_tokens) == ([], 0, 0)


async def test_a_report_by_tag_may_have_as_many_rows_as_others(database: Database, monkeypatch: pytest.MonkeyPatch):
    caller, rows = await some_usage(database, random.Random(5))
    request = UsageRequest(*RANGE, granularity=Granularity.NONE, group_by=[UsageDimension.TAG])
    count = len({tag for row in rows for tag in tags_of(row)})
    monkeypatch.setattr("gateway.usage.reading.MAX_ROWS", count)
    report = await Usage(database).report(caller, request)
    assert (len(report.rows), report.totals.generations) == (count, len(rows))
    monkeypatch.setattr("gateway.usage.reading.MAX_ROWS", count - 1)
    with pytest.raises(InvalidInput, match="rows"):
        await Usage(database).report(caller, request)


async def test_a_report_that_only_rows_answer_reads_no_more_than_it_may(
    database: Database, monkeypatch: pytest.MonkeyPatch
):
    caller, rows = await some_usage(database, random.Random(7))
    both = UsageRequest(*RANGE, group_by=[UsageDimension.TAG, UsageDimension.MODEL])
    monkeypatch.setattr("gateway.usage.reading.MAX_READ", len(rows))
    assert (await Usage(database).report(caller, both)).totals.generations == len(rows)
    monkeypatch.setattr("gateway.usage.reading.MAX_READ", len(rows) - 1)
    for refused in (both, replace(both, group_by=[UsageDimension.TAG], percentiles=True)):
        with pytest.raises(InvalidInput, match=f"more than {len(rows) - 1} generations.*Shorten the time"):
            await Usage(database).report(caller, refused)
    others = replace(both, filter=UsageFilter(user_ids=[new_id()]))
    assert (await Usage(database).report(replace(caller, scopes=ALL_SCOPES), others)).totals.generations == 0


GENERATE = """
mutation($tags: [TagInput!], $endUser: String) { generate(input: {
  model: "fake:count-3", prompt: {text: "x"}, tags: $tags, endUser: $endUser
}) { ... on GenerateSuccess { generation { id } } ... on UserError { message } } }
"""
USAGE = """
query($input: UsageInput) { usage(input: $input) {
  totals { generations } rows { nodes { tag { name value } endUser totals { generations } } }
} }
"""


async def test_tags_and_end_users_of_requests_are_reported(used_gateway: RunningGateway):
    team, web = {"name": "team", "value": "red"}, {"name": "app", "value": "web"}
    for tags, end_user in [([team, web], "eve"), ([team], None), ([], "eve")]:
        made = await used_gateway.run(GENERATE, {"tags": tags, "endUser": end_user})
        assert made["generate"].get("generation"), made

    async def report(**input: Any) -> Json:
        return (await used_gateway.run(USAGE, {"input": {"granularity": "NONE", **input}}))["usage"]

    by_tag = await report(groupBy=["TAG"])
    assert by_tag["totals"]["generations"] == 3
    assert [(row["tag"], row["endUser"], row["totals"]["generations"]) for row in by_tag["rows"]["nodes"]] == [
        (None, None, 1),
        (web, None, 1),
        (team, None, 2),
    ]
    by_end_user = await report(groupBy=["END_USER"], filter={"tags": [team]})
    assert [(row["tag"], row["endUser"], row["totals"]["generations"]) for row in by_end_user["rows"]["nodes"]] == [
        (None, None, 1),
        (None, "eve", 1),
    ]
    assert (await report(filter={"tags": [team, web]}))["totals"]["generations"] == 1
    assert (await report(filter={"endUsers": ["eve"]}))["totals"]["generations"] == 2


@pytest.mark.parametrize(
    "chosen",
    [
        UsageFilter(models=["a", "\0"]),
        UsageFilter(backends=["a", "\0"]),
        UsageFilter(end_users=["a", "\0"]),
        UsageFilter(tags=[("a", "a"), ("\0", "")]),
        UsageFilter(tags=[("a", "a"), ("a", "\0")]),
    ],
    ids=["models", "backends", "end-users", "names", "values"],
)
async def test_a_text_that_no_generation_has_is_refused(shared_gateway: RunningGateway, chosen: UsageFilter):
    caller = Principal(new_id(), "ada", DEVELOPER_SCOPES)
    with pytest.raises(InvalidInput, match=r"input\.filter\.\w+\[1\]"):
        await Usage(shared_gateway.database).report(caller, UsageRequest(filter=chosen))
