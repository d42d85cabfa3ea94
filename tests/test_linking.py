"""Linking an identity provider to who is signed in, unlinking it, and how either is abused."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from sqlalchemy import select, update

from db.clock import now
from db.tables import AuditEvent, ExternalAccount, LoginFlow, Session, User
from tests.support.databases import SqliteDatabases
from tests.support.gateways import PASSWORD, Json, RunningGateway
from tests.support.identity.browser import Browser
from tests.support.identity.browsing import ADA
from tests.support.identity.openid import (
    FakeOpenIdProvider,
    gateway_with_providers,
    running_openid_provider,
)

UNLINK = """mutation($input: UnlinkProviderInput!) { unlinkProvider(input: $input) {
  ... on UnlinkProviderSuccess { user { externalAccounts { provider } } } ... on UserError { code message }
} }"""
ACCOUNTS = "{ me { externalAccounts { provider label username linkedAt lastSignedInAt } } }"
REFRESH = """mutation { refreshSession(input: {}) { ... on RefreshSessionSuccess { accessToken } } }"""


@pytest.fixture(scope="module")
async def provider() -> AsyncIterator[FakeOpenIdProvider]:
    async with running_openid_provider() as provider:
        yield provider


@pytest.fixture(scope="module")
async def shared_gateway(
    sqlite_databases: SqliteDatabases, tmp_path_factory: pytest.TempPathFactory, provider: FakeOpenIdProvider
) -> AsyncIterator[RunningGateway]:
    """A gateway with two providers: GitHub's place is taken by a server that is never asked."""
    folder = tmp_path_factory.mktemp("linking")
    async with gateway_with_providers(
        sqlite_databases, folder, provider.url, provider.url, provider_max_pending=5
    ) as gateway:
        yield gateway


@pytest.fixture
async def gateway(emptied_gateway: RunningGateway, provider: FakeOpenIdProvider) -> RunningGateway:
    provider.person, provider.changes, provider.broken = dict(ADA), {}, {}
    await emptied_gateway.make_user("grace")
    return emptied_gateway


@pytest.fixture
async def browser(gateway: RunningGateway) -> AsyncIterator[Browser]:
    """The browser of Grace, who has signed in with her password."""
    async with Browser(gateway) as browser:
        await browser.log_in("grace", PASSWORD)
        yield browser


async def accounts(gateway: RunningGateway) -> list[tuple[str, str]]:
    """Which user has which subject."""
    async with gateway.database.reading() as session:
        rows = await session.execute(
            select(User.username, ExternalAccount.subject).join(User, User.id == ExternalAccount.user_id)
        )
        return [(name, subject.rpartition("#")[2]) for name, subject in rows]


async def age_sessions(gateway: RunningGateway) -> None:
    """Let everybody have signed in an hour ago."""
    async with gateway.database.transaction() as tx:
        await tx.execute(update(Session).values(created_at=now() - timedelta(hours=1)))


async def code(browser: Browser, **input: str) -> str:
    return (await browser.run(UNLINK, {"input": {"provider": "oidc", **input}}))["code"]


async def test_a_provider_is_linked_and_signs_in_the_same_person(gateway: RunningGateway, browser: Browser):
    response = await browser.linked()
    assert (response.status_code, response.headers["location"]) == (302, "/#account")
    assert "ollagraph_session" not in str(response.headers.get_list("set-cookie"))
    assert await accounts(gateway) == [("grace", "248289761001")]
    [account] = (await browser.run(ACCOUNTS))["externalAccounts"]
    assert (account["provider"], account["label"], account["username"]) == ("oidc", "Single sign-on", "ada")
    assert account["lastSignedInAt"] is None
    async with Browser(gateway) as other:
        await other.sign_in()
        other.token = (await other.run(REFRESH))["accessToken"]
        [account] = (await other.run(ACCOUNTS))["externalAccounts"]
        assert account["lastSignedInAt"] is not None
        assert await other.run("{ me { username } }") == {"username": "grace"}
    async with gateway.database.reading() as session:
        own = select(AuditEvent).where(AuditEvent.action == "linkProvider").order_by(AuditEvent.id.desc())
        event = (await session.scalars(own)).first()
    assert event is not None
    assert (event.outcome, event.actor, event.details) == ("SUCCESS", "grace", {"provider": "oidc"})


