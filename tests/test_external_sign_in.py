"""Sign-in with OpenID Connect from the first address to the session: whose account it is, and how one is stolen."""

from collections.abc import AsyncIterator, Iterator
from http.cookies import SimpleCookie
from pathlib import Path
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

import anyio
import httpx
import pytest
from sqlalchemy import select, update
from starlette.responses import PlainTextResponse

from auth.providers import ExternalIdentity
from db.clock import now
from db.engine import Database
from db.tables import AuditEvent, ExternalAccount, LoginFlow, Session, User
from gateway.identity import KnownCallers
from gateway.identity.external import ExternalAccounts, SignUp
from tests.support.databases import SqliteDatabases
from tests.support.gateways import RunningGateway, gateway_settings, running_gateway
from tests.support.identity.browser import Browser
from tests.support.identity.browsing import ADA
from tests.support.identity.openid import (
    CLIENT_ID,
    FakeOpenIdProvider,
    gateway_with_providers,
    running_openid_provider,
)
from tests.support.identity.real_provider import running_real_provider
from tests.test_audit import until

SESSION, FLOW = "ollagraph_session", "ollagraph_sign_in"
REFRESH = (
    """mutation { refreshSession(input: {}) { ... on RefreshSessionSuccess { accessToken session { provider } } } }"""
)

LOGOUT = "mutation { logout(input: {}) { ... on LogoutSuccess { logoutUrl } } }"


@pytest.fixture(scope="module")
def real_provider() -> Iterator[str]:
    with running_real_provider(sub="u-1", **ADA) as url:
        yield url


@pytest.fixture(scope="module")
async def provider() -> AsyncIterator[FakeOpenIdProvider]:
    async with running_openid_provider() as provider:
        yield provider


@pytest.fixture(scope="module")
async def shared_gateway(
    sqlite_databases: SqliteDatabases,
    tmp_path_factory: pytest.TempPathFactory,
    provider: FakeOpenIdProvider,
    real_provider: str,
) -> AsyncIterator[RunningGateway]:
    """A gateway with two providers: GitHub's place is taken by a server that is never asked."""
    folder = tmp_path_factory.mktemp("oidc")
    async with gateway_with_providers(
        sqlite_databases, folder, provider.url, real_provider, oidc_roles={"ops": "admin", "a": "developer"}
    ) as gateway:
        yield gateway


@pytest.fixture
async def gateway(emptied_gateway: RunningGateway, provider: FakeOpenIdProvider) -> RunningGateway:
    provider.person, provider.answer_changes, provider.broken = dict(ADA), {}, {}
    return emptied_gateway


async def signed_in(gateway: RunningGateway, return_to: str = "/") -> httpx.Response:
    async with Browser(gateway) as browser:
        return await browser.sign_in(return_to)


def problem(response: httpx.Response) -> str:
    """The code that a sign-in that came to nothing leads to; no session comes with it."""
    assert response.status_code == 302
    assert SESSION not in response.headers.get("set-cookie", "")
    path, _, code = response.headers["location"].partition("#sign-in-error=")
    assert path.startswith("/")
    return code


async def users(gateway: RunningGateway) -> dict[str, str]:
    """The role of everybody but the administrator."""
    async with gateway.database.reading() as session:
        found = await session.scalars(select(User).where(User.username != "admin"))
        return {user.username: user.role for user in found}


async def test_a_person_signs_in_at_a_real_provider(
    sqlite_url: str, tmp_path: Path, real_provider: str, gateway: RunningGateway
):
    settings = gateway_settings(
        tmp_path, sqlite_url, None, oidc_issuer=real_provider, oidc_client_id=CLIENT_ID, oidc_client_secret="any"
    )
    async with running_gateway(settings, gateway.fake) as own, Browser(own) as browser:
        response = await browser.sign_in("/#graphiql", sub="u-1")
        assert response.headers["location"] == "/#graphiql"
        answer = await browser.client.post("/graphql", json={"query": REFRESH})
        refreshed = answer.json()["data"]["refreshSession"]
        assert refreshed["session"]["provider"] == "oidc"
        own.token = refreshed["accessToken"]
        assert (await own.run("{ me { username role } }"))["me"] == {"username": "ada", "role": "user"}


