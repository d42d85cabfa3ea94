"""API keys and session tokens, end to end: what they open, for how long, and what is never told."""

import logging
from datetime import timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
from sqlalchemy import MetaData, text, update
from websockets.exceptions import ConnectionClosed

from auth.api_keys import generate_api_key
from db.clock import now
from db.tables import ApiKey
from tests.support.fake_model_server import FakeModelServer
from tests.support.gateways import (
    PASSWORD,
    GraphQLErrors,
    Json,
    RunningGateway,
    gateway_settings,
    refused_field,
    running_gateway,
)
from tests.test_first_slice import GENERATE

MODELS = "{ models { name } }"
REVOKE = """
mutation($id: ID!) { revokeApiKey(input: {id: $id}) {
  __typename ... on RevokeApiKeySuccess { apiKey { revokedAt } } ... on UserError { code }
} }
"""
FOREVER = {"input": {"model": "fake:stall-3", "prompt": {"text": "hello"}}}

DEFAULT_SCOPES = ["MODELS_READ", "GENERATIONS_READ", "GENERATIONS_WRITE", "USAGE_READ", "PROFILE_READ"]


@pytest.fixture
def gateway(used_gateway: RunningGateway) -> RunningGateway:
    """One for all tests here, whatever the earlier ones left in its database."""
    return used_gateway


async def revoke(gateway: RunningGateway, key: Json) -> Json:
    data = await gateway.run(REVOKE, {"id": key["apiKey"]["id"]})
    return data["revokeApiKey"]


async def expire_keys(gateway: RunningGateway) -> None:
    async with gateway.database.transaction() as tx:
        await tx.execute(update(ApiKey).values(expires_at=now() - timedelta(seconds=1)))


async def refusal(gateway: RunningGateway, **headers: str) -> Json:
    """The one error of a call with these headers alone."""
    response = await gateway.client.post("/graphql", json={"query": MODELS}, headers=headers)
    [error] = response.json()["errors"]
    return error


async def test_the_secret_is_shown_once(own_gateway: RunningGateway):
    key = await own_gateway.make_key("laptop")
    assert key["secret"].startswith(key["apiKey"]["prefix"])
    listed = await own_gateway.post("{ me { apiKeys { id name prefix scopes } } }")
    assert [key["name"] for key in listed.json()["data"]["me"]["apiKeys"]] == ["laptop"]
    assert key["secret"] not in listed.text


@pytest.mark.parametrize("header", ["Authorization: Bearer {}", "X-API-Key: {}", "authorization: bearer {}"])
async def test_a_key_signs_in_over_http(gateway: RunningGateway, header: str):
    name, _, value = header.format((await gateway.make_key())["secret"]).partition(": ")
    response = await gateway.client.post("/graphql", json={"query": MODELS}, headers={name: value})
    assert response.json()["data"]["models"]


@pytest.mark.parametrize("payload", [{"authorization": "Bearer {}"}, {"apiKey": "{}"}, {"X-API-Key": "{}"}])
async def test_a_key_signs_in_over_websocket(gateway: RunningGateway, payload: Json):
    secret = (await gateway.make_key())["secret"]
    async with gateway.connect(init={name: value.format(secret) for name, value in payload.items()}) as socket:
        await socket.subscribe(MODELS)
        assert [event async for event in socket.events()]


async def test_a_key_can_do_what_an_app_needs_unless_more_is_asked_for(gateway: RunningGateway):
    assert (await gateway.make_key())["apiKey"]["scopes"] == DEFAULT_SCOPES


async def test_a_key_can_do_no_more_than_its_scopes(own_gateway: RunningGateway):
    own_gateway.token = (await own_gateway.make_key(scopes=["USAGE_READ"]))["secret"]
    assert (await own_gateway.run("{ usage { totals { generations } } }"))["usage"]["totals"]["generations"] == 0
    with pytest.raises(GraphQLErrors, match="MODELS_READ") as caught:
        await own_gateway.run(MODELS)
    assert caught.value.code == "FORBIDDEN"


async def test_the_scopes_of_a_key_hold_for_subscriptions_too(gateway: RunningGateway):
    gateway.token = (await gateway.make_key(scopes=["GENERATIONS_READ"]))["secret"]
    with pytest.raises(GraphQLErrors) as caught:
        await gateway.events(GENERATE, FOREVER)
    assert caught.value.code == "FORBIDDEN"


async def test_a_key_without_the_scope_for_keys_cannot_list_them(gateway: RunningGateway):
    gateway.token = (await gateway.make_key())["secret"]
    with pytest.raises(GraphQLErrors) as caught:
        await gateway.run("{ me { apiKeys { prefix } } }")
    assert caught.value.code == "FORBIDDEN"


