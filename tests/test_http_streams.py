"""Streams over HTTP: server-sent events and multipart, which carry what a WebSocket carries."""

import socket
from urllib.parse import urlsplit

import anyio
import pytest

from tests.support.fake_model_server import Script
from tests.support.gateways import Json, RunningGateway
from tests.support.generations import GENERATE, WATCH, asking, cancel, look, start, text_of, total
from tests.support.http_streams import EVENT_STREAM, MULTIPART, http_stream, posted


@pytest.fixture
def gateway(used_gateway: RunningGateway) -> RunningGateway:
    """One for all tests here, whatever the earlier ones left in its database."""
    return used_gateway


ME = "{ me { username } }"

every_protocol = pytest.mark.parametrize("accept", [EVENT_STREAM, MULTIPART])

CONTENT_TYPES = {
    EVENT_STREAM: "text/event-stream; charset=utf-8",
    MULTIPART: 'multipart/mixed;boundary="graphql";subscriptionSpec=1.0',
}


async def read(gateway: RunningGateway, accept: str, query: str, variables: Json | None = None) -> list[Json]:
    """All blocks of a stream, without the heartbeats."""
    async with http_stream(gateway, accept, query, variables) as stream:
        assert (stream.response.status_code, stream.response.headers["content-type"]) == (200, CONTENT_TYPES[accept])
        return [block async for block in stream.blocks if "heartbeat" not in block]


@every_protocol
async def test_a_stream_carries_the_same_events_as_a_websocket(gateway: RunningGateway, accept: str):
    id = await start(gateway, "fake:tools-2", tools=[{"name": "look", "description": "", "parameters": {}}])
    over_websocket = await gateway.events(WATCH, {"id": id})
    async with http_stream(gateway, accept, WATCH, {"id": id}) as stream:
        assert [event async for event in stream.events()] == over_websocket


@every_protocol
async def test_a_stream_ends_with_a_word_that_says_so(gateway: RunningGateway, accept: str):
    *_, last, end = await read(gateway, accept, GENERATE, asking("fake:count-3"))
    assert last["payload"]["data"]["generate"]["__typename"] == "GenerationCompleted"
    assert end == {"complete": True}


@every_protocol
async def test_each_token_comes_when_the_model_says_it(gateway: RunningGateway, accept: str):
    async with http_stream(gateway, accept, GENERATE, asking("fake:stall-5")) as stream:
        events = stream.events()
        text = ""
        while text != "0 1 2 3 4 ":
            text += (await anext(events)).get("text", "")
        gateway.fake.release()
        assert [event["__typename"] async for event in events][-1] == "GenerationCompleted"


@every_protocol
async def test_a_client_that_leaves_a_stream_takes_the_generation_along(own_gateway: RunningGateway, accept: str):
    async with http_stream(own_gateway, accept, GENERATE, asking("fake:stall-5")) as stream:
        event = await anext(stream.events())
        request = await own_gateway.fake.request()
    await request.ended.wait()
    assert request.left
    assert (await cancel(own_gateway, event["generationId"]))["state"] == "CANCELLED"
    assert (await total(own_gateway))["completionTokens"] == request.sent


@every_protocol
async def test_a_stream_goes_on_where_the_last_one_was_left(gateway: RunningGateway, accept: str):
    input = asking("fake:stall-5", onDisconnect="CONTINUE")
    async with http_stream(gateway, accept, GENERATE, input) as stream:
        seen = [await anext(stream.events())]
        while text_of(seen) != "0 1 2 3 4 ":
            seen.append(await anext(stream.events()))
    gateway.fake.release()
    again = {"id": seen[0]["generationId"], "after": seen[1]["sequence"]}
    async with http_stream(gateway, accept, WATCH, again) as stream:
        rest = [event async for event in stream.events()]
    assert text_of(seen[:2] + rest) == (await look(gateway, again["id"]))["text"]


@every_protocol
async def test_a_silent_stream_has_a_heartbeat(gateway: RunningGateway, accept: str):
    gateway.limit_streams(heartbeat_interval=0.01)
    async with http_stream(gateway, accept, GENERATE, asking("fake:hold-3")) as stream:
        async for block in stream.blocks:  # one stands at the beginning of every stream
            if block.get("payload", {}).get("data", {}).get("generate", {}).get("__typename") == "GenerationStarted":
                break
        assert await anext(stream.blocks) == {"heartbeat": True}
        assert await anext(stream.blocks) == {"heartbeat": True}