async def test_the_session_is_in_the_cookie_that_login_sets(gateway: RunningGateway):
    response = await signed_in(gateway)
    cookies = SimpleCookie()
    for line in response.headers.get_list("set-cookie"):
        cookies.load(line)
    assert cookies[SESSION].value.startswith("olr_")
    assert (cookies[SESSION]["samesite"], cookies[SESSION]["httponly"], cookies[SESSION]["path"]) == (
        "Strict",
        True,
        "/",
    )
    assert (cookies[FLOW]["max-age"], cookies[FLOW].value) == ("0", "")
    assert response.headers["cache-control"] == "no-store"


async def test_the_way_out_has_a_cookie_that_comes_back_from_another_site(gateway: RunningGateway):
    async with Browser(gateway) as browser:
        response = await browser.start()
    value, *attributes = response.headers["set-cookie"].split("; ")
    assert value.startswith(f"{FLOW}=olb_")
    assert sorted(attributes) == ["HttpOnly", "Max-Age=600", "Path=/", "SameSite=Lax"]
    asked = parse_qs(urlsplit(response.headers["location"]).query)
    assert asked["redirect_uri"] == [f"{gateway.url}/auth/oidc/callback"]


async def test_the_same_person_gets_the_same_account_whatever_their_name_is_now(
    gateway: RunningGateway, provider: FakeOpenIdProvider
):
    await signed_in(gateway)
    provider.person |= {"preferred_username": "ada.l", "email": "new@example.org"}
    await signed_in(gateway)
    assert await users(gateway) == {"ada": "developer"}
    async with gateway.database.reading() as session:
        [account] = await session.scalars(select(ExternalAccount))
    assert account.username == "ada.l"


@pytest.mark.parametrize("field", ["preferred_username", "email"])
async def test_a_name_or_an_email_takes_over_no_account(
    gateway: RunningGateway, provider: FakeOpenIdProvider, field: str
):
    await gateway.make_user("ada")
    async with gateway.database.transaction() as tx:
        await tx.execute(update(User).where(User.username == "ada").values(email="ada@example.org"))
    provider.person |= {"preferred_username": "eve"} if field == "email" else {"email": None}
    await signed_in(gateway)
    assert await users(gateway) == {"ada": "developer", "eve" if field == "email" else "ada-2": "developer"}


@pytest.mark.parametrize(
    ("name", "made"),
    [("Ada Lovelace", "ada-lovelace"), ("ADMIN", "admin-2"), ("ада", "user"), ("x" * 80, "x" * 64), ("..a..", "a")],
)
async def test_a_user_name_is_made_of_what_the_provider_says(
    gateway: RunningGateway, provider: FakeOpenIdProvider, name: str, made: str
):
    provider.person["preferred_username"] = name
    await signed_in(gateway)
    assert list(await users(gateway)) == [made]


async def test_a_role_comes_and_goes_with_the_groups(gateway: RunningGateway, provider: FakeOpenIdProvider):
    for groups, role in ((["a"], "developer"), (["a", "ops"], "admin"), (["b"], "user"), (["ops"], "admin")):
        provider.person["groups"] = groups
        await signed_in(gateway)
        assert await users(gateway) == {"ada": role}


async def test_the_last_administrator_stays_one(gateway: RunningGateway, provider: FakeOpenIdProvider):
    provider.person["groups"] = ["ops"]
    await signed_in(gateway)
    async with gateway.database.transaction() as tx:
        await tx.execute(update(User).where(User.username == "admin").values(role="developer"))
    provider.person["groups"] = []
    try:
        await signed_in(gateway)
        assert await users(gateway) == {"ada": "admin"}
    finally:
        async with gateway.database.transaction() as tx:
            await tx.execute(update(User).where(User.username == "admin").values(role="admin"))


async def test_who_is_disabled_does_not_get_in(gateway: RunningGateway):
    await signed_in(gateway)
    async with gateway.database.transaction() as tx:
        await tx.execute(update(User).where(User.username == "ada").values(disabled_at=now()))
    assert problem(await signed_in(gateway)) == "disabled"


