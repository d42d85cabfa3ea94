"""What one key may grant another, and whose keys one may touch: escalation, other people's ids, and hostile texts."""

import string
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select, update

from auth import api_keys
from auth.scopes import Scope
from db.clock import new_id, now
from db.tables import ApiKey, User
from schema.node import global_id
from tests.support.gateways import GraphQLErrors, Json, RunningGateway, refused_field
from tests.test_dataloaders import statements
from tests.test_identity_keys import MODELS, REVOKE, refusal
from tests.test_key_places import HERE, PRIVATE, SITE, UPDATE

ROTATE = """
mutation($input: RotateApiKeyInput!) { rotateApiKey(input: $input) {
  ... on RotateApiKeySuccess { secret apiKey { id prefix rotatedAt previousExpiresAt } }
  ... on UserError { code message }
} }
"""
LIST = """
query($filter: ApiKeyFilter, $first: Int, $after: String) { apiKeys(first: $first, after: $after, filter: $filter) {
  nodes { id name lastUsedAddress } pageInfo { hasNextPage endCursor }
} }
"""


@pytest.fixture
def gateway(used_gateway: RunningGateway) -> RunningGateway:
    """One for all tests here, whatever the earlier ones left in its database."""
    return used_gateway


async def named_user(gateway: RunningGateway, role: str = "developer") -> User:
    """A user with a name of their own."""
    return await gateway.make_user(f"u{new_id().hex[-12:]}", role=role)


async def limited_maker(gateway: RunningGateway) -> Json:
    """Sign in with a key that makes keys and is limited in every way but its origins; gives it."""
    key = await gateway.make_key(
        scopes=["KEYS_WRITE", "KEYS_READ", "MODELS_READ"],
        models=["fake:*"],
        allowedNetworks=["127.0.0.0/8"],
        expiresAt=(now() + timedelta(hours=1)).isoformat(),
    )
    gateway.token = key["secret"]
    return key


async def change(gateway: RunningGateway, key: Json, **changes: Any) -> Json:
    return (await gateway.run(UPDATE, {"input": {"id": key["apiKey"]["id"], **changes}}))["updateApiKey"]


async def rotate(gateway: RunningGateway, key: Json, **input: Any) -> Json:
    return (await gateway.run(ROTATE, {"input": {"id": key["apiKey"]["id"], **input}}))["rotateApiKey"]


WIDER: list[tuple[str, Json]] = [
    ("scopes", {"scopes": ["MODELS_READ", "USERS_READ"]}),
    ("models[0]", {"models": ["*"]}),
    ("models[1]", {"models": ["fake:a*", "other"]}),
    ("allowedNetworks[0]", {"allowedNetworks": ["0.0.0.0/0"]}),
    ("allowedNetworks[0]", {"allowedNetworks": ["::/0"]}),
    ("expiresAt", {"expiresAt": "2999-01-01T00:00:00Z"}),
]


@pytest.mark.parametrize(("field", "wider"), WIDER)
async def test_a_key_makes_no_key_that_allows_more(gateway: RunningGateway, field: str, wider: Json):
    await limited_maker(gateway)
    assert refused_field(await gateway.make_key(**wider)) == field


@pytest.mark.parametrize(("field", "wider"), WIDER)
async def test_a_key_widens_neither_itself_nor_another(gateway: RunningGateway, field: str, wider: Json):
    own = await limited_maker(gateway)
    for key in (own, await gateway.make_key()):
        assert refused_field(await change(gateway, key, **wider)) == field


async def test_a_key_passes_its_limits_on_where_none_are_given(gateway: RunningGateway):
    await limited_maker(gateway)
    changed = await change(
        gateway, await gateway.make_key(), models=None, allowedNetworks=None, expiresAt=None, name="renamed"
    )
    assert (changed["apiKey"]["models"], changed["apiKey"]["allowedNetworks"]) == (["fake:*"], ["127.0.0.0/8"])
    assert changed["apiKey"]["expiresAt"] is not None
    assert changed["apiKey"]["name"] == "renamed"


BROADER: list[Json] = [
    {"scopes": ["KEYS_WRITE", "USERS_READ"]},
    {"models": ["*"]},
    {"models": None},
    {"allowedNetworks": ["0.0.0.0/0"]},
    {"expiresAt": None},
]


@pytest.mark.parametrize("broader", BROADER)
async def test_a_key_gets_no_secret_of_a_broader_one(gateway: RunningGateway, broader: Json):
    limits = {
        "scopes": ["MODELS_READ"],
        "models": ["fake:*"],
        "allowedNetworks": [HERE],
        "expiresAt": (now() + timedelta(minutes=30)).isoformat(),
    }
    key = await gateway.make_key(**{**limits, **broader})
    same = await gateway.make_key(**limits)
    await limited_maker(gateway)
    assert "secret" in await rotate(gateway, same)
    for touch in (rotate(gateway, key), change(gateway, key, name="mine")):
        with pytest.raises(GraphQLErrors) as caught:
            await touch
        assert caught.value.code == "FORBIDDEN"