@every_protocol
@pytest.mark.parametrize(
    ("query", "variables", "code"),
    [
        (GENERATE, {"input": {"prompt": {"text": "x"}}}, "GRAPHQL_VALIDATION_FAILED"),
        (WATCH, {"id": "Generation:1"}, "INVALID_INPUT"),
    ],
)
async def test_a_subscription_that_cannot_begin_says_why(
    gateway: RunningGateway, accept: str, query: str, variables: Json, code: str
):
    first, end, *_ = await read(gateway, accept, query, variables)
    assert [error["extensions"]["code"] for error in first["payload"]["errors"]] == [code]
    assert end == {"complete": True}


@every_protocol
async def test_a_generation_that_is_refused_is_told_as_an_event(gateway: RunningGateway, accept: str):
    first, end, *_ = await read(gateway, accept, GENERATE, asking("no-such-model"))
    refused = first["payload"]["data"]["generate"]
    assert (refused["__typename"], refused["error"]["__typename"]) == ("GenerationRefused", "ModelNotFound")
    assert end == {"complete": True}


@every_protocol
async def test_without_credentials_a_stream_says_so(gateway: RunningGateway, accept: str):
    gateway.token = None
    first, *_ = await read(gateway, accept, GENERATE, asking("fake:count-3"))
    assert first["payload"]["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED"


async def test_a_query_is_streamed_to_a_client_that_reads_nothing_else(gateway: RunningGateway):
    answer, end = await read(gateway, EVENT_STREAM, ME)
    assert (answer["payload"]["data"], end) == ({"me": {"username": "admin"}}, {"complete": True})


async def test_an_invalid_document_is_told_in_a_stream_to_a_client_that_reads_nothing_else(
    gateway: RunningGateway,
):
    first, end = await read(gateway, EVENT_STREAM, "{ nothing }")
    assert first["payload"]["errors"][0]["extensions"]["code"] == "GRAPHQL_VALIDATION_FAILED"
    assert end == {"complete": True}


URQL = (
    "application/graphql-response+json, application/graphql+json, application/json, text/event-stream, multipart/mixed"
)


@pytest.mark.parametrize(
    ("accept", "query", "content_type"),
    [
        (URQL, ME, "application/json; charset=utf-8"),
        (URQL, GENERATE, "text/event-stream; charset=utf-8"),
        ("*/*", ME, "application/json; charset=utf-8"),
        ("*/*", GENERATE, "text/event-stream; charset=utf-8"),
        (MULTIPART, ME, "application/json; charset=utf-8"),
        (MULTIPART, GENERATE, CONTENT_TYPES[MULTIPART]),
        (MULTIPART, "{ nothing }", "application/json; charset=utf-8"),
        ("text/event-stream, application/json;q=0.5", ME, "text/event-stream; charset=utf-8"),
        ("text/event-stream;q=0.5, multipart/mixed;subscriptionSpec=1.0", GENERATE, CONTENT_TYPES[MULTIPART]),
    ],
)
async def test_the_form_of_the_answer_is_negotiated(
    gateway: RunningGateway, accept: str, query: str, content_type: str
):
    async with http_stream(gateway, accept, query, asking("fake:count-3") if query == GENERATE else None) as stream:
        assert stream.response.headers["content-type"] == content_type


@pytest.mark.parametrize("accept", ["application/json", "multipart/mixed", "multipart/*", "text/event-stream;q=0"])
async def test_a_subscription_that_may_not_be_streamed_is_406_and_starts_nothing(
    own_gateway: RunningGateway, accept: str
):
    response = await own_gateway.post(GENERATE, asking("fake:count-3"), Accept=accept)
    assert response.status_code == 406
    assert (await total(own_gateway))["generations"] == len(own_gateway.fake.requests) == 0


async def test_a_subscription_by_get_is_405(gateway: RunningGateway):
    response = await gateway.client.get("/graphql", params={"query": GENERATE}, headers={"Accept": EVENT_STREAM})
    assert (response.status_code, response.headers["Allow"]) == (405, "POST")


async def test_a_client_that_never_reads_a_stream_loses_its_generation(gateway: RunningGateway):
    gateway.limit_streams(send_timeout=0.2)
    gateway.fake.scripts["fake:echo"] = Script(["x" * 10_000] * 10_000, delay_ms=0.1, stall=True)
    address = urlsplit(gateway.url)
    with socket.socket() as narrow:
        narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        narrow.connect((address.hostname, address.port))
        narrow.sendall(posted(gateway, EVENT_STREAM, GENERATE, asking("fake:echo", "x")))
        request = await gateway.fake.request()
        with anyio.fail_after(20):
            await request.ended.wait()
        assert request.left
