"""Documents that are named instead of sent: automatic persisted queries and trusted documents."""

import hashlib
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from server.graphql import persisted
from server.graphql.persisted import PersistedDocuments
from server.graphql.request import GraphQLRequest
from server.graphql.trusted_documents import TrustedDocuments
from tests.support.fake_model_server import FakeModelServer
from tests.support.gateways import ADMIN, Json, RunningGateway, gateway_settings, running_gateway

ME = "{ me { username } }"
OTHER = "query Other { me { id username } }"
ANSWER = {"me": {"username": ADMIN}}


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def automatic(text: str) -> Json:
    """The extensions of Apollo's protocol."""
    return {"persistedQuery": {"version": 1, "sha256Hash": digest(text)}}


async def ask(gateway: RunningGateway, **body: Any) -> Json:
    return (await gateway.client.post("/graphql", json=body, headers=gateway.headers())).json()


def code(response: Json) -> str:
    return response["errors"][0]["extensions"]["code"]


@asynccontextmanager
async def gateway_with(
    tmp_path: Path, url: str, fake: FakeModelServer, **others: Any
) -> AsyncGenerator[RunningGateway]:
    async with running_gateway(gateway_settings(tmp_path, url, fake.url, **others), fake) as gateway:
        yield gateway


async def test_a_document_is_sent_once_and_then_named(gateway: RunningGateway):
    unknown = await ask(gateway, extensions=automatic(ME))
    assert (unknown["errors"][0]["message"], code(unknown)) == ("PersistedQueryNotFound", "PERSISTED_QUERY_NOT_FOUND")
    assert (await ask(gateway, query=ME, extensions=automatic(ME)))["data"] == ANSWER
    assert (await ask(gateway, extensions=automatic(ME)))["data"] == ANSWER
    assert (await ask(gateway, documentId=f"sha256:{digest(ME)}"))["data"] == ANSWER


async def test_a_document_is_named_in_a_get(gateway: RunningGateway):
    await ask(gateway, query=ME, extensions=automatic(ME))
    params = {"extensions": json.dumps(automatic(ME))}
    response = await gateway.client.get("/graphql", params=params, headers=gateway.headers())
    assert response.json()["data"] == ANSWER


async def test_a_document_is_named_over_a_websocket(gateway: RunningGateway):
    await ask(gateway, query=ME, extensions=automatic(ME))
    async with gateway.connect() as socket:
        await socket.send({"type": "subscribe", "id": "1", "payload": {"extensions": automatic(ME)}})
        assert (await socket.receive())["payload"]["data"] == ANSWER


async def test_a_document_under_the_hash_of_another_is_refused(shared_gateway: RunningGateway):
    assert code(await ask(shared_gateway, query=ME, extensions=automatic(OTHER))) == "BAD_REQUEST"
    assert code(await ask(shared_gateway, extensions=automatic(OTHER))) == "PERSISTED_QUERY_NOT_FOUND"


async def test_an_invalid_document_is_not_kept(shared_gateway: RunningGateway):
    invalid = "{ nothing }"
    assert code(await ask(shared_gateway, query=invalid, extensions=automatic(invalid))) == "GRAPHQL_VALIDATION_FAILED"
    assert code(await ask(shared_gateway, extensions=automatic(invalid))) == "PERSISTED_QUERY_NOT_FOUND"


@pytest.mark.parametrize("given", [5, [], {}, {"version": 2, "sha256Hash": "x"}, {"version": 1, "sha256Hash": 5}])
async def test_a_malformed_name_is_refused(shared_gateway: RunningGateway, given: object):
    assert code(await ask(shared_gateway, query=ME, extensions={"persistedQuery": given})) == "BAD_REQUEST"


@pytest.mark.parametrize("given", [5, "", {}])
async def test_a_document_id_must_be_a_string(shared_gateway: RunningGateway, given: object):
    assert code(await ask(shared_gateway, documentId=given)) == "BAD_REQUEST"


async def test_names_can_be_switched_off(tmp_path: Path, sqlite_url: str, fake: FakeModelServer):
    async with gateway_with(tmp_path, sqlite_url, fake, automatic_persisted_queries=False) as gateway:
        assert (await ask(gateway, query=ME, extensions=automatic(ME)))["data"] == ANSWER
        assert code(await ask(gateway, extensions=automatic(ME))) == "PERSISTED_QUERY_NOT_SUPPORTED"


def test_only_so_many_documents_are_kept():
    documents = PersistedDocuments(TrustedDocuments(), automatic=True)
    texts = [f"{{ me {{ id }} }} #{number}" for number in range(persisted.MOST_AUTOMATIC + 1)]
    for text in texts:
        documents.keep(GraphQLRequest(text, extensions=automatic(text)))
    assert documents.text(GraphQLRequest(None, extensions=automatic(texts[1]))) == texts[1]
    with pytest.raises(Exception, match="PersistedQueryNotFound"):
        documents.text(GraphQLRequest(None, extensions=automatic(texts[0])))


def test_the_documents_used_last_stay():
    documents = PersistedDocuments(TrustedDocuments(), automatic=True)
    texts = [f"{{ me {{ id }} }} #{number}" for number in range(persisted.MOST_AUTOMATIC + 1)]
    for text in texts[:-1]:
        documents.keep(GraphQLRequest(text, extensions=automatic(text)))
    documents.text(GraphQLRequest(None, extensions=automatic(texts[0])))
    documents.keep(GraphQLRequest(texts[-1], extensions=automatic(texts[-1])))
    assert documents.text(GraphQLRequest(None, extensions=automatic(texts[0]))) == texts[0]
    with pytest.raises(Exception, match="PersistedQueryNotFound"):
        documents.text(GraphQLRequest(None, extensions=automatic(texts[1])))


@pytest.mark.parametrize("token", [None, "olg_nonsense"])
async def test_a_document_is_kept_for_known_callers_only(gateway: RunningGateway, token: str | None):
    known, gateway.token = gateway.token, token
    assert "data" in await ask(gateway, query="{ __typename }", extensions=automatic("{ __typename }"))
    gateway.token = known
    assert code(await ask(gateway, extensions=automatic("{ __typename }"))) == "PERSISTED_QUERY_NOT_FOUND"
    await ask(gateway, query="{ __typename }", extensions=automatic("{ __typename }"))
    gateway.token = token
    assert (await ask(gateway, extensions=automatic("{ __typename }")))["data"] == {"__typename": "Query"}


async def test_a_named_document_still_has_its_limits(gateway: RunningGateway):
    costly = "{ generations(first: 100) { nodes { user { apiKeys { id } } } } }"
    assert code(await ask(gateway, query=costly, extensions=automatic(costly))) == "LIMIT_EXCEEDED"
    assert code(await ask(gateway, extensions=automatic(costly))) == "LIMIT_EXCEEDED"
