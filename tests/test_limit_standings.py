"""How limits stand for users, keys, groups and generations, and who may see it."""

import pytest

from gateway.limits import LimitDimension, LimitWindow, Measure
from tests.support.gateways import Json, RunningGateway
from tests.support.generations import none_runs, set_limit, start
from tests.test_accounts import make
from tests.test_dataloaders import statements
from tests.test_groups import make_group

LIMITS = "limits { name used limit scope { dimension } }"
NODES = f"""
query($ids: [ID!]!) {{ nodes(ids: $ids) {{ __typename
  ... on User {{ {LIMITS} }} ... on ApiKey {{ {LIMITS} }} ... on Group {{ {LIMITS} }} ... on Generation {{ {LIMITS} }}
}} }}
"""


@pytest.fixture
def gateway(emptied_gateway: RunningGateway) -> RunningGateway:
    return emptied_gateway


def told(node: Json) -> dict[str, tuple[str, str]]:
    return {limit["name"]: (limit["used"], limit["limit"]) for limit in node["limits"]}


async def test_each_tells_of_the_limits_that_count_it(gateway: RunningGateway):
    ada = await make(gateway, "ada")
    group = await make_group(gateway, "team", None, ada)
    day = (Measure.REQUESTS, LimitWindow.DAY)
    await set_limit(gateway.database, 5, *day, LimitDimension.USER, name="user")
    await set_limit(gateway.database, 6, *day, LimitDimension.API_KEY, name="key")
    await set_limit(gateway.database, 7, *day, LimitDimension.GROUP, name="group")
    await set_limit(gateway.database, 8, *day, LimitDimension.MODEL, name="model", model="fake:count-3")
    await set_limit(gateway.database, 9, *day, name="another", model="other*")
    await gateway.sign_in("ada")
    key = await gateway.make_key()
    gateway.token = key["secret"]
    generation = await start(gateway, "fake:count-3", onDisconnect="CONTINUE")
    await none_runs(gateway)
    await gateway.sign_in("ada")
    user, api_key, team, made = (await gateway.run(NODES, {"ids": [ada, key["apiKey"]["id"], group, generation]}))[
        "nodes"
    ]
    assert told(user) == {"user": ("1", "5"), "group": ("1", "7")}
    assert told(api_key) == {"user": ("1", "5"), "key": ("1", "6"), "group": ("1", "7")}
    assert told(team) == {"group": ("1", "7")}
    assert told(made) == {"user": ("1", "5"), "key": ("1", "6"), "group": ("1", "7"), "model": ("1", "8")}


async def test_others_see_it_with_usage_read_all_alone(gateway: RunningGateway):
    ada, eve = await make(gateway, "ada"), await make(gateway, "eve", role="admin")
    group = await make_group(gateway, "team", None, ada)
    await set_limit(gateway.database, 5, Measure.REQUESTS, LimitWindow.DAY, LimitDimension.USER, name="user")
    await gateway.sign_in("eve")
    with statements() as asked:
        nodes = (await gateway.run(NODES, {"ids": [ada, eve, group]}))["nodes"]
    assert [told(node) for node in nodes] == [{"user": ("0", "5")}, {"user": ("0", "5")}, {}]
    assert sum("limit_counters" in statement for statement in asked) == 1
    role = "mutation($input: CreateRoleInput!) { createRole(input: $input) { __typename } }"
    scopes = ["USERS_READ", "USAGE_READ", "PROFILE_READ"]
    await gateway.run(role, {"input": {"name": "helper", "scopes": scopes}})
    await make(gateway, "bob", role="helper")
    await gateway.sign_in("bob")
    nodes = (await gateway.run(NODES, {"ids": [ada, group]}))["nodes"]
    assert [node["limits"] for node in nodes] == [None, None]
