"""Session tokens hold what was signed, for as long as it was said, and nothing else is accepted."""

import base64
import json
import string
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, cast, get_args
from uuid import UUID, uuid4

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import assume, given
from hypothesis import strategies as st

from auth.errors import ExpiredToken, InvalidToken
from auth.signing_keys import (
    Algorithm,
    PairAlgorithm,
    Published,
    TokenKey,
    TokenKeys,
    WeakSecretError,
    new_pem,
    read_pem,
)
from auth.tokens import CLOCK_SKEW, MAX_TOKEN_LENGTH, TokenSigner

SECRET = "0123456789abcdef0123456789abcdef"
USER = UUID("01890a5d-ac96-774b-bcce-b302099a8057")
NOW = datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC)
HOUR = timedelta(hours=1)
BASE64URL = string.ascii_letters + string.digits + "-_"


def signer(secret: str = SECRET, issuer: str = "https://olla.example", audience: str = "ollagraph") -> TokenSigner:
    return TokenSigner(TokenKeys(secret), issuer=issuer, audience=audience, lifetime=HOUR)


def pair(algorithm: PairAlgorithm, name: str = "a.pem") -> Published:
    return Published(name, read_pem(new_pem(algorithm)), NOW)


@cache
def keys_of(algorithm: Algorithm) -> TokenKeys:
    """The same keys for all tests."""
    if algorithm == "HS256":
        return TokenKeys(SECRET)
    keys = TokenKeys(None)
    keys.publish([pair(algorithm)])
    return keys


every_algorithm = pytest.mark.parametrize("algorithm", get_args(Algorithm))


def signer_of(keys: TokenKeys) -> TokenSigner:
    return TokenSigner(keys, issuer="https://olla.example", audience="ollagraph", lifetime=HOUR)


def resigned(token: str, key: TokenKey, header: dict[str, Any]) -> str:
    """The claims of a token under another header, signed with the right key."""
    payload = token.split(".")[1]
    signing_input = f"{base64url(json.dumps(header).encode())}.{payload}"
    by = jwt.get_algorithm_by_name(key.algorithm)
    return f"{signing_input}.{base64url(by.sign(signing_input.encode(), cast('Any', key.signing)))}"


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def claims(**changes: Any) -> dict[str, Any]:
    """What a good token says, changed; None takes a claim away."""
    good = {
        "iss": "https://olla.example",
        "aud": "ollagraph",
        "sub": str(USER),
        "iat": int(NOW.timestamp()),
        "exp": int((NOW + HOUR).timestamp()),
        "jti": str(uuid4()),
    }
    return {name: value for name, value in (good | changes).items() if value is not None}


def signed(said: dict[str, Any], *, secret: str = SECRET, algorithm: str = "HS256", typ: str | None = "at+jwt") -> str:
    return jwt.encode(said, secret, algorithm=algorithm, headers={"typ": typ})


def test_a_token_says_whose_it_is() -> None:
    token = signer().issue(USER, now=NOW).token
    assert signer().verify(token, now=NOW).user_id == USER


def test_a_token_says_from_when_till_when_it_holds() -> None:
    found = signer().verify(signer().issue(USER, now=NOW).token, now=NOW)
    assert (found.issued_at, found.expires_at) == (NOW, NOW + HOUR)


def test_a_token_made_by_hand_as_ours_are_is_accepted() -> None:
    """So that the refusals below are for the one thing they change."""
    assert signer().verify(signed(claims()), now=NOW).user_id == USER


def test_a_token_made_now_holds_now() -> None:
    assert signer().verify(signer().issue(USER).token).user_id == USER


def test_the_end_of_a_token_is_the_one_that_was_told() -> None:
    issued = signer().issue(USER, now=NOW + timedelta(microseconds=7))
    assert signer().verify(issued.token, now=NOW).expires_at == issued.expires_at


def test_each_token_has_an_identifier_of_its_own() -> None:
    tokens = [signer().issue(USER, now=NOW).token for _ in range(10)]
    assert len({signer().verify(token, now=NOW).jti for token in tokens}) == 10


def test_a_token_names_the_session_it_belongs_to() -> None:
    session = uuid4()
    assert signer().verify(signer().issue(USER, session, now=NOW).token, now=NOW).session_id == session


def test_a_token_may_belong_to_no_session() -> None:
    assert signer().verify(signer().issue(USER, now=NOW).token, now=NOW).session_id is None


def test_a_token_holds_until_its_last_second() -> None:
    token = signer().issue(USER, now=NOW).token
    assert signer().verify(token, now=NOW + HOUR - timedelta(microseconds=1)).user_id == USER


def test_a_token_is_expired_from_its_end_on() -> None:
    token = signer().issue(USER, now=NOW).token
    with pytest.raises(ExpiredToken):
        signer().verify(token, now=NOW + HOUR)


def test_a_replica_whose_clock_is_a_little_ahead_is_believed() -> None:
    token = signer().issue(USER, now=NOW + CLOCK_SKEW).token
    assert signer().verify(token, now=NOW).user_id == USER