async def test_a_callback_counts_once(gateway: RunningGateway):
    async with Browser(gateway) as browser:
        back = await browser.at_provider()
        cookies = dict(browser.client.cookies)
        await browser.client.get(back)
        browser.client.cookies.update(cookies)
        assert problem(await browser.client.get(back)) == "expired"


async def test_a_link_that_somebody_else_began_signs_nobody_in(gateway: RunningGateway):
    """Login CSRF: the victim would work in the account of who sent the link."""
    async with Browser(gateway) as attacker, Browser(gateway) as victim:
        back = await attacker.at_provider()
        assert problem(await victim.client.get(back)) == "untrusted"
        assert problem(await attacker.client.get(back)) == "expired"
        other = await attacker.at_provider()
        await victim.start()
        assert problem(await victim.client.get(other)) == "untrusted"


async def test_two_tabs_of_one_browser_can_sign_in(gateway: RunningGateway):
    async with Browser(gateway) as browser:
        first, second = await browser.at_provider(), await browser.at_provider()
        cookies = dict(browser.client.cookies)
        assert SESSION in (await browser.client.get(first)).headers["set-cookie"]
        browser.client.cookies.update(cookies)
        assert SESSION in (await browser.client.get(second)).headers["set-cookie"]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"state": "made up"}, "expired"),
        ({"state": ""}, "expired"),
        ({"iss": "https://evil.example"}, "untrusted"),
        ({"code": "made up"}, "expired"),
        ({"error": "access_denied", "error_description": "<script>alert(1)</script>"}, "cancelled"),
        ({"error": "<script>"}, "untrusted"),
    ],
    ids=str,
)
async def test_an_answer_that_is_not_the_provider_s_is_refused(
    gateway: RunningGateway, change: dict[str, str], code: str
):
    async with Browser(gateway) as browser:
        back = urlsplit(await browser.at_provider())
        query = dict(parse_qsl(back.query)) | change
        response = await browser.client.get(back._replace(query=urlencode(query)).geturl())
    assert problem(response) == code
    assert "script" not in str(response.headers) + response.text
    assert await users(gateway) == {}


async def test_a_parameter_that_comes_twice_is_refused(gateway: RunningGateway):
    async with Browser(gateway) as browser:
        back = await browser.at_provider()
        assert problem(await browser.client.get(f"{back}&code=another")) == "untrusted"


async def test_an_answer_of_one_provider_does_not_count_at_another_s_address(gateway: RunningGateway):
    async with Browser(gateway) as browser:
        back = await browser.at_provider()
        assert problem(await browser.client.get(back.replace("/oidc/", "/github/"))) == "untrusted"


async def test_a_sign_in_that_takes_too_long_is_over(gateway: RunningGateway):
    async with Browser(gateway) as browser:
        back = await browser.at_provider()
        async with gateway.database.transaction() as tx:
            await tx.execute(update(LoginFlow).values(expires_at=now()))
        assert problem(await browser.client.get(back)) == "expired"


@pytest.mark.parametrize(
    "return_to",
    [
        *("//evil.example", "/\\evil.example", "https://evil.example", "\\\\evil.example", "", "evil", "/a\\b"),
        *("/\t/evil", "/\n/evil.example", " //evil.example", "javascript:alert(1)", "/\r\nSet-Cookie: a=b"),
        *("/" + "x" * 2000, "/ä"),
    ],
)
async def test_a_sign_in_ends_on_this_site_alone(gateway: RunningGateway, return_to: str):
    async with Browser(gateway) as browser:
        response = await browser.start(return_to)
    assert (response.status_code, response.headers.get("set-cookie")) == (400, None)
    assert "returnTo" in response.json()["errors"][0]["message"]


@pytest.mark.parametrize("return_to", ["/", "/#try-it", "/a/b?c=//d&e=f#g"])
async def test_a_sign_in_ends_where_it_was_to_end(gateway: RunningGateway, return_to: str):
    assert (await signed_in(gateway, return_to)).headers["location"] == return_to


