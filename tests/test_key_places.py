"""From where an API key may be used: networks and origins, in pure functions and end to end."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed

from auth.addresses import NotAnAddress
from auth.client import Client
from auth.key_limits import canonical_network, canonical_origin, misplaced, network_covers
from auth.model_access import MAX_PATTERN, MAX_PATTERNS, covers, matches
from tests.support.fake_model_server import FakeModelServer
from tests.support.gateways import Json, RunningGateway, gateway_settings, refused_field, running_gateway
from tests.test_first_slice import GENERATE
from tests.test_identity_keys import FOREVER, MODELS, refusal

PRIVATE = "10.0.0.0/8"
HERE = "127.0.0.1"
SITE = "https://app.example"

UPDATE = """
mutation($input: UpdateApiKeyInput!) { updateApiKey(input: $input) {
  ... on UpdateApiKeySuccess { apiKey { name scopes models allowedOrigins allowedNetworks expiresAt } }
  ... on UserError { code message } ... on InvalidInput { issues { path } }
} }
"""


@pytest.fixture
def gateway(used_gateway: RunningGateway) -> RunningGateway:
    """One for all tests here, whatever the earlier ones left in its database."""
    return used_gateway


async def reason(gateway: RunningGateway, key: Json, **headers: str) -> str | None:
    """Why a call with this key is refused; None where it is not."""
    sent = {"X-API-Key": key["secret"], **{name.replace("_", "-"): value for name, value in headers.items()}}
    answer = (await gateway.client.post("/graphql", json={"query": MODELS}, headers=sent)).json()
    return answer["errors"][0]["extensions"]["reason"] if "errors" in answer else None


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("10.1.2.3/8", PRIVATE),
        (" 192.0.2.7 ", "192.0.2.7/32"),
        ("2001:DB8:0::1", "2001:db8::1/128"),
        ("::ffff:10.0.0.0/104", PRIVATE),
        ("::/0", "::/0"),
    ],
)
def test_a_network_has_one_form(written: str, canonical: str):
    assert canonical_network(written) == canonical


@pytest.mark.parametrize("text", ["", "10.0.0.0/33", "example.com", "10.0.0", "1" * 5000, "a\0b", "' OR 1=1 --"])
def test_what_is_no_network_is_refused(text: str):
    with pytest.raises(NotAnAddress):
        canonical_network(text)


@pytest.mark.parametrize(
    "text", ["", "*", "app.example", "null", "https://a.example/path", "https://*.example", "é" * 400]
)
def test_what_is_no_origin_is_refused(text: str):
    with pytest.raises(NotAnAddress):
        canonical_origin(text)


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("10.255.0.1", True),
        ("::ffff:10.0.0.1", True),
        ("11.0.0.1", False),
        ("2001:db8::9", True),
        ("2001:db9::9", False),
        ("a.sock", False),
        (None, False),
    ],
)
def test_a_client_is_in_one_of_the_networks_or_refused(host: str | None, allowed: bool):
    assert (misplaced(Client(host), [PRIVATE, "2001:db8::/32"], None) is None) == allowed


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        (SITE, True),
        ("HTTPS://App.Example:443", True),
        ("http://app.example", False),
        ("https://app.example:8443", False),
        ("https://app.example.evil.example", False),
        ("null", False),
        (None, False),
    ],
)
def test_a_page_is_of_one_of_the_origins_or_refused(origin: str | None, allowed: bool):
    assert (misplaced(Client(origin=origin), None, [SITE]) is None) == allowed


@pytest.mark.parametrize(
    ("outer", "inner", "covered"),
    [
        (PRIVATE, "10.2.0.0/16", True),
        (PRIVATE, PRIVATE, True),
        ("10.2.0.0/16", PRIVATE, False),
        ("::/0", PRIVATE, False),
        ("0.0.0.0/0", "2001:db8::/32", False),
    ],
)
def test_a_network_covers_those_within_it(outer: str, inner: str, covered: bool):
    assert network_covers(outer, inner) == covered


@pytest.mark.parametrize(
    ("outer", "inner", "covered"),
    [
        ("llama*", "llama3*", True),
        ("llama*", "LLAMA3:8b", True),
        ("llama3*", "llama*", False),
        ("*", "*", True),
        ("a", "a*", False),
        ("a*b", "a*c*b", True),
        ("a*c*b", "a*b", False),
        ("a*", "*a", False),
    ],
)
def test_a_pattern_covers_those_that_mean_no_more(outer: str, inner: str, covered: bool):
    assert covers(outer, inner) == covered


def means(pattern: str, name: str) -> bool:
    """What a pattern means, as it is defined."""
    if pattern.startswith("*"):
        return any(means(pattern[1:], name[at:]) for at in range(len(name) + 1))
    return pattern == name if not pattern or not name else pattern[0] == name[0] and means(pattern[1:], name[1:])


@given(pattern=st.text("ab*", max_size=7), name=st.text("ab", max_size=7))
def test_a_pattern_means_the_names_that_it_is_defined_to_mean(pattern: str, name: str):
    assert matches(pattern, name) is means(pattern, name)
    assert matches(pattern.upper(), name) is means(pattern, name)


def test_no_pattern_and_name_take_long():
    patterns = [f"*a*a*a*{number}" for number in range(MAX_PATTERNS)]
    assert not any(matches(pattern, "a" * MAX_PATTERN) for pattern in patterns)


async def test_a_key_for_a_network_works_from_there_alone(gateway: RunningGateway):
    assert await reason(gateway, await gateway.make_key(allowedNetworks=[PRIVATE, HERE])) is None
    assert await reason(gateway, await gateway.make_key(allowedNetworks=[PRIVATE])) == "ADDRESS_NOT_ALLOWED"


async def test_a_refusal_does_not_tell_what_would_be_allowed(gateway: RunningGateway):
    key = await gateway.make_key(allowedNetworks=[PRIVATE], allowedOrigins=[SITE])
    told = str(await refusal(gateway, **{"X-API-Key": key["secret"]}))
    assert "10." not in told
    assert "app.example" not in told


@pytest.mark.parametrize("header", ["X_Forwarded_For", "X_Real_IP", "Forwarded", "CF_Connecting_IP", "True_Client_IP"])
async def test_nobody_puts_themselves_into_a_network_by_a_header(gateway: RunningGateway, header: str):
    key = await gateway.make_key(allowedNetworks=[PRIVATE])
    assert await reason(gateway, key, **{header: "for=10.0.0.1" if header == "Forwarded" else "10.0.0.1"}) == (
        "ADDRESS_NOT_ALLOWED"
    )


async def test_behind_a_trusted_proxy_the_address_that_it_adds_counts(
    tmp_path: Path, sqlite_url: str, fake: FakeModelServer
):
    settings = gateway_settings(tmp_path, sqlite_url, fake.url, trusted_proxies=[HERE])
    async with running_gateway(settings, fake) as gateway:
        key = await gateway.make_key(allowedNetworks=[PRIVATE])
        assert await reason(gateway, key, X_Forwarded_For="9.9.9.9, 10.0.0.1") is None
        assert await reason(gateway, key, X_Forwarded_For="10.0.0.1, 9.9.9.9") == "ADDRESS_NOT_ALLOWED"


async def test_a_key_for_pages_works_in_them_alone(gateway: RunningGateway):
    key = await gateway.make_key(allowedOrigins=["https://App.example/"])
    assert await reason(gateway, key, Origin=SITE) is None
    assert await reason(gateway, key, Origin="https://evil.example") == "ORIGIN_NOT_ALLOWED"
    assert await reason(gateway, key) == "ORIGIN_NOT_ALLOWED"


async def test_the_origin_of_a_key_opens_no_cors(gateway: RunningGateway):
    key = await gateway.make_key(allowedOrigins=[SITE])
    headers = {"X-API-Key": key["secret"], "Origin": SITE}
    answer = await gateway.client.post("/graphql", json={"query": MODELS}, headers=headers)
    assert "access-control-allow-origin" not in answer.headers


async def test_a_key_that_is_moved_to_another_network_ends_a_running_subscription(gateway: RunningGateway):
    key = await gateway.make_key()
    async with gateway.connect(init={"apiKey": key["secret"]}) as socket:
        await socket.subscribe(GENERATE, FOREVER)
        await socket.receive()
        await gateway.run(UPDATE, {"input": {"id": key["apiKey"]["id"], "allowedNetworks": [PRIVATE]}})
        with pytest.raises(ConnectionClosed) as caught:
            _ = [event async for event in socket.events()]
    assert caught.value.rcvd is not None
    assert caught.value.rcvd.code == 4403


async def test_a_model_that_a_key_is_not_for_does_not_exist_for_it(gateway: RunningGateway):
    gateway.token = (await gateway.make_key(models=["fake:count-*"]))["secret"]
    names = {model["name"] for model in (await gateway.run(MODELS))["models"]}
    assert names
    assert all(name.startswith("fake:count-") for name in names)


async def test_all_that_is_wrong_with_the_limits_is_told_at_once(gateway: RunningGateway):
    refused = await gateway.make_key(
        models=["ok*", " no"], allowedOrigins=["*"], allowedNetworks=["10.0.0.0/8", "nowhere"], scopes=[]
    )
    told = [refused_field({"issues": [issue]}) for issue in refused["issues"]]
    assert told == ["scopes", "models[1]", "allowedOrigins[0]", "allowedNetworks[1]"]


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("models", ["m"] * 101),
        ("allowedOrigins", [SITE] * 51),
        ("allowedNetworks", [HERE] * 51),
        ("models", []),
    ],
)
async def test_a_list_that_is_empty_or_too_long_is_refused(gateway: RunningGateway, field: str, values: list[str]):
    assert refused_field(await gateway.make_key(**{field: values})) == field
