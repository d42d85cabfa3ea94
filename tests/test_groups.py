"""Groups, and the models that their members may use."""

from uuid import UUID

import anyio
import pytest
from sqlalchemy import select

from db.tables import UsageRecord
from schema.node import global_id
from tests.support.gateways import GraphQLErrors, Json, RunningGateway, refused_field
from tests.test_accounts import make, make_manager, mutate

GROUPS = """
query($first: Int, $after: String, $search: String) { groups(first: $first, after: $after, search: $search) {
  nodes { name memberCount members { nodes { username } } } pageInfo { endCursor hasNextPage }
} }
"""
START = """
mutation($input: GenerateInput!) { startGeneration(input: $input) {
  __typename ... on ModelNotFound { suggestions } ... on StartGenerationSuccess { generation { id } }
} }
"""


@pytest.fixture
def gateway(emptied_gateway: RunningGateway) -> RunningGateway:
    return emptied_gateway


async def make_group(gateway: RunningGateway, name: str, models: list[str] | None, *members: str) -> str:
    made = await mutate(gateway, "createGroup", "group", name=name, models=models)
    group = made["group"]["id"]
    if members:
        added = await mutate(gateway, "addGroupMembers", "group", groupId=group, userIds=list(members))
        assert added["__typename"] == "AddGroupMembersSuccess"
    return group


async def start(gateway: RunningGateway, model: str) -> Json:
    input = {"model": model, "prompt": {"text": "hi"}, "onDisconnect": "CONTINUE"}
    return (await gateway.run(START, {"input": input}))["startGeneration"]


async def models(gateway: RunningGateway) -> set[str]:
    return {model["name"] for model in (await gateway.run("{ models { name } }"))["models"]}


async def test_a_model_that_no_group_allows_does_not_exist_for_the_members(gateway: RunningGateway):
    ada = await make(gateway, "ada")
    every = await models(gateway)
    await make_group(gateway, "few", ["fake:count-3"], ada)
    await gateway.sign_in("ada")
    assert await models(gateway) == {"fake:count-3"}
    seen = await gateway.run(
        'query($id: ID!) { model(name: "fake:count-5") { id } node(id: $id) { id } }',
        {"id": global_id("Model", "fake:count-5")},
    )
    assert seen == {"model": None, "node": None}
    assert await start(gateway, "fake:count-5") == {"__typename": "ModelNotFound", "suggestions": ["fake:count-3"]}
    answer = await gateway.run(
        'mutation { generate(input: {model: "fake:count-5", prompt: {text: "x"}}) { __typename } }'
    )
    assert answer["generate"]["__typename"] == "ModelNotFound"
    refused = await gateway.events(
        'subscription { generate(input: {model: "fake:count-5", prompt: {text: "x"}}) { __typename } }'
    )
    assert refused == [{"__typename": "GenerationRefused"}]
    assert (await start(gateway, "fake:count-3"))["__typename"] == "StartGenerationSuccess"
    await gateway.sign_in()
    assert await models(gateway) == every


async def test_what_any_group_allows_may_be_used_and_a_key_narrows_it(gateway: RunningGateway):
    ada = await make(gateway, "ada")
    await make_group(gateway, "threes", ["*-3"], ada)
    fives = await make_group(gateway, "fives", ["FAKE:count-5"], ada)
    await gateway.sign_in("ada")
    found = await models(gateway)
    assert "fake:count-5" in found
    assert "fake:count-3" in found
    assert "fake:hold-5" not in found
    earlier = (await start(gateway, "fake:count-5"))["generation"]["id"]
    await gateway.sign_in()
    await mutate(gateway, "removeGroupMembers", "group", groupId=fives, userIds=[ada])
    await gateway.sign_in("ada")
    assert "fake:count-5" not in await models(gateway)
    query = "query($id: ID!) { generation(id: $id) { modelName model { id } } }"
    assert (await gateway.run(query, {"id": earlier}))["generation"] == {"modelName": "fake:count-5", "model": None}


async def test_a_group_without_a_list_allows_all_and_one_with_an_empty_list_nothing(gateway: RunningGateway):
    ada, bob = await make(gateway, "ada"), await make(gateway, "bob")
    every = await models(gateway)
    nothing = await make_group(gateway, "nothing", [], ada, bob)
    await make_group(gateway, "all", None, ada)
    await gateway.sign_in("ada")
    assert await models(gateway) == every
    await gateway.sign_in("bob")
    assert await models(gateway) == set()
    await gateway.sign_in()
    await mutate(gateway, "deleteGroup", "groupId", id=nothing)
    await gateway.sign_in("bob")
    assert await models(gateway) == every