@pytest.mark.parametrize("place", ["start", "callback"])
async def test_an_unknown_provider_is_not_found(gateway: RunningGateway, place: str):
    response = await gateway.client.get(f"/auth/nobody/{place}")
    assert (response.status_code, response.json()["errors"][0]["extensions"]["code"]) == (404, "NOT_FOUND")


async def test_a_provider_that_is_down_is_told(gateway: RunningGateway, provider: FakeOpenIdProvider):
    provider.broken = {"/token": PlainTextResponse("down", 503)}
    assert problem(await signed_in(gateway, "/?a=b#c")) == "unavailable"


async def test_sign_ins_and_refusals_are_in_the_audit_log(gateway: RunningGateway):
    await signed_in(gateway)
    async with Browser(gateway) as browser:
        await browser.client.get("/auth/github/callback?state=x")

    async def last_two() -> list[AuditEvent]:
        async with gateway.database.reading() as session:
            own = select(AuditEvent).where(AuditEvent.action == "login", AuditEvent.details.is_not(None))
            return list(await session.scalars(own.order_by(AuditEvent.id.desc()).limit(2)))

    rows = await until(last_two, lambda found: found[0].outcome == "REFUSED")
    async with gateway.database.reading() as session:
        [user] = await session.scalars(select(User).where(User.username == "ada"))
        [began] = await session.scalars(select(Session).where(Session.user_id == user.id))
    refused, success = rows
    assert (success.action, success.outcome, success.actor, success.target_id) == (
        "login",
        "SUCCESS",
        "ada",
        str(user.id),
    )
    assert (refused.action, refused.outcome, refused.code) == ("login", "REFUSED", "EXPIRED")
    assert (success.details, refused.details) == ({"provider": "oidc"}, {"provider": "github"})
    assert began.provider == "oidc"


async def test_signing_out_leads_to_the_provider_where_the_session_began(gateway: RunningGateway):
    async with Browser(gateway) as browser:
        await browser.sign_in()
        browser.token = (await browser.run(REFRESH))["accessToken"]
        url = urlsplit((await browser.run(LOGOUT))["logoutUrl"])
    assert parse_qs(url.query) == {
        "client_id": [CLIENT_ID],
        "post_logout_redirect_uri": [f"{gateway.url}/"],
        "logout_hint": ["ada"],
    }
    assert (await gateway.run(LOGOUT))["logout"] == {"logoutUrl": None}


async def test_the_ways_to_sign_in_are_told_to_anybody(gateway: RunningGateway):
    gateway.token = None
    options = (await gateway.run("{ signInOptions { name label kind startUrl } }"))["signInOptions"]
    assert options == [
        {"name": "password", "label": "Password", "kind": "PASSWORD", "startUrl": None},
        {"name": "oidc", "label": "Single sign-on", "kind": "REDIRECT", "startUrl": "/auth/oidc/start"},
        {"name": "github", "label": "GitHub", "kind": "REDIRECT", "startUrl": "/auth/github/start"},
    ]


async def test_first_sign_ins_at_once_make_one_user(postgresql_url: str):
    database = Database(postgresql_url, pool_size=8)
    accounts = ExternalAccounts(database, KnownCallers(database, 0), SignUp(True, "user"))
    found: list[User] = []

    async def sign_in(number: int) -> None:
        found.append(await accounts.user_of(ExternalIdentity("oidc", f"s-{number % 2}", "ada")))

    try:
        async with anyio.create_task_group() as tasks:
            for number in range(8):
                tasks.start_soon(sign_in, number)
        assert len({user.id for user in found}) == 2
        assert {user.username for user in found} == {"ada", "ada-2"}
    finally:
        await database.close()


async def test_without_sign_up_only_those_who_are_known_get_in(database: Database):
    known = KnownCallers(database, 0)
    ada = ExternalIdentity("oidc", "s" * 400, "ada", role="developer")
    user = await ExternalAccounts(database, known, SignUp(True, "user")).user_of(ada)
    closed = ExternalAccounts(database, known, SignUp(False, "user"))
    assert (await closed.user_of(ada)).id == user.id
    with pytest.raises(Exception, match="no account here"):
        await closed.user_of(ExternalIdentity("oidc", "s" * 399, "bob"))
