"""Sign-in with GitHub, which has OAuth without OpenID Connect."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from auth.providers import (
    ExternalIdentity,
    GitHubConfig,
    InvalidProviderConfig,
    ProviderUnavailable,
    RedirectProvider,
    RefusalReason,
    RoleMapping,
    SignInRefused,
    build_providers,
)
from tests.support.identity.browsing import BACK, browse, sign_in
from tests.support.identity.github import FakeGitHub, running_github


@pytest.fixture
async def fake() -> AsyncIterator[FakeGitHub]:
    async with running_github() as fake:
        yield fake


@pytest.fixture
async def github(fake: FakeGitHub) -> AsyncIterator[RedirectProvider]:
    roles = RoleMapping((("acme/OPS", "ADMIN"), ("Acme", "USER")), required=True)
    providers = build_providers([GitHubConfig("id", "secret", url=fake.url, roles=roles)])
    yield providers.redirect("github")
    await providers.aclose()


async def test_a_person_is_known_by_their_number(github: RedirectProvider):
    assert await sign_in(github) == ExternalIdentity(
        "github", "583231", "ada", "ada@example.org", True, "Ada Lovelace", frozenset(["Acme", "Acme/ops"]), "ADMIN"
    )


async def test_all_pages_of_a_list_count(fake: FakeGitHub, github: RedirectProvider):
    fake.lists["user/orgs"] = [{"login": f"org-{number}"} for number in range(150)] + [{"login": "Acme"}]
    fake.lists["user/teams"] = []
    identity = await sign_in(github)
    assert (len(identity.groups), identity.role) == (151, "USER")


async def test_lists_that_are_not_granted_are_empty(fake: FakeGitHub, github: RedirectProvider):
    fake.forbidden = {"user/emails", "user/teams"}
    identity = await sign_in(github)
    assert (identity.email, identity.email_verified, identity.groups) == (None, False, {"Acme"})


async def test_who_is_in_no_group_with_a_role_is_refused(fake: FakeGitHub, github: RedirectProvider):
    fake.lists |= {"user/orgs": [], "user/teams": []}
    with pytest.raises(SignInRefused, match="no access here"):
        await sign_in(github)


@pytest.mark.parametrize("user", [{"login": "ada"}, {"id": True, "login": "ada"}, {"id": "1", "login": "ada"}])
async def test_a_user_without_a_number_is_refused(fake: FakeGitHub, github: RedirectProvider, user: object):
    fake.user = user
    with pytest.raises(SignInRefused):
        await sign_in(github)


async def test_a_user_that_is_no_object_makes_it_unavailable(fake: FakeGitHub, github: RedirectProvider):
    fake.user = []
    with pytest.raises(ProviderUnavailable):
        await sign_in(github)


async def test_an_error_with_status_200_is_an_error(github: RedirectProvider):
    started = await github.begin(BACK)
    answer = await browse(started.url)
    with pytest.raises(SignInRefused, match="Start it again") as refusal:
        await github.finish(started.pending, {**answer, "code": "another"})
    assert refusal.value.reason is RefusalReason.EXPIRED


@pytest.mark.parametrize("changes", [{"state": "another"}, {"iss": "https://evil.example.org"}])
async def test_an_answer_of_another_attempt_or_provider_is_refused(github: RedirectProvider, changes: dict[str, str]):
    started = await github.begin(BACK)
    with pytest.raises(SignInRefused, match="could not be verified"):
        await github.finish(started.pending, {**await browse(started.url), **changes})


async def test_there_is_no_logout(github: RedirectProvider):
    assert await github.logout_url(BACK) is None


@pytest.mark.parametrize("options", [{"client_secret": ""}, {"url": "http://github.example.org"}, {"timeout": -1}])
def test_a_configuration_that_cannot_work_is_refused(options: dict[str, object]):
    with pytest.raises(InvalidProviderConfig):
        replace(GitHubConfig("id", "secret"), **options)
