"""Answers of an OpenID provider, or of somebody in its place, that must never sign anybody in."""

import re
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import anyio
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse

from auth.providers import (
    OidcConfig,
    ProviderUnavailable,
    RedirectProvider,
    RefusalReason,
    SignInRefused,
    build_providers,
    issuer,
)
from tests.support.identity.browsing import ADA, BACK, browse, config, opened, refused, sign_in, sign_in_with
from tests.support.identity.openid import (
    CLIENT_ID,
    FakeOpenIdProvider,
    SigningKey,
    running_openid_provider,
    signed_with_secret,
    unsigned,
)
from tests.support.ports import free_port

HOUR = 3600


@pytest.fixture
async def fake() -> AsyncIterator[FakeOpenIdProvider]:
    async with running_openid_provider() as fake:
        fake.person = dict(ADA)
        yield fake


@pytest.fixture
async def oidc(fake: FakeOpenIdProvider) -> AsyncIterator[RedirectProvider]:
    providers = build_providers([config(fake)])
    yield providers.redirect("oidc")
    await providers.aclose()


async def test_the_userinfo_of_somebody_else_is_refused(fake: FakeOpenIdProvider, oidc: RedirectProvider):
    fake.person, fake.userinfo = {}, {"sub": "another", **ADA}
    assert (await refused(oidc)).reason is RefusalReason.UNTRUSTED


WRONG_CLAIMS: list[tuple[dict[str, Any], str]] = [
    ({"iss": "https://evil.example.org"}, "issuer"),
    ({"iss": None}, "iss"),
    ({"aud": "another-client"}, "[Aa]udience"),
    ({"aud": None}, "aud"),
    ({"aud": [CLIENT_ID, "another"]}, "azp"),
    ({"aud": [CLIENT_ID, "another"], "azp": "another"}, "another client"),
    ({"azp": "another"}, "another client"),
    ({"nonce": "of-another-attempt"}, "nonce"),
    ({"nonce": None}, "nonce"),
    ({"nonce": 7}, "nonce"),
    ({"iat": None}, "iat"),
    ({"iat": int(time.time()) + HOUR}, "iat"),
    ({"nbf": int(time.time()) + HOUR}, "nbf"),
    ({"exp": None}, "exp"),
    ({"exp": "never"}, "[Ee]xp"),
    ({"sub": None}, "sub"),
    ({"sub": ""}, "subject"),
    ({"sub": "x" * 256}, "subject"),
    ({"sub": 7}, "[Ss]ubject"),
    ({"at_hash": "AAAA"}, "access token"),
]


async def test_an_id_token_for_anything_else_is_refused(fake: FakeOpenIdProvider, oidc: RedirectProvider):
    for fake.changes, detail in WRONG_CLAIMS:
        refusal = await refused(oidc)
        assert (refusal.reason, str(refusal)) == (
            RefusalReason.UNTRUSTED,
            "The answer of the identity provider could not be verified. Start signing in again.",
        ), fake.changes
        assert re.search(detail, refusal.detail), refusal.detail


async def test_an_expired_id_token_is_refused(fake: FakeOpenIdProvider, oidc: RedirectProvider):
    fake.changes = {"exp": int(time.time()) - 61}
    assert (await refused(oidc)).reason is RefusalReason.EXPIRED


async def test_an_unsigned_id_token_is_refused(fake: FakeOpenIdProvider, oidc: RedirectProvider):
    fake.forge = unsigned
    assert "'none'" in (await refused(oidc)).detail


async def test_the_public_key_is_no_shared_secret(fake: FakeOpenIdProvider, oidc: RedirectProvider):
    fake.forge = signed_with_secret(fake.signing.public())
    assert "'HS256'" in (await refused(oidc)).detail


async def test_an_algorithm_that_is_not_configured_is_refused(fake: FakeOpenIdProvider):
    with pytest.raises(SignInRefused):
        await sign_in_with(config(fake, algorithms=("ES256",)))


async def test_a_key_of_the_tokens_own_header_is_not_asked(fake: FakeOpenIdProvider, oidc: RedirectProvider):
    evil = SigningKey(rsa.generate_private_key(65537, 2048))
    mine = fake.signing
    fake.published = [mine]
    fake.signing = evil
    fake.forge = lambda claims: fake.sign(claims, jwk=evil.public(), jku=f"{fake.url}/evil")
    assert "has signed" in (await refused(oidc)).detail


@pytest.mark.parametrize(
    "published", [{"use": "enc"}, {"alg": "PS256"}, {"kty": "oct"}, {"n": "AQAB"}, {"e": 7}, {"kid": "another"}]
)
async def test_a_published_key_that_does_not_fit_is_not_used(
    fake: FakeOpenIdProvider, oidc: RedirectProvider, published: dict[str, Any]
):
    fake.signing.published = published
    assert "has signed" in (await refused(oidc)).detail


async def test_a_weak_key_is_not_used(fake: FakeOpenIdProvider, oidc: RedirectProvider):
    fake.signing = SigningKey(rsa.generate_private_key(65537, 1024))
    fake.forge = lambda claims: _signed_weakly(fake, claims)
    assert "has signed" in (await refused(oidc)).detail


@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
def _signed_weakly(fake: FakeOpenIdProvider, claims: dict[str, Any]) -> str:
    with pytest.warns(match="below"):
        return fake.sign(claims)


