"""Key pairs sign access tokens: published first, rotated without a restart, and only those that nobody else has."""

import base64
import os
import stat
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import anyio
import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from auth.signing_keys import Published, TokenKey, TokenKeys, UnusableKeyError, new_pem, public_jwk, read_pem
from server import signing_keys as module
from server.settings import SettingsError
from server.signing_keys import SigningKeys, write_new_key
from tests.support.fake_model_server import FakeModelServer
from tests.support.gateways import RunningGateway, gateway_settings, running_gateway
from tests.support.polling import pause

SECRET = "kP9x-2mWq-7fHd-31zT-v8Ra-0bNc-5yLe"
NOW = datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC)
DELAY = timedelta(minutes=10)

FIRST, SECOND = (read_pem(new_pem("EdDSA")) for _ in range(2))


def private_pem(key: Any, encryption: Any = None) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption())


def public_pem(private: bytes) -> bytes:
    key = read_pem(private).verifying
    assert not isinstance(key, bytes)
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def keys_in(folder: Path, **others: Any) -> SigningKeys:
    return SigningKeys(gateway_settings(folder, "sqlite://", None, signing_keys=folder, **others))


def write(path: Path, pem: bytes, mode: int = 0o600) -> Path:
    """Write a key as operators do: whole, under its name."""
    unfinished = path.with_suffix(".new")
    unfinished.write_bytes(pem)
    unfinished.chmod(mode)
    return unfinished.rename(path)


def kids(keys: TokenKeys) -> list[str]:
    return [jwk["kid"] for jwk in keys.public]


def signing_kid(keys: TokenKeys, at: datetime) -> str | None:
    return keys.for_signing(at).kid


# --- What a key is ---


def test_the_name_of_an_ed25519_key_is_the_thumbprint_of_rfc_8037() -> None:
    """Its appendix A.1 to A.3."""
    seed = base64.urlsafe_b64decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=")
    key = read_pem(private_pem(ed25519.Ed25519PrivateKey.from_private_bytes(seed)))
    assert public_jwk(key) == {
        "kty": "OKP",
        "crv": "Ed25519",
        "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
        "kid": "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k",
        "use": "sig",
        "alg": "EdDSA",
    }


def test_the_name_of_an_rsa_key_is_the_thumbprint_of_rfc_7638() -> None:
    """Its section 3.1."""
    modulus = (
        "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknj"
        "hMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQ"
        "vRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzK"
        "nqDKgw"
    )
    n = int.from_bytes(base64.urlsafe_b64decode(modulus + "=="), "big")
    public = rsa.RSAPublicNumbers(65_537, n).public_key()
    jwk = public_jwk(read_pem(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)))
    assert (jwk["kid"], jwk["n"], jwk["e"], jwk["alg"]) == (
        "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs",
        modulus,
        "AQAB",
        "RS256",
    )


UNUSABLE: dict[str, tuple[Callable[[], bytes], str]] = {
    "a short RSA key": (
        lambda: private_pem(rsa.generate_private_key(65_537, 1024)),
        "holds an RSA key of 1024 bits; it must",
    ),
    "a small exponent": (
        lambda: private_pem(rsa.generate_private_key(3, 2048)),
        "holds an RSA key whose public exponent",
    ),
    "another curve": (
        lambda: private_pem(ec.generate_private_key(ec.SECP256R1())),
        "holds a key that is neither Ed25519 nor",
    ),
    "Ed448": (lambda: private_pem(ed448.Ed448PrivateKey.generate()), "holds a key that is neither Ed25519 nor"),
    "a public key of another curve": (
        lambda: (
            ec.generate_private_key(ec.SECP256R1())
            .public_key()
            .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        ),
        "holds a key that is neither Ed25519 nor",
    ),
    "a passphrase": (
        lambda: private_pem(ed25519.Ed25519PrivateKey.generate(), BestAvailableEncryption(b"hunter2")),
        "is encrypted with a passphrase",
    ),
    "two keys": (lambda: new_pem("EdDSA") + public_pem(new_pem("EdDSA")), "holds more than one key"),
    "half a key": (lambda: new_pem("EdDSA")[:60] + b"\n-----END PRIVATE KEY-----\n", "is damaged"),
    "a damaged public key": (lambda: b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "is damaged"),
    "a certificate": (lambda: b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "is no PEM file"),
    "nothing": (lambda: b"", "is no PEM file"),
    "no text": (lambda: os.urandom(100), "is no PEM file"),
    "far too much": (lambda: b"x" * 100_000, "is too large to be a key"),
}


