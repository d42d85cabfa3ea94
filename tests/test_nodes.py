"""Many objects by their ids: in order, each with its own permission, and in one statement for each type."""

from typing import Any

import pytest

from db.clock import new_id
from schema.node import MAX_NODE_IDS, global_id
from tests.support.gateways import GraphQLErrors, Json, RunningGateway
from tests.test_dataloaders import statements, write_rows


@pytest.fixture
def gateway(emptied_gateway: RunningGateway) -> RunningGateway:
    """One for all tests here, emptied before each of them."""
    return emptied_gateway


NODES = """
query($ids: [ID!]!) { nodes(ids: $ids) {
  __typename id ... on User { username } ... on ApiKey { name } ... on Generation { modelName } ... on Model { name }
} }
"""
MINE = "{ me { id apiKeys { id } } generations(first: 50) { nodes { id } } models { id } }"


async def ids_of(gateway: RunningGateway) -> list[str]:
    """The ids of all that the administrator has, of every type."""
    data = await gateway.run(MINE)
    keys = [key["id"] for key in data["me"]["apiKeys"]]
    generations = [row["id"] for row in data["generations"]["nodes"]]
    return [data["me"]["id"], *keys, *generations, data["models"][0]["id"]]


async def nodes(gateway: RunningGateway, ids: list[str]) -> list[Any]:
    return (await gateway.run(NODES, {"ids": ids}))["nodes"]


def found(node: Json | None) -> str | None:
    return None if node is None else node["id"]


async def test_objects_of_all_types_come_in_the_order_of_their_ids(gateway: RunningGateway):
    await write_rows(gateway, 3)
    ids = await ids_of(gateway)
    mixed = [ids[3], ids[-1], global_id("User", new_id()), ids[0], ids[4], ids[3], global_id("Model", "none")]
    answer = await nodes(gateway, mixed)
    assert [found(node) for node in answer] == [*mixed[:2], None, *mixed[3:6], None]
    assert {node["__typename"] for node in await nodes(gateway, ids)} == {"User", "ApiKey", "Generation", "Model"}


async def test_there_is_one_statement_for_each_type_however_many_ids(emptied_gateway_on_each_database: RunningGateway):
    gateway = emptied_gateway_on_each_database
    await write_rows(gateway, 20)
    ids = await ids_of(gateway)
    counts: list[int] = []
    for some in ([ids[0], ids[1], ids[-2]], ids):
        with statements() as asked:
            assert [found(node) for node in await nodes(gateway, some)] == some
        counts.append(len(asked))
    assert counts == [1 + 3, 1 + 3]  # who asks, and three types that the database has


async def test_no_more_than_a_hundred_ids_are_taken(gateway: RunningGateway):
    ids = [global_id("User", new_id())] * MAX_NODE_IDS
    assert await nodes(gateway, ids) == [None] * MAX_NODE_IDS
    with pytest.raises(GraphQLErrors) as refused:
        await nodes(gateway, [*ids, ids[0]])
    assert refused.value.code == "INVALID_INPUT"


async def test_what_is_another_users_is_null(gateway: RunningGateway):
    await write_rows(gateway, 1)
    theirs = (await ids_of(gateway))[:3]
    ada = await gateway.make_user("ada")
    await gateway.sign_in("ada")
    own = global_id("User", ada.id)
    assert [found(node) for node in await nodes(gateway, [*theirs, own])] == [None, None, None, own]
    for id in theirs:
        assert (await gateway.run("query($id: ID!) { node(id: $id) { id } }", {"id": id}))["node"] is None


async def test_an_administrator_sees_what_is_another_users(gateway: RunningGateway):
    ada = await gateway.make_user("ada")
    await gateway.sign_in("ada")
    key = (await gateway.make_key("theirs"))["apiKey"]["id"]
    await gateway.sign_in()
    assert [node["__typename"] for node in await nodes(gateway, [global_id("User", ada.id), key])] == ["User", "ApiKey"]


async def test_an_id_that_is_refused_costs_only_its_own_place(gateway: RunningGateway):
    await write_rows(gateway, 1)
    user, key, generation, model = await ids_of(gateway)
    gateway.token = (await gateway.make_key("app", scopes=["PROFILE_READ", "MODELS_READ"]))["secret"]
    response = (await gateway.post(NODES, {"ids": [user, key, "nonsense", generation, model]})).json()
    assert [found(node) for node in response["data"]["nodes"]] == [user, None, None, None, model]
    refusals = {error["path"][1]: error["extensions"]["code"] for error in response["errors"]}
    assert refusals == {1: "FORBIDDEN", 2: "INVALID_INPUT", 3: "FORBIDDEN"}
