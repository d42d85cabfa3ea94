"""Sign-in with OpenID Connect, at a provider that others wrote and at one that can be told what to say."""

import json
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict, replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from auth.providers import (
    ExternalIdentity,
    InvalidProviderConfig,
    OidcConfig,
    PendingSignIn,
    RedirectProvider,
    RefusalReason,
    RoleMapping,
    SignInRefused,
    build_providers,
)
from tests.support.identity.browsing import ADA, BACK, browse, config, opened, refused, sign_in, sign_in_with
from tests.support.identity.openid import (
    CLIENT_ID,
    CLIENT_SECRET,
    FakeOpenIdProvider,
    SigningKey,
    key_for,
    running_openid_provider,
)
from tests.support.identity.real_provider import running_real_provider


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


@pytest.fixture(scope="module")
def real_provider() -> Iterator[str]:
    with running_real_provider(sub="u-1", **ADA) as url:
        yield url


async def test_a_person_signs_in_at_a_real_provider(real_provider: str):
    async with opened(OidcConfig(real_provider, CLIENT_ID, CLIENT_SECRET)) as providers:
        identity = await sign_in(providers.redirect("oidc"), sub="u-1")
        assert (identity.subject, identity.username, identity.email) == (
            f"{real_provider}#u-1",
            "ada",
            "ada@example.org",
        )
        assert (identity.email_verified, identity.groups) == (True, {"a"})
        leave = await providers.redirect("oidc").logout_url("https://gateway.example.org/", identity.username)
        assert leave is not None
        async with httpx.AsyncClient(trust_env=False) as browser:
            assert (await browser.get(leave)).is_success


@pytest.mark.parametrize(
    ("error", "reason"), [("access_denied", RefusalReason.CANCELLED), ("server_error", RefusalReason.UNTRUSTED)]
)
async def test_an_error_of_the_provider_is_told(
    fake: FakeOpenIdProvider, oidc: RedirectProvider, error: str, reason: RefusalReason
):
    fake.answer_changes = {"code": None, "error": error, "error_description": "<script>"}
    refusal = await refused(oidc)
    assert refusal.reason is reason
    assert "script" not in str(refusal)


async def test_the_claims_make_the_identity(fake: FakeOpenIdProvider, oidc: RedirectProvider):
    identity = await sign_in(oidc)
    assert identity == ExternalIdentity(
        "oidc", f"{fake.url}#248289761001", "ada", "ada@example.org", True, "Ada", frozenset(["a"])
    )
    assert fake.asked == ["/.well-known/openid-configuration", "/authorize", "/token", "/jwks"]


async def test_a_pending_sign_in_survives_being_stored(oidc: RedirectProvider):
    started = await oidc.begin(BACK)
    stored = PendingSignIn(**json.loads(json.dumps(asdict(started.pending))))
    assert (await oidc.finish(stored, await browse(started.url))).username == "ada"


async def test_no_two_sign_ins_share_a_secret(oidc: RedirectProvider):
    one, other = (await oidc.begin(BACK)).pending, (await oidc.begin(BACK)).pending
    assert {one.state, one.nonce, one.code_verifier}.isdisjoint({other.state, other.nonce, other.code_verifier})
    assert one.code_verifier not in repr(one)


@pytest.mark.parametrize("algorithm", ["RS256", "PS384", "ES256", "ES384", "EdDSA"])
async def test_an_id_token_is_signed_with_a_public_key(
    fake: FakeOpenIdProvider, oidc: RedirectProvider, algorithm: str
):
    fake.signing = SigningKey(key_for(algorithm), algorithm)
    assert (await sign_in(oidc)).username == "ada"


async def test_the_userinfo_fills_in_what_the_id_token_lacks(fake: FakeOpenIdProvider, oidc: RedirectProvider):
    fake.person = {"preferred_username": "ada", "email_verified": False}
    fake.userinfo = {"sub": "248289761001", **ADA, "preferred_username": "somebody"}
    identity = await sign_in(oidc)
    assert (identity.username, identity.email, identity.email_verified) == ("ada", "ada@example.org", False)


