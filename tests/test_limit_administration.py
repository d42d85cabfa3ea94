"""Limits as administrators set, see and remove them."""

from typing import Any

import pytest
from sqlalchemy import func, select

from db.tables import LimitCounter
from schema.node import global_id
from tests.support.gateways import GraphQLErrors, Json, RunningGateway
from tests.support.generations import COMPLETE, asking

LIMIT = """
name measure window amount currency each timeZone updatedAt
conditions { role groupId userId apiKeyId model endUser tagName tagValue }
exceptions { apiKeyId userId groupId role amount }
"""
SET = f"""
mutation($input: SetLimitInput!) {{ setLimit(input: $input) {{ __typename
  ... on SetLimitSuccess {{ limit {{ {LIMIT} }} }}
  ... on InvalidInput {{ issues {{ path message }} }}
}} }}
"""
REMOVE = """
mutation($name: String!) { removeLimit(input: {name: $name}) { __typename ... on RemoveLimitSuccess { name }
  ... on UserError { code message } } }
"""
DAILY: Json = {"name": "tokens a day", "measure": "TOKENS", "window": "DAY", "amount": "1000", "each": ["USER"]}


@pytest.fixture
def gateway(emptied_gateway: RunningGateway) -> RunningGateway:
    """One for all tests here, emptied before each of them."""
    return emptied_gateway


async def set_limit(gateway: RunningGateway, **input: object) -> Json:
    return (await gateway.run(SET, {"input": {**DAILY, **input}}))["setLimit"]


async def used(gateway: RunningGateway) -> list[str]:
    return [it["used"] for it in (await gateway.run("{ viewer { limits { used } } }"))["viewer"]["limits"]]


async def test_a_limit_comes_back_as_it_was_set(emptied_gateway_on_each_database: RunningGateway):
    gateway = emptied_gateway_on_each_database
    user = global_id("User", (await gateway.make_user("ada")).id)
    key = (await gateway.make_key())["apiKey"]["id"]
    conditions = {"role": "developer", "userId": user, "apiKeyId": key, "model": "llama*", "endUser": "e"}
    exceptions = [{"for": {"apiKeyId": key}, "amount": "7.5"}, {"for": {"role": "admin"}, "amount": None}]
    set_as = await set_limit(
        gateway,
        measure="COST",
        amount="12.000000001",
        currency="EUR",
        each=["MODEL", "USER"],
        timeZone="Europe/Berlin",
        conditions={**conditions, "tag": {"name": "team", "value": "x"}},
        exceptions=exceptions,
    )
    limit = set_as["limit"]
    assert (await gateway.run(f"{{ limits {{ {LIMIT} }} }}"))["limits"] == [limit]
    assert limit.pop("updatedAt")
    assert limit == {
        **DAILY,
        "measure": "COST",
        "amount": "12.000000001",
        "currency": "EUR",
        "each": ["USER", "MODEL"],
        "timeZone": "Europe/Berlin",
        "conditions": {**conditions, "groupId": None, "tagName": "team", "tagValue": "x"},
        "exceptions": [
            {"apiKeyId": key, "userId": None, "groupId": None, "role": None, "amount": "7.5"},
            {"apiKeyId": None, "userId": None, "groupId": None, "role": "admin", "amount": None},
        ],
    }