async def test_a_key_cannot_grant_more_than_its_maker_has(gateway: RunningGateway):
    gateway.token = (await gateway.make_key(scopes=["KEYS_WRITE", "MODELS_READ"]))["secret"]
    refused = await gateway.make_key(scopes=["MODELS_READ", "USAGE_READ"])
    assert (refused["code"], refused_field(refused)) == ("INVALID_INPUT", "scopes")
    assert "USAGE_READ" in refused["message"]


async def test_a_user_who_is_no_administrator_cannot_make_an_administrators_key(own_gateway: RunningGateway):
    await own_gateway.make_user("ada")
    await own_gateway.sign_in("ada")
    assert refused_field(await own_gateway.make_key(scopes=["USERS_READ"])) == "scopes"


async def test_a_key_made_by_a_key_gets_no_more_by_default(gateway: RunningGateway):
    gateway.token = (await gateway.make_key(scopes=["KEYS_WRITE", "MODELS_READ"]))["secret"]
    assert (await gateway.make_key())["apiKey"]["scopes"] == ["MODELS_READ"]


@pytest.mark.parametrize(
    ("input", "field"),
    [
        ({"name": "  "}, "name"),
        ({"name": "x" * 101}, "name"),
        ({"name": "a\0b"}, "name"),
        ({"expiresAt": "2020-01-01T00:00:00Z"}, "expiresAt"),
        ({"scopes": []}, "scopes"),
    ],
)
async def test_a_key_that_cannot_be_is_refused_with_the_field(emptied_gateway: RunningGateway, input: Json, field: str):
    assert refused_field(await emptied_gateway.make_key(**input)) == field


@pytest.mark.parametrize("moment", ["2999-01-01T00:00:00", "2999-01-01", "9999-12-31T23:59:59-12:00", "soon", 5])
async def test_a_moment_without_an_offset_is_not_taken(gateway: RunningGateway, moment: object):
    with pytest.raises(GraphQLErrors, match="DateTime") as caught:
        await gateway.make_key(expiresAt=moment)
    assert caught.value.code == "GRAPHQL_VALIDATION_FAILED"


async def test_a_key_holds_until_it_expires(gateway: RunningGateway):
    key = await gateway.make_key(expiresAt=(now() + timedelta(hours=1)).isoformat())
    gateway.token = key["secret"]
    assert (await gateway.run(MODELS))["models"]
    await expire_keys(gateway)
    with pytest.raises(GraphQLErrors, match="expired"):
        await gateway.run(MODELS)


async def test_a_revoked_key_stops_at_once_over_http(gateway: RunningGateway):
    key = await gateway.make_key()
    assert (await revoke(gateway, key))["apiKey"]["revokedAt"]
    assert (await refusal(gateway, Authorization=f"Bearer {key['secret']}"))["extensions"]["reason"] == (
        "REVOKED_API_KEY"
    )


async def test_a_key_that_is_revoked_twice_keeps_its_first_date(gateway: RunningGateway):
    key = await gateway.make_key()
    assert await revoke(gateway, key) == await revoke(gateway, key)


async def test_nobody_revokes_the_key_of_another(own_gateway: RunningGateway):
    key = await own_gateway.make_key()
    await own_gateway.make_user("ada")
    await own_gateway.sign_in("ada")
    assert (await revoke(own_gateway, key))["code"] == "NOT_FOUND"


@pytest.mark.parametrize("id", ["", "nonsense", "VXNlcjox", "QXBpS2V5OjE="])
async def test_what_is_not_the_id_of_a_key_cannot_be_revoked(gateway: RunningGateway, id: str):
    assert (await gateway.run(REVOKE, {"id": id}))["revokeApiKey"]["code"] == "INVALID_INPUT"


async def test_a_revoked_key_closes_an_open_socket_at_its_next_operation(
    tmp_path: Path, sqlite_url: str, fake: FakeModelServer
):
    settings = gateway_settings(tmp_path, sqlite_url, fake.url, recheck_interval=3600)
    async with running_gateway(settings, fake) as gateway:
        key = await gateway.make_key()
        async with gateway.connect(init={"apiKey": key["secret"]}) as socket:
            await revoke(gateway, key)
            await socket.subscribe(MODELS)
            with pytest.raises(ConnectionClosed) as caught:
                await socket.receive()
    assert caught.value.rcvd is not None
    assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (4403, "The API key was revoked. Create a new one.")


@pytest.mark.parametrize("end", [revoke, lambda gateway, key: expire_keys(gateway)], ids=["revoked", "expired"])
async def test_a_key_that_ends_ends_a_running_subscription(gateway: RunningGateway, end: Any):
    key = await gateway.make_key()
    async with gateway.connect(init={"apiKey": key["secret"]}) as socket:
        await socket.subscribe(GENERATE, FOREVER)
        await socket.receive()
        await end(gateway, key)
        with pytest.raises(ConnectionClosed) as caught:
            _ = [event async for event in socket.events()]
    assert caught.value.rcvd is not None
    assert caught.value.rcvd.code == 4403
    await (await gateway.fake.request()).ended.wait()