@pytest.mark.parametrize(
    "token",
    [
        pytest.param(signed(claims(), algorithm="none", secret=""), id="alg none"),
        pytest.param(signed(claims(), algorithm="HS512", secret=SECRET * 2), id="another secret and algorithm"),
        pytest.param(signed(claims(), secret=SECRET[::-1]), id="another secret"),
        pytest.param(signed(claims(iss="https://other.example")), id="another issuer"),
        pytest.param(signed(claims(aud="other")), id="another audience"),
        pytest.param(signed(claims(aud=["ollagraph", "other"])), id="several audiences"),
        pytest.param(signed(claims(), typ="JWT"), id="another type"),
        pytest.param(signed(claims(), typ=None), id="no type"),
        pytest.param(signed(claims(iat=int((NOW + CLOCK_SKEW).timestamp()) + 1)), id="issued in the future"),
        pytest.param(signed(claims(sub="ada")), id="a user that is no UUID"),
        pytest.param(signed(claims(sid="mine")), id="a session that is no UUID"),
        pytest.param(signed(claims(sid=7)), id="a session that is a number"),
        pytest.param(signed(claims() | {"sid": None}), id="a session that is null"),
        pytest.param(signed(claims(exp=10**30)), id="an end that no calendar has"),
        pytest.param(signed(claims(exp=float("nan"))), id="an end that is no number"),
        pytest.param(signed(claims(exp=True)), id="an end that is a truth value"),
        pytest.param(signed(claims(iat=str(int(NOW.timestamp())))), id="a beginning that is a string"),
        pytest.param("", id="nothing"),
        pytest.param("a.b.c", id="no base64"),
        pytest.param("\ud800", id="half a surrogate pair"),
    ],
)
def test_a_token_that_is_not_ours_is_refused(token: str) -> None:
    with pytest.raises(InvalidToken):
        signer().verify(token, now=NOW)


def test_the_right_secret_with_another_algorithm_is_refused() -> None:
    with pytest.raises(InvalidToken):
        signer(SECRET * 2).verify(signed(claims(), secret=SECRET * 2, algorithm="HS512"), now=NOW)


@pytest.mark.parametrize("claim", ["iss", "aud", "sub", "exp", "iat", "jti"])
def test_a_token_that_lacks_a_claim_is_refused(claim: str) -> None:
    with pytest.raises(InvalidToken):
        signer().verify(signed(claims(**{claim: None})), now=NOW)


def test_a_token_whose_claims_were_changed_is_refused() -> None:
    header, _, signature = signed(claims()).split(".")
    forged = base64.urlsafe_b64encode(json.dumps(claims(sub=str(uuid4()))).encode()).rstrip(b"=").decode()
    with pytest.raises(InvalidToken):
        signer().verify(f"{header}.{forged}.{signature}", now=NOW)


def test_a_forged_token_that_has_expired_is_invalid_and_not_expired() -> None:
    token = signed(claims(), secret=SECRET[::-1])
    with pytest.raises(InvalidToken):
        signer().verify(token, now=NOW + 2 * HOUR)


@given(st.text())
def test_any_text_is_refused_as_invalid(text: str) -> None:
    with pytest.raises(InvalidToken):
        signer().verify(text, now=NOW)


@given(
    st.dictionaries(
        st.sampled_from(["sub", "exp", "iat", "jti", "aud", "nbf", "sid"]), st.integers() | st.text() | st.none()
    )
)
def test_any_claims_that_we_sign_are_read_or_refused(changes: dict[str, Any]) -> None:
    token = signed(claims() | changes)
    try:
        found = signer().verify(token, now=NOW)
    except (InvalidToken, ExpiredToken):
        return
    assert isinstance(found.user_id, UUID)


def test_a_short_secret_is_refused_with_the_way_to_make_a_good_one() -> None:
    with pytest.raises(WeakSecretError, match=r"has 31 bytes; it needs 32 or more.*token_urlsafe") as caught:
        signer(SECRET[:31])
    assert SECRET[:31] not in str(caught.value)


def test_a_token_is_not_shown_by_what_holds_it() -> None:
    issued = signer().issue(USER, now=NOW)
    assert issued.token not in repr(issued)


def test_an_error_does_not_hold_the_token() -> None:
    token = signed(claims(aud="other"))
    with pytest.raises(InvalidToken) as caught:
        signer().verify(token, now=NOW)
    assert token not in str(caught.value)


@every_algorithm
def test_a_token_is_verified_by_the_key_that_signed_it(algorithm: Algorithm) -> None:
    verifier = signer_of(keys_of(algorithm))
    token = verifier.issue(USER, now=NOW).token
    assert (jwt.get_unverified_header(token)["alg"], verifier.verify(token, now=NOW).user_id) == (algorithm, USER)


@every_algorithm
def test_a_token_of_another_key_is_refused(algorithm: Algorithm) -> None:
    others = TokenKeys(SECRET[::-1])
    others.publish([pair("EdDSA")])
    with pytest.raises(InvalidToken):
        signer_of(others).verify(signer_of(keys_of(algorithm)).issue(USER, now=NOW).token, now=NOW)