@pytest.mark.parametrize("what", UNUSABLE)
def test_a_key_that_cannot_be_used_stops_the_start_with_its_file_and_the_reason(what: str, tmp_path: Path) -> None:
    make, reason = UNUSABLE[what]
    path = write(tmp_path / "a.pem", make())
    with pytest.raises(SettingsError) as caught:
        keys_in(tmp_path)
    assert str(caught.value).startswith(f"OLLAGRAPH_SIGNING_KEYS: {path} {reason}")


def test_what_holds_a_key_does_not_show_it() -> None:
    assert "signing" not in repr(FIRST)


# --- Which key signs ---


def published(*, secret: str | None = None, **since: tuple[TokenKey, datetime]) -> TokenKeys:
    keys = TokenKeys(secret, publish_delay=DELAY)
    keys.publish([Published(f"{name}.pem", key, at) for name, (key, at) in since.items()])
    return keys


def test_a_new_key_signs_when_it_has_been_published_for_long_enough() -> None:
    keys = published(a=(FIRST, NOW - DELAY), b=(SECOND, NOW))
    late = NOW + DELAY
    assert [signing_kid(keys, at) for at in (NOW, late - timedelta(seconds=1), late)] == [
        FIRST.kid,
        FIRST.kid,
        SECOND.kid,
    ]


def test_a_new_key_verifies_from_the_first_moment_on() -> None:
    keys = published(a=(FIRST, NOW - DELAY), b=(SECOND, NOW))
    assert (kids(keys), keys.for_verifying(SECOND.kid)) == ([FIRST.kid, SECOND.kid], SECOND)


def test_while_all_keys_are_new_the_first_one_signs() -> None:
    assert signing_kid(published(b=(SECOND, NOW), a=(FIRST, NOW)), NOW) == FIRST.kid


def test_the_secret_signs_until_the_first_key_has_been_published_for_long_enough() -> None:
    keys = published(secret=SECRET, a=(FIRST, NOW))
    assert [keys.for_signing(at).kid for at in (NOW, NOW + DELAY)] == [None, FIRST.kid]


def test_a_key_that_is_read_again_is_as_old_as_before() -> None:
    keys = published(a=(FIRST, NOW - DELAY), b=(SECOND, NOW - DELAY))
    keys.publish([Published("b.pem", SECOND, NOW), Published("a.pem", FIRST, NOW)])
    assert signing_kid(keys, NOW) == SECOND.kid


def test_a_key_that_is_gone_verifies_nothing() -> None:
    keys = published(a=(FIRST, NOW), b=(SECOND, NOW))
    keys.publish([Published("b.pem", SECOND, NOW)])
    assert (keys.for_verifying(FIRST.kid), kids(keys)) == (None, [SECOND.kid])


@pytest.mark.parametrize("order", [("a.pem", "b.pem"), ("b.pem", "a.pem")])
def test_of_both_halves_of_a_key_in_two_files_the_private_one_counts(order: tuple[str, str], tmp_path: Path) -> None:
    pem = new_pem("EdDSA")
    write(tmp_path / order[0], pem)
    write(tmp_path / order[1], public_pem(pem))
    keys = keys_in(tmp_path).keys
    assert (len(kids(keys)), keys.can_sign) == (1, True)