async def test_groups_are_paged_and_searched_and_tell_their_members(gateway: RunningGateway):
    ada = await make(gateway, "ada")
    for name in ("b%", "a", "c"):
        await make_group(gateway, name, None, *([ada] if name == "a" else []))
    page = (await gateway.run(GROUPS, {"first": 2}))["groups"]
    assert page["nodes"][0] == {"name": "a", "memberCount": 1, "members": {"nodes": [{"username": "ada"}]}}
    rest = (await gateway.run(GROUPS, {"first": 2, "after": page["pageInfo"]["endCursor"]}))["groups"]
    assert [group["name"] for group in (*page["nodes"], *rest["nodes"])] == ["a", "b%", "c"]
    assert [it["name"] for it in (await gateway.run(GROUPS, {"search": "%"}))["groups"]["nodes"]] == ["b%"]
    assert (await gateway.run('{ users(filter: {search: "ada"}) { nodes { groups { name } } } }'))["users"] == {
        "nodes": [{"groups": [{"name": "a"}]}]
    }


async def test_a_member_sees_their_own_groups_and_no_others(gateway: RunningGateway):
    ada = await make(gateway, "ada")
    mine, other = await make_group(gateway, "mine", ["*"], ada), await make_group(gateway, "other", None)
    await gateway.sign_in("ada")
    query = "query($id: ID!) { group(id: $id) { name } node(id: $id) { id } }"
    assert await gateway.run(query, {"id": mine}) == {"group": {"name": "mine"}, "node": {"id": mine}}
    assert await gateway.run(query, {"id": other}) == {"group": None, "node": None}
    assert (await gateway.run("{ me { groups { name models } } }"))["me"]["groups"] == [
        {"name": "mine", "models": ["*"]}
    ]
    with pytest.raises(GraphQLErrors, match="USERS_READ"):
        await gateway.run("query($id: ID!) { group(id: $id) { memberCount } }", {"id": mine})


async def test_what_cannot_be_a_group_is_refused(gateway: RunningGateway):
    group = await make_group(gateway, "a", None)
    assert refused_field(await mutate(gateway, "createGroup", "group", name="a")) == "name"
    other = await make_group(gateway, "b", None)
    assert refused_field(await mutate(gateway, "updateGroup", "group", id=other, name="a")) == "name"
    bad = await mutate(gateway, "updateGroup", "group", id=group, models=["ok", "a*b*c*d*e*f", ""])
    assert [issue["path"] for issue in bad["issues"]] == [["models", "1"], ["models", "2"]]
    nobody = global_id("User", "0" * 32)
    added = await mutate(gateway, "addGroupMembers", "group", groupId=group, userIds=[nobody])
    assert refused_field(added) == "userIds[0]"
    gone = await mutate(gateway, "deleteGroup", "groupId", id=global_id("Group", "0" * 32))
    assert gone["__typename"] == "NotFound"
    kept = await mutate(gateway, "updateGroup", "group", id=group, description="What it is for.")
    assert kept["group"] == {"id": group, "name": "a", "models": None}


async def test_a_manager_cannot_limit_who_may_do_more_or_lift_their_own_limit(gateway: RunningGateway):
    admin = (await gateway.run("{ me { id } }"))["me"]["id"]
    manager = await make_manager(gateway)
    theirs = await make_group(gateway, "admins", None, admin)
    empty = await make_group(gateway, "empty", ["fake:*"])
    await gateway.sign_in("helpdesk")
    for name, input in (
        ("updateGroup", {"id": theirs, "models": []}),
        ("addGroupMembers", {"groupId": empty, "userIds": [admin]}),
        ("removeGroupMembers", {"groupId": theirs, "userIds": [admin]}),
        ("deleteGroup", {"id": theirs}),
    ):
        with pytest.raises(GraphQLErrors, match="may do more"):
            await mutate(gateway, name, "__typename", **input)
    await mutate(gateway, "addGroupMembers", "group", groupId=empty, userIds=[manager])
    for name, input in (
        ("removeGroupMembers", {"groupId": empty, "userIds": [manager]}),
        ("createUser", {"username": "free", "role": "helpdesk"}),
    ):
        with pytest.raises(GraphQLErrors, match="limited to some models"):
            await mutate(gateway, name, "__typename", **input)


async def test_of_groups_made_at_once_with_one_name_there_is_one(gateway: RunningGateway):
    made: list[str] = []

    async def one() -> None:
        made.append((await mutate(gateway, "createGroup", "group", name="a"))["__typename"])

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(one)
    assert sorted(made) == ["CreateGroupSuccess", "InvalidInput", "InvalidInput"]


async def test_the_ledger_has_the_groups_that_the_user_was_in_at_the_start(gateway: RunningGateway):
    me = (await gateway.run("{ me { id } }"))["me"]["id"]
    groups = [await make_group(gateway, name, None, me) for name in ("red", "blue")]
    await make_group(gateway, "without", None)
    made = "mutation($input: GenerateInput!) { generate(input: $input) { __typename } }"
    await gateway.run(made, {"input": {"model": "fake:count-3", "prompt": {"text": "hi"}}})
    async with gateway.database.reading() as session:
        [record] = (await session.scalars(select(UsageRecord))).all()
    assert {global_id("Group", UUID(group)) for group in record.group_ids or ()} == set(groups)
    assert (record.cancel_reason, record.error_code) == (None, None)
    assert None not in (record.queued_ms, record.time_to_first_token_ms, record.last_token_ms, record.total_ms)
