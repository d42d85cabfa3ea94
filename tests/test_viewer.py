"""Who asks, with which credentials, and what these allow."""

import pytest

from tests.support.gateways import ADMIN, GraphQLErrors, RunningGateway


@pytest.fixture
def gateway(emptied_gateway: RunningGateway) -> RunningGateway:
    """One for all tests here, emptied before each of them."""
    return emptied_gateway


VIEWER = "{ viewer { user { username } apiKey { name } method scopes expiresAt } }"


async def test_a_session_sees_its_user_its_scopes_and_its_end(gateway: RunningGateway):
    viewer = (await gateway.run(VIEWER))["viewer"]
    assert (viewer["user"], viewer["apiKey"], viewer["method"]) == ({"username": ADMIN}, None, "ACCESS_TOKEN")
    assert "USERS_WRITE" in viewer["scopes"]
    assert viewer["expiresAt"] is not None


async def test_a_key_sees_itself_without_a_scope(gateway: RunningGateway):
    made = await gateway.make_key("laptop", scopes=["PROFILE_READ"], expiresAt="2999-01-01T00:00:00Z")
    gateway.token = made["secret"]
    assert (await gateway.run(VIEWER))["viewer"] == {
        "user": {"username": ADMIN},
        "apiKey": {"name": "laptop"},
        "method": "API_KEY",
        "scopes": ["PROFILE_READ"],
        "expiresAt": "2999-01-01T00:00:00+00:00",
    }


async def test_a_key_that_may_not_read_its_user_sees_the_rest(gateway: RunningGateway):
    gateway.token = (await gateway.make_key("laptop", scopes=["MODELS_READ"]))["secret"]
    response = (await gateway.post(VIEWER)).json()
    assert (response["data"]["viewer"]["user"], response["data"]["viewer"]["scopes"]) == (None, ["MODELS_READ"])
    [error] = response["errors"]
    assert (error["path"], error["extensions"]["code"]) == (["viewer", "user"], "FORBIDDEN")


async def test_nobody_is_null(gateway: RunningGateway):
    gateway.token = None
    assert await gateway.run(VIEWER) == {"viewer": None}


async def test_credentials_that_do_not_hold_are_an_error(gateway: RunningGateway):
    gateway.token = "nonsense"
    with pytest.raises(GraphQLErrors) as refused:
        await gateway.run(VIEWER)
    assert refused.value.code == "UNAUTHENTICATED"