# --- The folder ---


def test_a_public_key_verifies_and_does_not_sign(tmp_path: Path) -> None:
    old, new = new_pem("RS256"), new_pem("EdDSA")
    write(tmp_path / "1.pem", new)
    write(tmp_path / "2.pem", public_pem(old), 0o644)
    keys = keys_in(tmp_path, signing_key_delay=0).keys
    later = datetime.now(UTC) + DELAY
    assert (signing_kid(keys, later), kids(keys)) == (read_pem(new).kid, [read_pem(new).kid, read_pem(old).kid])


def test_a_folder_that_is_not_there_is_told_with_the_way_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"there is no .*keys\. Make .* ollagraph create-signing-key"):
        keys_in(tmp_path / "keys")


def test_a_folder_without_a_private_key_is_refused_where_nothing_else_signs(tmp_path: Path) -> None:
    write(tmp_path / "a.pem", public_pem(new_pem("EdDSA")))
    (tmp_path / "README.txt").write_text("no key")
    with pytest.raises(SettingsError, match=r"holds no private key\. Make one with: ollagraph create-signing-key"):
        keys_in(tmp_path)
    assert keys_in(tmp_path, secret_key=SECRET).keys.for_signing(NOW).algorithm == "HS256"


def test_no_secret_is_made_where_key_pairs_sign(tmp_path: Path) -> None:
    write(tmp_path / "a.pem", new_pem("EdDSA"))
    assert keys_in(tmp_path).keys.for_verifying(None) is None
    assert [path.name for path in tmp_path.iterdir()] == ["a.pem"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o620, 0o602, 0o666])
def test_a_private_key_that_others_can_read_or_change_is_refused(mode: int, tmp_path: Path) -> None:
    path = write(tmp_path / "a.pem", new_pem("EdDSA"), mode)
    with pytest.raises(SettingsError, match=rf"{path} can be (read|changed) by others\. Run chmod 600"):
        keys_in(tmp_path)


def owned_by(uid: int, mode: int) -> os.stat_result:
    return os.stat_result((stat.S_IFREG | mode, 1, 1, 1, uid, 0, 100, 0, 0, 0))


def test_a_key_of_another_user_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(UnusableKeyError, match="belongs to another user"):
        module._check_owner(owned_by(1001, 0o600), private=True)