@pytest.mark.parametrize(
    ("input", "paths"),
    [
        ({"name": "ünlimited"}, ["name"]),
        ({"name": ""}, ["name"]),
        ({"amount": "-1"}, ["amount"]),
        ({"amount": "1.5"}, ["amount"]),
        ({"measure": "COST", "amount": "0.0000000001", "currency": "EUR"}, ["amount"]),
        ({"measure": "COST"}, ["currency"]),
        ({"measure": "COST", "currency": "euro"}, ["currency"]),
        ({"currency": "EUR"}, ["currency"]),
        ({"window": None}, ["window"]),
        ({"measure": "PARALLEL"}, ["window"]),
        ({"each": ["TAG"]}, ["each"]),
        ({"timeZone": "Europe/Nowhere"}, ["timeZone"]),
        ({"conditions": {"role": "nobody"}}, ["conditions.role"]),
        ({"conditions": {"userId": global_id("User", "0" * 32)}}, ["conditions.userId"]),
        ({"conditions": {"groupId": global_id("User", "0" * 32)}}, ["conditions.groupId"]),
        ({"conditions": {"model": "a*b*c*d*e*f*"}}, ["conditions.model"]),
        ({"conditions": {"endUser": ""}}, ["conditions.endUser"]),
        (
            {"exceptions": [{"for": {"role": "admin"}, "amount": "1.5"}, {"for": {"role": "admin"}, "amount": "2"}]},
            ["exceptions.0.amount", "exceptions.1"],
        ),
        ({"exceptions": [{"for": {"role": "admin"}}] * 201}, ["exceptions"]),
        (
            {"amount": "-1", "window": None, "exceptions": [{"for": {"apiKeyId": global_id("ApiKey", "0" * 32)}}]},
            ["window", "amount", "exceptions.0.for.apiKeyId"],
        ),
    ],
)
async def test_what_cannot_be_is_told_all_at_once(gateway: RunningGateway, input: Json, paths: list[str]):
    result = await set_limit(gateway, **input)
    assert result["__typename"] == "InvalidInput"
    assert [".".join(issue["path"]) for issue in result["issues"]] == paths
    assert (await gateway.run("{ limits { name } }"))["limits"] == []


async def test_another_amount_leaves_what_was_counted(gateway: RunningGateway):
    await set_limit(gateway, amount="100000")
    await gateway.run(COMPLETE, asking("fake:count-3"))
    [before] = await used(gateway)
    assert int(before) > 0
    raised = await set_limit(gateway, amount="200000", exceptions=[{"for": {"role": "user"}, "amount": "5"}])
    assert (raised["limit"]["amount"], await used(gateway)) == ("200000", [before])
    await set_limit(gateway, amount="200000", timeZone="Europe/Berlin")
    assert await used(gateway) == ["0"]


async def test_a_limit_that_is_removed_limits_nothing(gateway: RunningGateway):
    await set_limit(gateway, amount="0")
    query = "mutation($input: GenerateInput!) { generate(input: $input) { __typename } }"
    assert (await gateway.run(query, asking("fake:count-3")))["generate"] == {"__typename": "QuotaExceeded"}
    assert (await gateway.run(REMOVE, {"name": DAILY["name"]}))["removeLimit"]["name"] == DAILY["name"]
    assert (await gateway.run(query, asking("fake:count-3")))["generate"] == {"__typename": "GenerateSuccess"}
    async with gateway.database.reading() as session:
        assert await session.scalar(select(func.count()).select_from(LimitCounter)) == 0
    again: dict[str, Any] = (await gateway.run(REMOVE, {"name": DAILY["name"]}))["removeLimit"]
    assert (again["code"], again["message"]) == ("NOT_FOUND", "There is no limit 'tokens a day'.")


async def test_who_may_set_limits_is_told_by_the_scope(gateway: RunningGateway):
    gateway.token = (await gateway.make_key(scopes=["USAGE_READ_ALL"]))["secret"]
    for query, variables in (("{ limits { name } }", {}), (SET, {"input": DAILY}), (REMOVE, {"name": "x"})):
        with pytest.raises(GraphQLErrors) as refused:
            await gateway.run(query, variables)
        assert refused.value.code == "FORBIDDEN"


async def test_what_was_set_is_in_the_audit_log(gateway: RunningGateway):
    await set_limit(gateway, name="audited", conditions={"tag": {"name": "team"}})
    log = '{ auditLog(first: 1, filter: {actions: ["setLimit"]}) { nodes { action outcome details } } }'
    [event] = (await gateway.run(log))["auditLog"]["nodes"]
    assert (event["action"], event["outcome"]) == ("setLimit", "SUCCESS")
    told = {"name": "audited", "amount": "1000", "measure": "TOKENS", "window": "DAY", "each": ["USER"]}
    assert told.items() <= event["details"].items()
    assert event["details"]["conditions"]["tag"]["name"] == "team"
