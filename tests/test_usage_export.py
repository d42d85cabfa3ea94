"""Usage reports as files: over HTTP, and on the command line."""

import csv
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any

import orjson
import pytest
from click.testing import CliRunner

from db.clock import new_id
from db.tables import UsageRecord, User
from schema.node import parse_uuid
from server.cli import main
from tests.support.gateways import RunningGateway

START = datetime(2026, 3, 1, tzinfo=UTC)
MARCH = {"from": "2026-03-01T00:00:00Z", "to": "2026-04-01T00:00:00Z"}


@pytest.fixture
def gateway(emptied_gateway: RunningGateway) -> RunningGateway:
    """One for all tests here, emptied before each of them."""
    return emptied_gateway


async def used(gateway: RunningGateway, user: User, **columns: Any) -> None:
    row = {"model": "m", "prompt_tokens": 10, "completion_tokens": 1, "source": "BACKEND", "at": START, **columns}
    async with gateway.database.transaction() as tx:
        tx.add(UsageRecord(generation_id=new_id(), user_id=user.id, **row))


async def rows_of(gateway: RunningGateway, asked: Any) -> list[dict[str, str]]:
    response = await gateway.client.get("/usage.csv", headers=gateway.headers(), params=asked)
    return list(csv.DictReader(StringIO(response.text)))


async def test_a_report_comes_as_csv_and_as_json_lines(gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("gateway.usage.reading.MAX_ROWS", 2)  # several portions
    ada = await gateway.make_user("ada")
    for day in range(5):
        await used(gateway, ada, at=START + timedelta(days=day), tags={"team": "=1+1"})
    await used(gateway, ada, at=START, cost_nano=1_500_000_000, currency="EUR", tags={"team": "b"})
    await gateway.sign_in("ada")
    asked = {**MARCH, "groupBy": ["MODEL", "TAG"]}
    as_csv = await gateway.client.get("/usage.csv", headers=gateway.headers(), params=asked)
    as_json = await gateway.client.get("/usage.jsonl", headers=gateway.headers(), params=asked)
    assert (as_csv.status_code, as_csv.headers["content-type"]) == (200, "text/csv; charset=utf-8")
    rows = list(csv.DictReader(StringIO(as_csv.text)))
    lines = [orjson.loads(line) for line in as_json.content.splitlines()]
    assert [row["start"][8:10] for row in rows] == ["01", "01", "02", "03", "04", "05"]
    assert [line["start"] for line in lines] == [row["start"] for row in rows]
    assert (rows[0]["tagValue"], lines[0]["tagValue"]) == ("'=1+1", "=1+1")
    assert (rows[1]["costs"], lines[1]["costs"]) == ("1.5 EUR", [{"amount": "1.5", "currency": "EUR"}])
    assert (rows[1]["promptTokens"], lines[1]["promptTokens"]) == ("10", 10)


async def test_names_stand_beside_ids_and_percentiles_come_where_they_are_asked_for(gateway: RunningGateway):
    ada = await gateway.make_user("ada")
    await gateway.sign_in("ada")
    key = await gateway.make_key("laptop")
    key_id = parse_uuid(key["apiKey"]["id"], "ApiKey", "id")
    for number in (10, 20):
        await used(gateway, ada, api_key_id=key_id, time_to_first_token_ms=number, group_ids=[str(new_id())])
    asked = {**MARCH, "groupBy": ["API_KEY", "GROUP"], "percentiles": "true"}
    [line] = (await gateway.client.get("/usage.jsonl", headers=gateway.headers(), params=asked)).content.splitlines()[
        :1
    ]
    told = orjson.loads(line)
    assert (told["apiKeyName"], told["groupName"]) == ("laptop", None)  # there is no such group any more
    assert set(told["timeToFirstTokenMs"].values()) in ({10}, {20})
    assert told["tokensPerSecond"] == dict.fromkeys(("p50", "p90", "p95", "p99"))
    asked["groupBy"] = ["API_KEY"]
    [row] = await rows_of(gateway, asked)
    assert (row["timeToFirstTokenMsP50"], row["timeToFirstTokenMsP99"], row["tokensPerSecondP50"]) == (
        "10.0",
        "20.0",
        "",
    )
    await gateway.be_administrator()
    asked |= {"groupBy": ["USER"], "allUsers": "true", "percentiles": "false"}
    [row] = await rows_of(gateway, asked)
    assert (row["username"], "timeToFirstTokenMsP50" in row) == ("ada", False)


@pytest.mark.parametrize(
    ("asked", "status", "said"),
    [
        ({"allUsers": "true"}, 403, "USAGE_READ_ALL"),
        ({"form": "x"}, 400, "form is no parameter"),
        ({"from": "yesterday"}, 400, "from must be a date"),
        ({"granularity": "YEAR"}, 400, "must be one of HOUR"),
        ({"timeZone": "Mars"}, 400, "must be a time zone"),
        ({"userId": "x"}, 400, "userId"),
    ],
    ids=str,
)
async def test_what_is_no_report_is_refused(gateway: RunningGateway, asked: dict[str, str], status: int, said: str):
    await gateway.make_user("ada")
    await gateway.sign_in("ada")
    response = await gateway.client.get("/usage.csv", headers=gateway.headers(), params=asked)
    assert (response.status_code, said in response.text) == (status, True)


async def test_nobody_without_credentials_gets_a_report(gateway: RunningGateway):
    assert (await gateway.client.get("/usage.csv")).status_code == 401


def test_the_command_prints_a_header_where_nothing_was_used(tmp_path: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OLLAGRAPH_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    printed = CliRunner().invoke(main, ["usage", "--group-by", "model", "--granularity", "month"]).stdout
    assert printed.startswith("start,end,model,generations,")
    refused = CliRunner().invoke(main, ["usage", "--granularity", "YEAR"])
    assert (refused.exit_code, "must be one of HOUR" in refused.output) == (1, True)
