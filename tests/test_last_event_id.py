"""A server-sent event has its number as its id, and a client that was cut off goes on behind it."""

import pytest

from tests.support.gateways import Json, RunningGateway
from tests.support.generations import GENERATE, WATCH, asking, start, text_of
from tests.support.http_streams import EVENT_STREAM, MULTIPART, http_stream

TEXTS = "subscription ($id: ID!) { generation(id: $id) { ... on TextDelta { text } } }"
REFUSED = """subscription ($input: GenerateInput!) {
  generate(input: $input) { ... on GenerationRefused { error { code message } } }
}"""
NUMBERS = "{ generations(first: 10) { nodes { id } } }"


@pytest.fixture
def gateway(emptied_gateway: RunningGateway) -> RunningGateway:
    """One for all tests here, which sends each token by itself, emptied before each of them."""
    return emptied_gateway


async def blocks(gateway: RunningGateway, query: str, variables: Json, **headers: str) -> list[Json]:
    async with http_stream(gateway, EVENT_STREAM, query, variables, **headers) as stream:
        return [block async for block in stream.blocks if "payload" in block]


def events(read: list[Json]) -> list[Json]:
    return [next(iter(block["payload"]["data"].values())) for block in read]


async def test_each_event_has_its_number_as_its_id(gateway: RunningGateway):
    read = await blocks(gateway, WATCH, {"id": await start(gateway, "fake:count-5")})
    assert [block["id"] for block in read] == [event["sequence"] for event in events(read)]


async def test_an_event_whose_number_is_not_selected_has_it_too(gateway: RunningGateway):
    read = await blocks(gateway, TEXTS, {"id": await start(gateway, "fake:count-5")})
    ids = [block["id"] for block in read]
    assert ids == sorted(set(ids))


async def test_what_is_no_event_has_no_id(gateway: RunningGateway):
    [block] = await blocks(gateway, "{ me { username } }", {})
    assert "id" not in block


async def test_a_client_that_was_cut_off_goes_on_behind_the_last_event(gateway: RunningGateway):
    id = await start(gateway, "fake:count-5")
    whole = await blocks(gateway, WATCH, {"id": id})
    for seen in range(len(whole) - 1):
        rest = await blocks(gateway, WATCH, {"id": id}, **{"Last-Event-ID": str(whole[seen]["id"])})
        assert text_of(events(whole[: seen + 1])) + text_of(events(rest)) == text_of(events(whole))


async def test_a_later_cursor_in_the_request_counts(gateway: RunningGateway):
    id = await start(gateway, "fake:count-5")
    whole = await blocks(gateway, WATCH, {"id": id})
    after = whole[-2]["id"]
    assert await blocks(gateway, WATCH, {"id": id, "after": after}, **{"Last-Event-ID": "1"}) == whole[-1:]


async def test_generate_goes_on_under_its_idempotency_key(gateway: RunningGateway):
    variables = asking("fake:count-5", idempotencyKey="mine")
    whole = await blocks(gateway, GENERATE, variables)
    for seen in range(len(whole) - 1):
        rest = await blocks(gateway, GENERATE, variables, **{"Last-Event-ID": str(whole[seen]["id"])})
        assert text_of(events(whole[: seen + 1])) + text_of(events(rest)) == text_of(events(whole))
        assert rest[-1] == whole[-1]
    assert len(gateway.fake.requests) == 1


async def test_generate_without_a_key_starts_no_second_generation(gateway: RunningGateway):
    await blocks(gateway, GENERATE, asking("fake:count-5"))
    [refused] = events(await blocks(gateway, REFUSED, asking("fake:count-5"), **{"Last-Event-ID": "3"}))
    assert refused["error"]["code"] == "INVALID_INPUT"
    assert "idempotencyKey" in refused["error"]["message"]
    assert len((await gateway.run(NUMBERS))["generations"]["nodes"]) == 1


@pytest.mark.parametrize("accept", [EVENT_STREAM, MULTIPART])
@pytest.mark.parametrize("id", ["x", "-1", "1.5", "9" * 16, "\N{FULLWIDTH DIGIT ONE}"])
async def test_an_id_that_no_event_has_is_refused(gateway: RunningGateway, accept: str, id: str):
    headers = {**gateway.headers(), "Accept": accept, "Last-Event-ID": id.encode()}
    response = await gateway.client.post("/graphql", json={"query": WATCH, "variables": {"id": "x"}}, headers=headers)
    assert response.status_code == 400
    assert response.json()["errors"][0]["extensions"]["code"] == "BAD_REQUEST"
