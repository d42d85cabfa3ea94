"""Pages of generations, and anything again by its id (Relay's Cursor Connections and Global Object Identification)."""

from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select
from strawberry.relay.utils import to_base64

from db.clock import new_id, now
from db.tables import Generation, User
from tests.support.gateways import ADMIN, GraphQLErrors, Json, RunningGateway


@pytest.fixture
def gateway(emptied_gateway: RunningGateway) -> RunningGateway:
    """One for all tests here, emptied before each of them."""
    return emptied_gateway


PAGE = """
query($first: Int, $after: String, $filter: GenerationFilter) {
  generations(first: $first, after: $after, filter: $filter) {
    edges { cursor node { modelName state } } nodes { id }
    pageInfo { hasNextPage hasPreviousPage startCursor endCursor }
  }
}
"""
NODE = """
query($id: ID!) { node(id: $id) {
  __typename id ... on User { username } ... on ApiKey { name } ... on Generation { modelName } ... on Model { name }
} }
"""


async def write_generations(gateway: RunningGateway, user: User | None, *models: str, state: str = "COMPLETED") -> None:
    """Generations as they stand in the database when they have ended; None is the administrator."""
    async with gateway.database.transaction() as tx:
        user_id = await tx.scalar(select(User.id).where(User.username == (user.username if user else ADMIN)))
        for model in models:
            tx.add(
                Generation(
                    id=new_id(),
                    user_id=user_id,
                    model=model,
                    backend="ollama",
                    state=state,
                    on_disconnect="CONTINUE",
                    created_at=now(),
                    finished_at=now(),  # else it is taken over
                )
            )


async def page(gateway: RunningGateway, **variables: Any) -> Json:
    return (await gateway.run(PAGE, variables))["generations"]


def models(page: Json) -> list[str]:
    return [edge["node"]["modelName"] for edge in page["edges"]]


async def test_pages_go_from_the_newest_to_the_oldest(emptied_gateway_on_each_database: RunningGateway):
    gateway = emptied_gateway_on_each_database
    await write_generations(gateway, None, "a", "b", "c", "d", "e")
    seen, after = [], None
    for more in (True, True, False):
        found = await page(gateway, first=2, after=after)
        assert found["pageInfo"]["hasNextPage"] is more
        assert found["pageInfo"]["hasPreviousPage"] is (after is not None)
        after = found["pageInfo"]["endCursor"]
        seen.append(models(found))
    assert seen == [["e", "d"], ["c", "b"], ["a"]]


async def test_a_page_that_ends_with_the_last_one_has_no_next(gateway: RunningGateway):
    await write_generations(gateway, None, "a", "b")
    assert (await page(gateway, first=2))["pageInfo"]["hasNextPage"] is False


async def test_what_comes_while_paging_does_not_shift_the_pages(gateway: RunningGateway):
    await write_generations(gateway, None, "a", "b", "c", "d")
    first = await page(gateway, first=2)
    await write_generations(gateway, None, "new", "newer")
    assert models(await page(gateway, first=2, after=first["pageInfo"]["endCursor"])) == ["b", "a"]


async def test_the_cursors_of_a_page_are_those_of_its_ends(gateway: RunningGateway):
    await write_generations(gateway, None, "a", "b", "c")
    found = await page(gateway, first=2)
    cursors = [edge["cursor"] for edge in found["edges"]]
    assert [found["pageInfo"]["startCursor"], found["pageInfo"]["endCursor"]] == cursors
    assert len(found["nodes"]) == 2


async def test_a_page_of_nothing_has_no_cursors(gateway: RunningGateway):
    assert await page(gateway) == {
        "edges": [],
        "nodes": [],
        "pageInfo": {"hasNextPage": False, "hasPreviousPage": False, "startCursor": None, "endCursor": None},
    }


FILTERED: list[tuple[Json | None, list[str]]] = [
    ({"states": ["FAILED"]}, ["b"]),
    ({"states": ["FAILED", "COMPLETED"]}, ["b", "a", "a"]),
    ({"states": []}, []),
    ({"model": "a"}, ["a", "a"]),
    ({"model": "A"}, []),
    ({"model": "a", "states": ["FAILED"]}, []),
    ({}, ["b", "a", "a"]),
    (None, ["b", "a", "a"]),
]


async def test_a_filter_takes_by_state_and_model(emptied_gateway: RunningGateway):
    await write_generations(emptied_gateway, None, "a", "a")
    await write_generations(emptied_gateway, None, "b", state="FAILED")
    for filter, found in FILTERED:
        assert models(await page(emptied_gateway, filter=filter)) == found, filter