async def test_linking_once_more_changes_nothing(gateway: RunningGateway, browser: Browser):
    await browser.linked()
    assert (await browser.linked()).headers["location"] == "/#account"
    assert await accounts(gateway) == [("grace", "248289761001")]


async def test_an_account_of_another_user_is_not_linked(gateway: RunningGateway, browser: Browser):
    async with Browser(gateway) as other:
        await other.sign_in()
    assert (await browser.linked()).headers["location"] == "/#link-error=taken"
    assert await accounts(gateway) == [("ada", "248289761001")]


async def test_a_second_account_at_one_provider_is_not_linked(
    gateway: RunningGateway, browser: Browser, provider: FakeOpenIdProvider
):
    await browser.linked()
    provider.changes = {"sub": "another"}
    assert (await browser.linked()).headers["location"] == "/#link-error=already-linked"
    assert await accounts(gateway) == [("grace", "248289761001")]


async def test_a_victim_cannot_be_made_to_give_their_provider_account_away(gateway: RunningGateway, browser: Browser):
    """The attacker begins to link, and sends the victim, who is signed in at the provider, the rest of the way."""
    url = (await browser.link())["url"]
    async with Browser(gateway) as victim:
        back = await victim.back_from(url)
        assert (await victim.client.get(back)).headers["location"] == "/#sign-in-error=untrusted"
        await victim.start()
        back = await victim.back_from((await browser.link())["url"])
        assert (await victim.client.get(back)).headers["location"] == "/#sign-in-error=untrusted"
    assert await accounts(gateway) == []


async def test_a_victim_cannot_be_made_to_take_the_attacker_s_provider_account(
    gateway: RunningGateway, browser: Browser
):
    """The attacker stops before the last step of their own sign-in, and sends the victim there."""
    async with Browser(gateway) as attacker:
        back = await attacker.at_provider()
        await browser.link()
        assert (await browser.client.get(back)).headers["location"] == "/#sign-in-error=untrusted"
    assert await accounts(gateway) == []


async def test_a_page_of_another_site_links_nothing(gateway: RunningGateway, browser: Browser):
    headers = {"authorization": f"Bearer {browser.token}", "origin": "https://evil.example"}
    query = 'mutation { linkProvider(input: {provider: "oidc"}) { __typename } }'
    response = await browser.client.post("/graphql", json={"query": query}, headers=headers)
    assert response.json()["errors"][0]["extensions"]["code"] == "FORBIDDEN"
    assert "set-cookie" not in response.headers


async def test_an_answer_of_one_provider_does_not_link_another(gateway: RunningGateway, browser: Browser):
    back = await browser.back_from((await browser.link())["url"])
    response = await browser.client.get(back.replace("/oidc/", "/github/"))
    assert response.headers["location"] == "/#sign-in-error=untrusted"
    assert await accounts(gateway) == []


@pytest.mark.parametrize("end", ["mutation { logout(input: {}) { __typename } }", "disabled"])
async def test_a_session_that_has_ended_links_nothing(gateway: RunningGateway, browser: Browser, end: str):
    back = await browser.back_from((await browser.link())["url"])
    if end == "disabled":
        async with gateway.database.transaction() as tx:
            await tx.execute(update(User).where(User.username == "grace").values(disabled_at=now()))
    else:
        await browser.run(end)
    assert (await browser.client.get(back)).headers["location"] == "/#link-error=session-ended"
    assert await accounts(gateway) == []