async def test_a_key_for_pages_makes_keys_for_the_same_pages_alone(gateway: RunningGateway):
    maker = await gateway.make_key(scopes=["KEYS_WRITE", "MODELS_READ"], allowedOrigins=[SITE])
    query = 'mutation($o: [String!]) { createApiKey(input: {name: "k", allowedOrigins: $o}) { __typename } }'
    gateway.token = maker["secret"]
    made: list[str] = []
    for origins in (["https://evil.example"], [SITE], None):
        answer = (await gateway.post(query, {"o": origins}, Origin=SITE)).json()
        made.append(answer["data"]["createApiKey"]["__typename"])
    assert made == ["InvalidInput", "CreateApiKeySuccess", "CreateApiKeySuccess"]
    async with gateway.database.reading() as session:
        last = await session.scalar(select(ApiKey).order_by(ApiKey.id.desc()).limit(1))
    assert last is not None
    assert last.origins == [SITE]


async def test_a_key_does_no_more_than_its_user_who_was_given_less(gateway: RunningGateway):
    user = await named_user(gateway)
    await gateway.sign_in(user.username)
    key = await gateway.make_key(scopes=["KEYS_WRITE", "GENERATIONS_WRITE", "MODELS_READ"])
    async with gateway.database.transaction() as tx:
        await tx.execute(update(User).where(User.id == user.id).values(role="read-only"))
    gateway.token = key["secret"]
    assert (await gateway.run(MODELS))["models"]
    with pytest.raises(GraphQLErrors) as caught:
        await gateway.make_key()
    assert caught.value.code == "FORBIDDEN"
    await gateway.sign_in()
    assert refused_field(await gateway.make_key(userId=global_id("User", user.id), scopes=["KEYS_WRITE"])) == "scopes"


@pytest.mark.parametrize("exists", [True, False])
async def test_the_key_of_another_is_as_one_that_there_is_not(gateway: RunningGateway, exists: bool):
    key = await gateway.make_key()
    if not exists:
        key["apiKey"]["id"] = global_id("ApiKey", new_id())
    user = await named_user(gateway)
    await gateway.sign_in(user.username)
    answers = [
        (await gateway.run(REVOKE, {"id": key["apiKey"]["id"]}))["revokeApiKey"],
        await rotate(gateway, key),
        await change(gateway, key, name="mine"),
    ]
    assert [answer["code"] for answer in answers] == ["NOT_FOUND"] * 3
    assert (await gateway.run(LIST))["apiKeys"]["nodes"] == []


@pytest.mark.parametrize("exists", [True, False])
async def test_nobody_makes_or_lists_keys_of_others_without_the_scope(gateway: RunningGateway, exists: bool):
    user, other = await named_user(gateway), await named_user(gateway)
    await gateway.sign_in(user.username)
    user_id = global_id("User", other.id if exists else new_id())
    for ask in (gateway.make_key(userId=user_id), gateway.run(LIST, {"filter": {"userId": user_id}})):
        with pytest.raises(GraphQLErrors) as caught:
            await ask
        assert caught.value.code == "FORBIDDEN"


async def test_an_administrator_manages_keys_of_others(gateway: RunningGateway):
    user = await named_user(gateway)
    key = await gateway.make_key(userId=global_id("User", user.id))
    listed = (await gateway.run(LIST, {"filter": {"userId": global_id("User", user.id)}}))["apiKeys"]["nodes"]
    assert [it["id"] for it in listed] == [key["apiKey"]["id"]]
    assert (await change(gateway, key, name="theirs"))["apiKey"]["name"] == "theirs"
    assert (await gateway.run(REVOKE, {"id": key["apiKey"]["id"]}))["revokeApiKey"]["apiKey"]["revokedAt"]


async def test_who_manages_users_gets_no_secret_of_a_key_with_more_scopes(gateway: RunningGateway):
    admins = await gateway.make_key(scopes=["FLEET_WRITE"])
    user = await named_user(gateway)
    theirs = await gateway.make_key(userId=global_id("User", user.id), scopes=["MODELS_READ"])
    session = gateway.token
    gateway.token = (await gateway.make_key(scopes=["USERS_WRITE", "MODELS_READ"]))["secret"]
    with pytest.raises(GraphQLErrors) as caught:
        await rotate(gateway, admins)
    assert caught.value.code == "FORBIDDEN"
    assert "secret" in await rotate(gateway, theirs)
    gateway.token = session


async def test_a_key_that_has_ended_stays_as_it_is(gateway: RunningGateway):
    key = await gateway.make_key()
    await gateway.run(REVOKE, {"id": key["apiKey"]["id"]})
    assert (await change(gateway, key, expiresAt=None))["code"] == "INVALID_INPUT"
    assert (await rotate(gateway, key))["code"] == "INVALID_INPUT"