@pytest.mark.parametrize("first", [0, -1, 101])
async def test_a_page_of_an_impossible_size_is_refused(gateway: RunningGateway, first: int):
    with pytest.raises(GraphQLErrors, match="first: must be from 1 to 100") as caught:
        await page(gateway, first=first)
    assert caught.value.code == "INVALID_INPUT"


@pytest.mark.parametrize("cursor", ["", "nonsense", to_base64("User", UUID(int=5)), to_base64("Generation", "5")])
async def test_a_cursor_of_something_else_is_refused(gateway: RunningGateway, cursor: str):
    with pytest.raises(GraphQLErrors, match="after:") as caught:
        await page(gateway, after=cursor)
    assert caught.value.code == "INVALID_INPUT"


async def test_a_model_name_that_postgresql_cannot_hold_is_refused(emptied_gateway_on_each_database: RunningGateway):
    with pytest.raises(GraphQLErrors, match=r"filter\.model"):
        await page(emptied_gateway_on_each_database, filter={"model": "a\0b"})


async def test_nobody_pages_through_the_generations_of_others(gateway: RunningGateway):
    ada = await gateway.make_user("ada")
    await write_generations(gateway, ada, "hers")
    assert models(await page(gateway)) == []
    await gateway.sign_in("ada")
    assert models(await page(gateway)) == ["hers"]


async def things_of_ada(gateway: RunningGateway) -> dict[str, str]:
    """The ids of what a second user owns; she stays signed in."""
    await write_generations(gateway, await gateway.make_user("ada"), "hers")
    await gateway.sign_in("ada")
    key = await gateway.make_key("hers")
    data = await gateway.run("{ me { id } generations { nodes { id } } }")
    return {
        "User": data["me"]["id"],
        "ApiKey": key["apiKey"]["id"],
        "Generation": data["generations"]["nodes"][0]["id"],
    }


async def test_a_user_finds_each_thing_of_theirs_by_its_id(emptied_gateway_on_each_database: RunningGateway):
    gateway = emptied_gateway_on_each_database
    found = {name: (await gateway.run(NODE, {"id": id}))["node"] for name, id in (await things_of_ada(gateway)).items()}
    assert {name: node["__typename"] for name, node in found.items()} == {name: name for name in found}
    assert [found["User"]["username"], found["ApiKey"]["name"], found["Generation"]["modelName"]] == (
        ["ada", "hers", "hers"]
    )


async def test_nobody_finds_the_things_of_others(gateway: RunningGateway):
    ids = await things_of_ada(gateway)
    await gateway.make_user("bob")
    await gateway.sign_in("bob")
    assert [(await gateway.run(NODE, {"id": id}))["node"] for id in ids.values()] == [None, None, None]


async def test_a_model_is_found_by_its_id(gateway: RunningGateway):
    listed = (await gateway.run("{ models { id name } }"))["models"]
    node = (await gateway.run(NODE, {"id": listed[0]["id"]}))["node"]
    assert (node["__typename"], node["name"]) == ("Model", listed[0]["name"])


@pytest.mark.parametrize("kind", ["User", "ApiKey", "Generation"])
async def test_an_id_of_nothing_finds_nothing(gateway: RunningGateway, kind: str):
    assert (await gateway.run(NODE, {"id": to_base64(kind, new_id())}))["node"] is None


async def test_a_model_that_is_not_served_is_found_no_more(gateway: RunningGateway):
    assert (await gateway.run(NODE, {"id": to_base64("Model", "gone")}))["node"] is None


@pytest.mark.parametrize("id", ["", "nonsense", "é", to_base64("Backend", "x"), to_base64("User", "x"), "VXNlcg=="])
async def test_what_is_no_id_of_this_api_is_refused(gateway: RunningGateway, id: str):
    with pytest.raises(GraphQLErrors, match="is not an id of this API") as caught:
        await gateway.run(NODE, {"id": id})
    assert caught.value.code == "INVALID_INPUT"


@pytest.mark.parametrize(
    ("kind", "scope"), [("User", "PROFILE_READ"), ("ApiKey", "KEYS_READ"), ("Generation", "GENERATIONS_READ")]
)
async def test_a_thing_needs_the_scope_of_its_kind(gateway: RunningGateway, kind: str, scope: str):
    ids = await things_of_ada(gateway)
    scopes = ["MODELS_READ"] if kind == "User" else ["PROFILE_READ"]
    gateway.token = (await gateway.make_key(scopes=scopes))["secret"]
    with pytest.raises(GraphQLErrors, match=scope) as caught:
        await gateway.run(NODE, {"id": ids[kind]})
    assert caught.value.code == "FORBIDDEN"
