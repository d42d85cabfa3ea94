"""What responses tell of limits beside their data: in `extensions`, and over HTTP in headers."""

import re

import httpx
import pytest

from tests.support.gateways import RunningGateway
from tests.support.generations import GENERATE, asking, cancel, start
from tests.support.http_streams import EVENT_STREAM, MULTIPART, http_stream
from tests.support.shared.gateways import as_new, sharing
from tests.test_limit_administration import set_limit

impatient = sharing(limit_wait_time=0.1)

HEAD_WAIT = "server.transports.http_stream.LONGEST_HEAD_WAIT"


@pytest.fixture
def gateway(emptied_gateway: RunningGateway) -> RunningGateway:
    """One for all tests here, emptied before each of them."""
    return emptied_gateway


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Heads wait for what is left, however busy the machine is."""
    monkeypatch.setattr(HEAD_WAIT, 60)


START = "mutation($input: GenerateInput!) { generate(input: $input) { __typename } }"


async def ask(gateway: RunningGateway) -> httpx.Response:
    return await gateway.post(START, asking("fake:count-3"))


async def test_a_start_tells_what_is_left(gateway: RunningGateway):
    await set_limit(gateway, name="requests", measure="REQUESTS", window="MINUTE", amount="2", each=[])
    await set_limit(gateway, name="at once", measure="PARALLEL", window=None, amount="5", each=["USER"])
    response = await ask(gateway)
    policy = r'"at once";q=5;qu="concurrent-requests";pk=:[\w+/]{12}:'
    headers = response.headers
    assert re.fullmatch(rf'"requests";q=2;qu="requests";w=60, {policy}', headers["RateLimit-Policy"])
    assert re.fullmatch(r'"requests";r=1;t=(60|5\d), "at once";r=4;pk=:[\w+/]{12}:', headers["RateLimit"])
    assert "Retry-After" not in headers
    at_once, requests = response.json()["extensions"]["limits"]
    assert [part["dimension"] for part in at_once["scope"]] == ["USER"]
    assert requests.pop("resetsAt")
    assert requests == {
        "name": "requests",
        "measure": "REQUESTS",
        "window": "MINUTE",
        "currency": None,
        "scope": [],
        "used": "0",
        "reserved": "1",
        "limit": "2",
        "remaining": "1",
    }


async def test_a_refusal_tells_when_to_come_back(gateway: RunningGateway):
    await set_limit(gateway, name="requests", measure="REQUESTS", window="MINUTE", amount="1", each=[])
    await ask(gateway)
    response = await ask(gateway)
    assert response.json()["data"]["generate"] == {"__typename": "RateLimited"}
    assert 0 < int(response.headers["Retry-After"]) <= 60
    assert response.headers["RateLimit"].startswith('"requests";r=0;t=')
    assert [limit["used"] for limit in response.json()["extensions"]["limits"]] == ["1"]


async def test_a_generation_that_waited_in_vain_tells_when_to_come_back(impatient: RunningGateway):
    await as_new(impatient)
    await set_limit(impatient, name="at once", measure="PARALLEL", window=None, amount="1", each=[])
    held = await start(impatient, "fake:hold-3", onDisconnect="CONTINUE")
    query = "mutation($input: GenerateInput!) { generate(input: $input) { ... on GenerateFailure { error { code } } } }"
    response = await impatient.post(query, asking("fake:count-3", onLimit="WAIT"))
    assert response.json()["data"]["generate"] == {"error": {"code": "RATE_LIMITED"}}
    assert int(response.headers["Retry-After"]) > 0
    await cancel(impatient, held)


async def test_what_starts_nothing_tells_nothing(gateway: RunningGateway):
    await set_limit(gateway)
    response = await gateway.client.get("/graphql", params={"query": "{ me { id } }"}, headers=gateway.headers())
    assert "limits" not in response.json()["extensions"]
    assert response.headers.keys().isdisjoint({"ratelimit", "ratelimit-policy", "retry-after"})


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("accept", [EVENT_STREAM, MULTIPART])
async def test_the_head_of_a_stream_tells_what_is_left_while_the_model_is_silent(gateway: RunningGateway, accept: str):
    await set_limit(gateway, name="requests", measure="REQUESTS", window="MINUTE", amount="1", each=[])
    async with http_stream(gateway, accept, GENERATE, asking("fake:hold-3")) as stream:
        admitted = stream.response.headers  # nothing lets the model speak before they are here
        assert admitted["RateLimit-Policy"] == '"requests";q=1;qu="requests";w=60'
        assert re.fullmatch(r'"requests";r=0;t=(60|5\d)', admitted["RateLimit"])
        assert "Retry-After" not in admitted
        async with http_stream(gateway, accept, GENERATE, asking("fake:count-3")) as refusal:
            refused = refusal.response.headers
            [event] = [event async for event in refusal.events()]
    assert event["error"]["__typename"] == "RateLimited"
    assert refused["RateLimit"].startswith('"requests";r=0;t=')
    assert 0 < int(refused["Retry-After"]) <= 60


@pytest.mark.usefixtures("patient")
async def test_a_mutation_that_is_answered_as_a_stream_has_the_headers_too(gateway: RunningGateway):
    await set_limit(gateway, name="requests", measure="REQUESTS", window="DAY", amount="1", each=[])
    heads: list[httpx.Headers] = []
    for _ in range(2):
        async with http_stream(gateway, EVENT_STREAM, START, asking("fake:count-3")) as stream:
            heads.append(stream.response.headers)
    assert [head["RateLimit"].startswith('"requests";r=0;t=') for head in heads] == [True, True]
    assert ["Retry-After" in head for head in heads] == [False, True]


async def test_a_stream_whose_answer_is_long_in_coming_has_its_head_before(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(HEAD_WAIT, 5)  # in which the busiest machine begins the answer
    await set_limit(gateway, name="requests", measure="REQUESTS", window="MINUTE", amount="2", each=[])
    async with http_stream(gateway, EVENT_STREAM, START, asking("fake:hold-3")) as stream:
        assert stream.response.headers["RateLimit"].startswith('"requests";r=1;t=')
        gateway.fake.release()
        [answer] = [event async for event in stream.events()]
    assert answer == {"__typename": "GenerateSuccess"}


@pytest.mark.parametrize("accept", [EVENT_STREAM, MULTIPART])
async def test_a_stream_that_starts_nothing_tells_nothing_in_its_head(gateway: RunningGateway, accept: str):
    await set_limit(gateway)
    async with http_stream(gateway, accept, "subscription { usageUpdated { __typename } }") as stream:
        assert stream.response.headers.keys().isdisjoint({"ratelimit", "ratelimit-policy", "retry-after"})


async def test_the_first_event_of_a_stream_tells_it_once(gateway: RunningGateway):
    await set_limit(gateway, name="cost", measure="COST", currency="EUR", amount="1")
    async with http_stream(gateway, EVENT_STREAM, GENERATE, asking("fake:count-3")) as stream:
        told = [block["payload"].get("extensions") async for block in stream.blocks if "payload" in block]
    [limit] = told[0]["limits"]
    assert (limit["name"], limit["currency"], limit["remaining"]) == ("cost", "EUR", "1")
    assert told[1:] == [None] * (len(told) - 1)
