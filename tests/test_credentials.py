"""Credentials are read the same way from HTTP headers and from a WebSocket's connection parameters."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers

from auth.api_keys import generate_api_key
from auth.credentials import ApiKeySecret, BearerToken, Credentials, read_connection_params, read_credentials
from auth.errors import MalformedCredentials

KEY = generate_api_key().secret
OTHER_KEY = generate_api_key().secret
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"

Reader = Callable[[dict[str, str]], Credentials | None]
both = pytest.mark.parametrize("read", [read_credentials, read_connection_params], ids=["http", "websocket"])


@both
def test_a_token_after_bearer_is_a_session_token(read: Reader) -> None:
    assert read({"Authorization": f"Bearer {JWT}"}) == BearerToken(JWT)


@both
def test_a_key_after_bearer_is_known_by_its_prefix(read: Reader) -> None:
    assert read({"Authorization": f"Bearer {KEY}"}) == ApiKeySecret(KEY)


@both
@pytest.mark.parametrize("name", ["X-API-Key", "x-api-key", "X-Api-Key"])
def test_a_key_may_stand_in_a_header_of_its_own(read: Reader, name: str) -> None:
    assert read({name: KEY}) == ApiKeySecret(KEY)


@both
@pytest.mark.parametrize("name", ["authorization", "Authorization", "AUTHORIZATION"])
@pytest.mark.parametrize("scheme", ["bearer", "Bearer", "BEARER"])
def test_neither_the_name_nor_the_scheme_has_a_case(read: Reader, name: str, scheme: str) -> None:
    assert read({name: f"{scheme} {JWT}"}) == BearerToken(JWT)


@pytest.mark.parametrize("name", ["apiKey", "apikey", "x-api-key"])
def test_a_websocket_may_call_the_key_as_its_client_likes(name: str) -> None:
    assert read_connection_params({name: KEY}) == ApiKeySecret(KEY)


@both
def test_other_entries_are_no_credentials(read: Reader) -> None:
    assert read({"Accept": "*/*", "Cookie": f"session={JWT}"}) is None


@pytest.mark.parametrize("payload", [None, {}, {"Authorization": None}, {"apiKey": None, "x-api-key": None}])
def test_a_websocket_without_credentials_is_anonymous(payload: object) -> None:
    assert read_connection_params(payload) is None


@both
def test_the_same_key_in_two_places_counts_once(read: Reader) -> None:
    assert read({"Authorization": f"Bearer {KEY}", "X-API-Key": KEY}) == ApiKeySecret(KEY)


@both
@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ({"Authorization": f"Bearer {JWT}", "X-API-Key": KEY}, "Two different credentials"),
        ({"Authorization": f"Bearer {KEY}", "X-API-Key": OTHER_KEY}, "Two different credentials"),
        ({"Authorization": "Basic YWRhOnNlY3JldA=="}, "must be Bearer"),
        ({"Authorization": JWT}, "must be Bearer"),
        ({"Authorization": ""}, "Authorization is empty"),
        ({"Authorization": "Bearer"}, "The bearer token is missing"),
        ({"Authorization": "Bearer   "}, "The bearer token is missing"),
        ({"Authorization": f"Bearer {JWT} {JWT}"}, "contains invalid characters"),
        ({"Authorization": f"Bearer {JWT}, Bearer {JWT}"}, "contains invalid characters"),
        ({"Authorization": "Bearer " + "a" * 5000}, "longer than 4096"),
        ({"X-API-Key": ""}, "API key is empty"),
        ({"X-API-Key": JWT}, "begins with 'olg_'"),
    ],
)
def test_what_cannot_be_read_is_refused_with_a_reason(read: Reader, headers: dict[str, str], said: str) -> None:
    with pytest.raises(MalformedCredentials, match=said):
        read(headers)


def test_a_header_that_is_sent_twice_with_two_values_is_refused() -> None:
    headers = Headers(raw=[(b"x-api-key", KEY.encode()), (b"x-api-key", OTHER_KEY.encode())])
    with pytest.raises(MalformedCredentials, match="Two different credentials"):
        read_credentials(headers)


@pytest.mark.parametrize("payload", ["Bearer x", 7, ["Authorization"], True])
def test_connection_parameters_that_are_no_object_are_refused(payload: object) -> None:
    with pytest.raises(MalformedCredentials, match="must be an object"):
        read_connection_params(payload)


@pytest.mark.parametrize("value", [7, True, ["Bearer x"], {"token": "x"}])
def test_connection_parameters_must_hold_strings(value: object) -> None:
    with pytest.raises(MalformedCredentials, match="must be a string"):
        read_connection_params({"Authorization": value})


@pytest.mark.parametrize("credentials", [BearerToken(JWT), ApiKeySecret(KEY)])
def test_credentials_do_not_show_their_secret(credentials: Credentials) -> None:
    assert JWT not in repr(credentials)
    assert KEY not in repr(credentials)


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(["Authorization", "apiKey"]), inner),
    max_leaves=8,
)


@given(json_values)
def test_any_json_gives_credentials_or_none_or_a_clear_error(payload: object) -> None:
    try:
        found = read_connection_params(payload)
    except MalformedCredentials:
        return
    assert found is None or isinstance(found, BearerToken | ApiKeySecret)


@given(st.text())
def test_an_error_never_repeats_what_was_sent(secret: str) -> None:
    marked = "s3cr3t" + secret
    for headers in ({"Authorization": marked}, {"Authorization": f"Bearer {marked} é"}, {"X-API-Key": marked}):
        with pytest.raises(MalformedCredentials) as caught:
            read_credentials(headers)
        assert "s3cr3t" not in str(caught.value)