def test_the_group_may_read_a_key_of_roots(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Kubernetes gives them to a process."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    module._check_owner(owned_by(0, 0o440), private=True)
    with pytest.raises(UnusableKeyError, match="can be read by others"):
        module._check_owner(owned_by(0, 0o444), private=True)


async def test_a_key_with_an_old_date_that_comes_later_is_new_all_the_same(tmp_path: Path) -> None:
    first, second = new_pem("EdDSA"), new_pem("EdDSA")
    write(tmp_path / "1.pem", first)
    signing = keys_in(tmp_path, signing_key_delay=3600)
    os.utime(write(tmp_path / "2.pem", second), (0, 0))
    await signing.look()
    now = datetime.now(UTC)
    assert [signing_kid(signing.keys, at) for at in (now, now + timedelta(hours=2))] == [
        read_pem(first).kid,
        read_pem(second).kid,
    ]


async def test_what_cannot_be_used_leaves_the_keys_as_they_were(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path / "1.pem", new_pem("EdDSA"))
    signing = keys_in(tmp_path)
    before = kids(signing.keys)
    path = write(tmp_path / "2.pem", new_pem("EdDSA"), 0o644)
    await signing.look()
    await signing.look()
    assert kids(signing.keys) == before
    assert caplog.messages == [
        f"the signing keys stay as they were. OLLAGRAPH_SIGNING_KEYS: {path} can be read by others. "
        "Run chmod 600 on it."
    ]
    path.chmod(0o600)
    await signing.look()
    assert len(kids(signing.keys)) == 2


@pytest.mark.parametrize("algorithm", ["EdDSA", "RS256"])
def test_a_key_that_is_made_is_the_last_and_its_owners_only(algorithm: Any, tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    write_new_key(folder, "EdDSA")
    path, kid = write_new_key(folder, algorithm)
    keys = keys_in(folder, signing_key_delay=0).keys
    key = keys.for_signing(datetime.now(UTC) + DELAY)
    assert (key.kid, key.algorithm, stat.S_IMODE(path.stat().st_mode)) == (kid, algorithm, 0o600)
    assert sorted(each.suffix for each in folder.iterdir()) == [".pem", ".pem"]


def test_a_key_that_cannot_be_written_is_told_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match=r"No key can be written to the folder .*file \(it is a file\)\."):
        write_new_key(tmp_path / "file", "EdDSA")


# --- In a running gateway ---


async def key_set(gateway: RunningGateway) -> httpx.Response:
    return await gateway.client.get("/.well-known/jwks.json")


def verified_by_others(token: str, keys: Any) -> tuple[UUID, str]:
    """What a reader of the key set makes of a token, with no more than the key set."""
    header = jwt.get_unverified_header(token)
    key = jwt.PyJWKSet.from_dict(keys)[header["kid"]]
    said = jwt.decode(token, key.key, algorithms=[header["alg"]], audience="ollagraph", issuer="ollagraph")
    return UUID(said["sub"]), header["alg"]


async def test_keys_are_rotated_while_the_gateway_runs(
    tmp_path: Path, sqlite_url: str, fake: FakeModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WATCH_SECONDS", 0.01)
    folder = tmp_path / "keys"
    old, old_kid = write_new_key(folder, "RS256")
    settings = gateway_settings(tmp_path / "data", sqlite_url, fake.url, signing_keys=folder, signing_key_delay=0)
    async with running_gateway(settings, fake) as gateway:
        by_old = gateway.token
        assert verified_by_others(by_old, (await key_set(gateway)).json())[1] == "RS256"
        _, new_kid = write_new_key(folder, "EdDSA")
        with anyio.fail_after(30):
            while len((await key_set(gateway)).json()["keys"]) < 2:
                await pause()
        await gateway.sign_in()
        assert verified_by_others(gateway.token, (await key_set(gateway)).json())[1] == "EdDSA"
        assert jwt.get_unverified_header(gateway.token)["kid"] == new_kid
        by_new, gateway.token = gateway.token, by_old
        assert await gateway.run("{ me { username } }") == {"me": {"username": "admin"}}
        old.unlink()
        with anyio.fail_after(30):
            while old_kid in (await key_set(gateway)).text:
                await pause()
        response = await gateway.post("{ me { username } }")
        assert response.json()["errors"][0]["extensions"]["reason"] == "INVALID_TOKEN"
        gateway.token = by_new
        assert await gateway.run("{ me { username } }") == {"me": {"username": "admin"}}


async def test_the_key_set_may_be_cached_for_less_than_the_delay(tmp_path: Path) -> None:
    from server.jwks import key_set as endpoint

    write(tmp_path / "a.pem", new_pem("EdDSA"))
    for delay, caching in ((600, "public, max-age=300"), (60, "public, max-age=30"), (0, "public, max-age=0")):
        answer = await endpoint(keys_in(tmp_path, signing_key_delay=delay).keys)(None)  # pyright: ignore
        assert (answer.headers["cache-control"], answer.media_type) == (caching, "application/jwk-set+json")


async def test_a_gateway_that_signs_with_a_secret_says_that_it_has_no_public_keys(
    shared_gateway: RunningGateway,
) -> None:
    response = await key_set(shared_gateway)
    assert (response.status_code, response.headers["cache-control"]) == (404, "no-store")
    assert response.text.startswith("This gateway signs access tokens with a secret, so it has no public keys.")