async def test_the_use_of_a_key_is_noted_once_a_minute(emptied_gateway_on_each_database: RunningGateway):
    gateway = emptied_gateway_on_each_database
    key = await gateway.make_key()
    session = gateway.token

    async def use() -> str | None:
        gateway.token = key["secret"]
        await gateway.run(MODELS)
        gateway.token = session
        return (await gateway.run("{ me { apiKeys { lastUsedAt } } }"))["me"]["apiKeys"][0]["lastUsedAt"]

    assert key["apiKey"]["lastUsedAt"] is None
    first = await use()
    assert first is not None
    assert await use() == first
    async with gateway.database.transaction() as tx:
        await tx.execute(update(ApiKey).values(last_used_at=now() - timedelta(seconds=61)))
    assert await use() not in {None, first}


async def test_each_kind_of_bad_credentials_is_told_apart(gateway: RunningGateway):
    claims = {"sub": "x", "iss": "ollagraph", "aud": "ollagraph"}
    forged = jwt.encode(claims, "a secret of 32 bytes or even more", "HS256")
    key = (await gateway.make_key())["secret"]
    found = [
        await refusal(gateway),
        await refusal(gateway, Authorization="Basic YWRhOmFkYQ=="),
        await refusal(gateway, Authorization=f"Bearer {forged}"),
        await refusal(gateway, Authorization=f"Bearer {generate_api_key().secret}"),
        await refusal(gateway, Authorization=f"Bearer {key[:-1]}"),
    ]
    assert [error["extensions"]["reason"] for error in found] == [
        "MISSING_CREDENTIALS",
        "MALFORMED_CREDENTIALS",
        "INVALID_TOKEN",
        "INVALID_API_KEY",
        "INVALID_API_KEY",
    ]
    assert {error["extensions"]["code"] for error in found} == {"UNAUTHENTICATED"}
    assert len({error["message"] for error in found}) == 4


async def test_an_expired_session_is_told_apart_from_a_forged_one(gateway: RunningGateway):
    claims = jwt.decode(str(gateway.token), options={"verify_signature": False})
    secret = (gateway.settings.data_dir / "secret.key").read_text()
    claims |= {"exp": int((now() - timedelta(hours=1)).timestamp())}
    token = jwt.encode(claims, secret, "HS256", headers=jwt.get_unverified_header(str(gateway.token)))
    assert (await refusal(gateway, Authorization=f"Bearer {token}"))["extensions"]["reason"] == "EXPIRED_TOKEN"


async def test_two_different_credentials_are_refused(gateway: RunningGateway):
    key = (await gateway.make_key())["secret"]
    error = await refusal(gateway, Authorization=f"Bearer {gateway.token}", **{"X-API-Key": key})
    assert error["extensions"]["reason"] == "MALFORMED_CREDENTIALS"


async def everything_stored(gateway: RunningGateway) -> str:
    """Every value of every table, as text."""
    found: list[str] = []
    async with gateway.database.reading() as session:
        tables = MetaData()
        await (await session.connection()).run_sync(tables.reflect)
        assert {"users", "api_keys", "login_attempts"} <= set(tables.tables)
        for name in tables.tables:
            found += [str(tuple(row)) for row in await session.execute(text(f"SELECT * FROM {name}"))]
    return "\n".join(found)


async def test_no_secret_is_in_the_log_or_the_database(
    emptied_gateway_on_each_database: RunningGateway, caplog: pytest.LogCaptureFixture
):
    gateway = emptied_gateway_on_each_database
    caplog.set_level(logging.DEBUG)
    token = await gateway.sign_in()
    key = await gateway.make_key("laptop")
    secrets = [PASSWORD, token, key["secret"], "a wrong password"]
    with pytest.raises(KeyError):
        await gateway.sign_in(password="a wrong password")
    await refusal(gateway, Authorization=f"Bearer {key['secret'][:-1]}")
    secrets.append(key["secret"][:-1])
    async with gateway.connect(init={"apiKey": key["secret"]}) as socket:
        await socket.subscribe(MODELS)
        assert [event async for event in socket.events()]
    gateway.token = token
    await revoke(gateway, key)
    stored = await everything_stored(gateway)
    assert "laptop" in stored
    assert [secret for secret in secrets if secret in stored] == []
    # the test's own WebSocket client logs every frame that it sends
    ours = [record for record in caplog.records if not record.name.startswith("websockets")]
    assert ours
    logged = "\n".join(record.getMessage() + str(record.exc_text) for record in ours)
    assert [secret for secret in secrets if secret in logged] == []