@every_algorithm
@given(data=st.data())
def test_a_token_with_any_character_changed_is_refused(algorithm: Algorithm, data: st.DataObject) -> None:
    """Also the last one, of which some bits are no part of the signature."""
    token = signer_of(keys_of(algorithm)).issue(USER, now=NOW).token
    at = data.draw(st.integers(0, len(token) - 1) | st.just(len(token) - 1))
    other = data.draw(st.sampled_from(BASE64URL + "=.+/ \n") | st.characters())
    assume(other != token[at])
    with pytest.raises(InvalidToken):
        signer_of(keys_of(algorithm)).verify(token[:at] + other + token[at + 1 :], now=NOW)


@every_algorithm
def test_a_token_that_is_cut_short_is_refused_wherever(algorithm: Algorithm) -> None:
    verifier = signer_of(keys_of(algorithm))
    token = verifier.issue(USER, now=NOW).token
    for length in range(len(token)):
        with pytest.raises(InvalidToken):
            verifier.verify(token[:length], now=NOW)


@every_algorithm
@pytest.mark.parametrize("more", ["=", "==", "A", "\n", ".", ".AAAA", "A" * MAX_TOKEN_LENGTH, "A" * 1_000_000])
def test_a_token_with_something_behind_it_is_refused(algorithm: Algorithm, more: str) -> None:
    verifier = signer_of(keys_of(algorithm))
    with pytest.raises(InvalidToken):
        verifier.verify(verifier.issue(USER, now=NOW).token + more, now=NOW)


@every_algorithm
@pytest.mark.parametrize(
    "changes",
    [
        {"crit": ["b64"], "b64": True},
        {"crit": []},
        {"jku": "https://olla.example/keys"},
        {"x5u": "file:///etc/passwd"},
        {"jwk": {"kty": "oct", "k": "AAAA"}},
        {"x5c": ["AAAA"]},
        {"zip": "DEF"},
        {"cty": "JWT"},
        {"kid": "../../dev/null"},
        {"kid": "' OR 1=1 --"},
        {"kid": ""},
        {"kid": None},
        {"kid": 7},
        {"kid": ["a"]},
        {"kid": {}},
        {"typ": "JWT"},
        {"typ": None},
        {"alg": "none"},
        {"alg": "HS512"},
        {"alg": "PS256"},
        {"alg": "eddsa"},
        {"alg": None},
    ],
    ids=str,
)
def test_a_header_that_is_not_ours_is_refused_though_the_signature_be_right(
    algorithm: Algorithm, changes: dict[str, Any]
) -> None:
    verifier, key = signer_of(keys_of(algorithm)), keys_of(algorithm).for_signing(NOW)
    token = verifier.issue(USER, now=NOW).token
    header = jwt.get_unverified_header(token)
    assert verifier.verify(resigned(token, key, header), now=NOW).user_id == USER  # it is the change that is refused
    with pytest.raises(InvalidToken):
        verifier.verify(resigned(token, key, header | changes), now=NOW)


@pytest.mark.parametrize("algorithm", ["EdDSA", "RS256"])
@pytest.mark.parametrize("named", [True, False])
def test_a_public_key_is_no_secret_to_sign_with(algorithm: Algorithm, named: bool) -> None:
    key = keys_of(algorithm).for_signing(NOW)
    assert not isinstance(key.verifying, bytes)
    for encoding, form in (
        (Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        (Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
    ):
        secret = TokenKey(None, "HS256", b"", key.verifying.public_bytes(encoding, form))
        header = {"alg": "HS256", "typ": "at+jwt"} | ({"kid": key.kid} if named else {})
        forged = resigned(f".{base64url(json.dumps(claims()).encode())}.", secret, header)
        with pytest.raises(InvalidToken):
            signer_of(keys_of(algorithm)).verify(forged, now=NOW)


@pytest.mark.parametrize("header", [b"[" * 3000, b'{"alg":' + b"[" * 2900, b"[]", b"null", b"7", b"\xff", b""], ids=str)
def test_a_header_that_is_no_object_is_refused(header: bytes) -> None:
    with pytest.raises(InvalidToken):
        signer().verify(f"{base64url(header)}.e30.AAAA", now=NOW)


def test_a_token_without_the_name_of_a_key_is_of_the_secret_alone() -> None:
    key = keys_of("EdDSA").for_signing(NOW)
    token = signer_of(keys_of("EdDSA")).issue(USER, now=NOW).token
    with pytest.raises(InvalidToken):
        signer_of(keys_of("EdDSA")).verify(resigned(token, key, {"alg": "EdDSA", "typ": "at+jwt"}), now=NOW)


def test_the_secret_verifies_while_key_pairs_sign() -> None:
    keys = TokenKeys(SECRET)
    keys.publish([pair("EdDSA")])
    assert signer_of(keys).verify(signed(claims()), now=NOW).user_id == USER
    assert jwt.get_unverified_header(signer_of(keys).issue(USER, now=NOW).token)["alg"] == "EdDSA"