async def test_pages_of_keys_follow_each_other(gateway_on_each_database: RunningGateway):
    gateway = gateway_on_each_database
    made = [await gateway.make_key(f"Job {number}") for number in range(5)]
    await gateway.run(REVOKE, {"id": made[4]["apiKey"]["id"]})
    names: list[str] = []
    after = None
    while True:
        wanted = {"search": "job", "active": True}
        page = (await gateway.run(LIST, {"first": 2, "after": after, "filter": wanted}))["apiKeys"]
        names += [node["name"] for node in page["nodes"]]
        after = page["pageInfo"]["endCursor"]
        if not page["pageInfo"]["hasNextPage"]:
            break
    assert names == ["Job 3", "Job 2", "Job 1", "Job 0"]
    by_prefix = {"search": made[0]["secret"][:12]}
    assert len((await gateway.run(LIST, {"filter": by_prefix}))["apiKeys"]["nodes"]) == 1
    hostile = ["' OR '1'='1", "%", "_", "\\", "'; DROP TABLE api_keys; --", '"', "x" * 100]
    for text in hostile:
        assert (await gateway.run(LIST, {"filter": {"search": text}}))["apiKeys"]["nodes"] == []
        made_so = await gateway.make_key(text)
        found = (await gateway.run(LIST, {"filter": {"search": text}}))["apiKeys"]["nodes"]
        assert [key["name"] for key in found] == [text]
        await gateway.run(REVOKE, {"id": made_so["apiKey"]["id"]})
        gateway.token, session = made_so["secret"], gateway.token
        with pytest.raises(GraphQLErrors, match="revoked"):
            await gateway.run(MODELS)
        gateway.token = session
        async with gateway.database.transaction() as tx:
            await tx.execute(update(ApiKey).where(ApiKey.name == text).values(name="done", prefix="done"))


async def test_a_mistyped_key_costs_no_statement_wherever_the_mistake_is(gateway: RunningGateway):
    secret = (await gateway.make_key())["secret"]
    gateway.token = None
    with statements() as asked:
        for place in range(len(secret)):
            wrong = next(it for it in string.ascii_letters if it != secret[place])
            mistyped = secret[:place] + wrong + secret[place + 1 :]
            header = {"Authorization": f"Bearer {mistyped}"}
            assert (await refusal(gateway, **header))["extensions"]["reason"] in {"INVALID_API_KEY", "INVALID_TOKEN"}
    assert asked == []


async def test_a_request_with_a_key_costs_one_statement_for_who_asks(gateway: RunningGateway):
    gateway.token = (await gateway.make_key(allowedNetworks=[HERE, PRIVATE], models=["fake:*"]))["secret"]
    with statements() as asked:
        await gateway.run("{ viewer { method } }")
    assert len(asked) == 1


async def test_secrets_are_compared_in_constant_time(gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch):
    compared: list[str] = []
    same_hash = api_keys.same_hash

    def counted(left: str, right: str) -> bool:
        compared.append(right)
        return same_hash(left, right)

    key = await gateway.make_key()
    monkeypatch.setattr(api_keys, "same_hash", counted)
    gateway.token = key["secret"]
    await gateway.run(MODELS)
    assert compared == [api_keys.hash_api_key(key["secret"])]


async def test_the_last_use_has_the_address(own_gateway: RunningGateway):
    session, key = own_gateway.token, await own_gateway.make_key()
    own_gateway.token = key["secret"]
    await own_gateway.run(MODELS)
    own_gateway.token = session
    [listed] = (await own_gateway.run(LIST))["apiKeys"]["nodes"]
    assert listed["lastUsedAddress"] == HERE


async def test_a_service_account_owns_keys_and_cannot_sign_in(own_gateway: RunningGateway):
    create = """
    mutation($role: String!) { createServiceAccount(input: {username: "CI", role: $role, displayName: "Builds"}) {
      ... on CreateServiceAccountSuccess { user { id username } } ... on UserError { code message }
    } }
    """
    session = own_gateway.token
    own_gateway.token = (await own_gateway.make_key(scopes=["USERS_WRITE", "MODELS_READ"]))["secret"]
    refused = (await own_gateway.run(create, {"role": "user"}))["createServiceAccount"]
    assert (refused["code"], "GENERATIONS_WRITE" in refused["message"]) == ("INVALID_INPUT", True)
    own_gateway.token = session
    assert (await own_gateway.run(create, {"role": "none"}))["createServiceAccount"]["code"] == "INVALID_INPUT"
    account = (await own_gateway.run(create, {"role": "user"}))["createServiceAccount"]["user"]
    assert (await own_gateway.run(create, {"role": "user"}))["createServiceAccount"]["code"] == "INVALID_INPUT"
    key = await own_gateway.make_key(userId=account["id"])
    for password in ("!", "", "correct horse battery"):
        with pytest.raises(KeyError):
            await own_gateway.sign_in("ci", password)
    own_gateway.token = key["secret"]
    assert (await own_gateway.run("{ me { username } }"))["me"] == {"username": "ci"}
    assert Scope.KEYS_WRITE.name not in (await own_gateway.run("{ viewer { scopes } }"))["viewer"]["scopes"]