async def test_a_broken_id_token_is_refused(fake: FakeOpenIdProvider, oidc: RedirectProvider):
    tokens = iter(["", "a.b.c", "e30.e30.", "x" * 70_000])
    fake.forge = lambda _: next(tokens)
    assert [(await refused(oidc)).reason for _ in range(4)] == [RefusalReason.UNTRUSTED] * 4


async def test_new_keys_are_found_when_the_old_ones_are_gone(
    fake: FakeOpenIdProvider, oidc: RedirectProvider, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(issuer, "ROTATION_SECONDS", 0)
    await sign_in(oidc)
    fake.signing = SigningKey(rsa.generate_private_key(65537, 2048), kid="two")
    assert (await sign_in(oidc)).username == "ada"
    fake.signing = SigningKey(rsa.generate_private_key(65537, 2048), kid="two")
    assert (await sign_in(oidc)).username == "ada"
    old = SigningKey(fake.signing.key, kid="one")
    fake.published, fake.signing = [fake.signing], old
    assert "'one'" in (await refused(oidc)).detail


async def test_unknown_keys_make_no_flood(fake: FakeOpenIdProvider, oidc: RedirectProvider):
    fake.published = []
    for _ in range(3):
        await refused(oidc)
    assert fake.asked.count("/jwks") == 1


WRONG_ANSWERS: list[tuple[dict[str, str | None], str]] = [
    ({"state": "of-another-attempt"}, "state"),
    ({"state": None}, "state"),
    ({"state": "\ud83d"}, "state"),
    ({"iss": "https://evil.example.org"}, "https://evil.example.org"),
    ({"iss": None}, "None"),
    ({"code": None}, "neither"),
    ({"code": "x" * 9000}, "too long"),
]


async def test_an_answer_of_another_provider_or_attempt_is_refused(fake: FakeOpenIdProvider, oidc: RedirectProvider):
    for changes, detail in WRONG_ANSWERS:
        started = await oidc.begin(BACK)
        answer = {**await browse(started.url), **changes}
        with pytest.raises(SignInRefused) as refusal:
            await oidc.finish(started.pending, {name: value for name, value in answer.items() if value is not None})
        assert detail in refusal.value.detail
    assert "/token" not in fake.asked


async def test_a_sign_in_begun_at_one_provider_cannot_end_at_another(fake: FakeOpenIdProvider):
    async with opened(config(fake), config(fake, name="other")) as providers:
        started = await providers.redirect("oidc").begin(BACK)
        with pytest.raises(SignInRefused):
            await providers.redirect("other").finish(started.pending, await browse(started.url))


async def test_a_code_works_once(oidc: RedirectProvider):
    started = await oidc.begin(BACK)
    answer = await browse(started.url)
    await oidc.finish(started.pending, answer)
    with pytest.raises(SignInRefused, match="Start it again") as refusal:
        await oidc.finish(started.pending, answer)
    assert refusal.value.reason is RefusalReason.EXPIRED


@pytest.mark.parametrize("changed", ["code_verifier", "redirect_uri", "nonce"])
async def test_a_stolen_code_is_worth_nothing(oidc: RedirectProvider, changed: str):
    started, own = await oidc.begin(BACK), await oidc.begin(BACK)
    stolen = {**await browse(started.url), "state": own.pending.state}
    pending = own.pending if changed != "redirect_uri" else replace(started.pending, redirect_uri=f"{BACK}/")
    if changed == "nonce":
        pending = replace(started.pending, nonce=own.pending.nonce)
    with pytest.raises(SignInRefused):
        await oidc.finish(pending, {**stolen, "state": pending.state})


@pytest.mark.parametrize(
    "changes",
    [
        {"issuer": "https://evil.example.org"},
        {"token_endpoint": "http://evil.example.org/token"},
        {"jwks_uri": None},
        {"authorization_endpoint": "javascript:alert(1)"},
    ],
)
async def test_metadata_of_somebody_else_is_not_believed(
    fake: FakeOpenIdProvider, oidc: RedirectProvider, changes: dict[str, Any]
):
    fake.metadata_changes = changes
    with pytest.raises(ProviderUnavailable):
        await oidc.begin(BACK)


NONSENSE = [
    PlainTextResponse("oops", 500),
    PlainTextResponse("<html>"),
    JSONResponse({"padding": "x" * 1024 * 1024}),
    RedirectResponse("http://127.0.0.1:1/"),
]


async def test_a_provider_that_answers_nonsense_is_unavailable(fake: FakeOpenIdProvider):
    fake.person = {}
    for path in ("/.well-known/openid-configuration", "/token", "/jwks", "/userinfo"):
        for answer in NONSENSE if path == "/token" else NONSENSE[1:2]:  # all are read by one function
            fake.broken = {path: answer}
            with pytest.raises(ProviderUnavailable, match="cannot be reached"):
                await sign_in_with(config(fake))


async def test_a_provider_that_hangs_is_unavailable_in_time(fake: FakeOpenIdProvider):
    fake.hanging.add("/token")
    with anyio.fail_after(10), pytest.raises(ProviderUnavailable):
        await sign_in_with(config(fake, timeout=0.2))


async def test_a_provider_that_is_down_is_unavailable():
    port = free_port()
    async with opened(OidcConfig(f"http://127.0.0.1:{port}", CLIENT_ID)) as providers:
        with pytest.raises(ProviderUnavailable):
            await providers.redirect("oidc").begin(BACK)