async def test_clocks_may_differ_a_little(fake: FakeOpenIdProvider, oidc: RedirectProvider):
    fake.changes = {"exp": int(time.time()) - 30, "iat": int(time.time()) + 30}
    assert (await sign_in(oidc)).username == "ada"


async def test_the_issuer_may_be_left_out_where_the_provider_never_names_it(
    fake: FakeOpenIdProvider, oidc: RedirectProvider
):
    fake.metadata_changes, fake.answer_changes = {"authorization_response_iss_parameter_supported": None}, {"iss": None}
    assert (await sign_in(oidc)).username == "ada"


async def test_groups_give_roles_by_the_path_of_a_claim(fake: FakeOpenIdProvider):
    fake.person |= {"realm_access": {"roles": ["staff", "admin"]}}
    roles = RoleMapping((("admin", "ADMIN"), ("staff", "USER")), required=True)
    mapped = config(fake, roles=roles, groups_claim="realm_access.roles")
    assert (await sign_in_with(mapped)).role == "ADMIN"
    fake.person["realm_access"] = {"roles": ["ADMIN"]}
    with pytest.raises(SignInRefused, match="no access here"):
        await sign_in_with(mapped)


async def test_a_missing_user_name_says_which_claim(fake: FakeOpenIdProvider):
    with pytest.raises(SignInRefused, match="'upn'") as refusal:
        await sign_in_with(config(fake, username_claim="upn"))
    assert refusal.value.reason is RefusalReason.INCOMPLETE


async def test_an_email_is_verified_only_if_the_provider_says_so(fake: FakeOpenIdProvider, oidc: RedirectProvider):
    fake.person["email_verified"] = "true"
    assert not (await sign_in(oidc)).email_verified


async def test_a_secret_is_sent_as_the_provider_wants_it(fake: FakeOpenIdProvider, oidc: RedirectProvider):
    fake.metadata_changes = {"token_endpoint_auth_methods_supported": ["client_secret_post"]}
    assert (await sign_in(oidc)).username == "ada"


async def test_a_wrong_secret_is_the_operators_affair(fake: FakeOpenIdProvider):
    with pytest.raises(SignInRefused, match="Ask an administrator"):
        await sign_in_with(config(fake, client_secret="wrong"))


async def test_the_session_ends_at_the_provider_too(fake: FakeOpenIdProvider, oidc: RedirectProvider):
    url = await oidc.logout_url("https://gateway.example.org/", "ada")
    assert url is not None
    assert parse_qs(urlsplit(url).query) == {
        "client_id": [CLIENT_ID],
        "post_logout_redirect_uri": ["https://gateway.example.org/"],
        "logout_hint": ["ada"],
    }


async def test_a_provider_without_logout_has_no_place_for_it(fake: FakeOpenIdProvider, oidc: RedirectProvider):
    async with opened(config(fake, logout=False)) as providers:
        assert await providers.redirect("oidc").logout_url("https://gateway.example.org/") is None
    fake.metadata_changes = {"end_session_endpoint": None}
    assert await oidc.logout_url("https://gateway.example.org/") is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"issuer": "http://login.example.org"}, "https"),
        ({"issuer": "https://login.example.org?x=1"}, "query"),
        ({"issuer": "login.example.org"}, "https"),
        ({"client_id": ""}, "client_id"),
        ({"scopes": ("email",)}, "openid"),
        ({"algorithms": ("HS256",)}, "algorithms"),
        ({"algorithms": ()}, "algorithms"),
        ({"timeout": 0}, "timeout"),
    ],
)
def test_a_configuration_that_cannot_work_is_refused(options: dict[str, Any], message: str):
    with pytest.raises(InvalidProviderConfig, match=message):
        replace(OidcConfig("https://login.example.org", CLIENT_ID), **options)