async def test_an_old_sign_in_needs_the_password_once_more(gateway: RunningGateway, browser: Browser):
    await age_sessions(gateway)
    assert (await browser.link())["code"] == "RECENT_SIGN_IN_REQUIRED"
    assert (await browser.link(currentPassword="wrong"))["code"] == "INVALID_CREDENTIALS"
    assert (await browser.link(currentPassword=PASSWORD))["url"]


async def test_an_api_key_and_an_unknown_provider_link_nothing(gateway: RunningGateway, browser: Browser):
    assert (await browser.link("nobody"))["code"] == "NOT_FOUND"
    assert (await browser.link("password"))["code"] == "NOT_FOUND"
    assert (await browser.link(returnTo="//evil.example"))["code"] == "INVALID_INPUT"
    gateway.token = None
    await gateway.sign_in("grace", PASSWORD)
    browser.token = (await gateway.make_key(scopes=["PROFILE_WRITE"]))["secret"]
    assert (await browser.link())["code"] == "UNSUPPORTED"


async def test_a_provider_is_unlinked_and_its_sessions_end(gateway: RunningGateway, browser: Browser):
    await browser.linked()
    async with Browser(gateway) as other:
        await other.sign_in()
        unlinked = await browser.run(UNLINK, {"input": {"provider": "oidc"}})
        assert unlinked == {"user": {"externalAccounts": []}}
        assert await other.run(REFRESH) == {}
    assert await code(browser) == "NOT_FOUND"
    assert await browser.run("{ me { username } }") == {"username": "grace"}


async def test_the_last_way_to_sign_in_stays(gateway: RunningGateway):
    async with Browser(gateway) as browser:
        await browser.sign_in()
        browser.token = (await browser.run(REFRESH))["accessToken"]
        assert await code(browser) == "LAST_SIGN_IN_METHOD"
        async with gateway.database.transaction() as tx:
            [user] = await tx.scalars(select(User).where(User.username == "ada"))
            tx.add(ExternalAccount(provider="gone", subject="1", user_id=user.id, username="a"))
        assert await code(browser) == "LAST_SIGN_IN_METHOD"  # that provider is not configured any more
        async with gateway.database.transaction() as tx:
            tx.add(ExternalAccount(provider="github", subject="1", user_id=user.id, username="a"))
        assert "user" in await browser.run(UNLINK, {"input": {"provider": "oidc"}})


async def test_an_administrator_sees_and_unlinks_the_accounts_of_others(gateway: RunningGateway, browser: Browser):
    await browser.linked()
    users = '{ users(filter: {search: "grace"}) { nodes { id externalAccounts { provider } } } }'
    [grace] = (await gateway.run(users))["users"]["nodes"]
    assert grace["externalAccounts"] == [{"provider": "oidc"}]
    admin = await gateway.run("{ me { id } }")
    with pytest.raises(AssertionError, match="USERS_WRITE"):
        await code(browser, userId=admin["me"]["id"])
    unlinked: Json = await gateway.run(UNLINK, {"input": {"provider": "oidc", "userId": grace["id"]}})
    assert unlinked["unlinkProvider"] == {"user": {"externalAccounts": []}}
    assert await accounts(gateway) == []


async def test_strangers_of_one_address_begin_a_few_sign_ins_alone(gateway: RunningGateway, browser: Browser):
    begun = [await browser.start() for _ in range(5)]
    assert {it.status_code for it in begun} == {302}
    refused = await browser.start()
    assert (refused.status_code, refused.json()["errors"][0]["extensions"]["code"]) == (429, "LIMIT_EXCEEDED")
    assert 540 < int(refused.headers["retry-after"]) <= 600
    assert (await browser.link())["code"] == "LIMIT_EXCEEDED"
    async with gateway.database.transaction() as tx:
        await tx.execute(update(LoginFlow).values(address="192.0.2.1"))
    assert (await browser.start()).status_code == 302
