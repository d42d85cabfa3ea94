"""Sign-in with passwords that others verify: a real directory, and a package of somebody else's, through `login`."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from passlib.hash import argon2
from sqlalchemy import select, update

from db.clock import now
from db.tables import ExternalAccount, LoginAttempts, User
from server.settings import SettingsError
from server.sign_in import make_providers
from tests.support.databases import SqliteDatabases
from tests.support.fake_model_server import running_fake_model_server
from tests.support.gateways import PASSWORD as OWN_PASSWORD
from tests.support.gateways import Json, RunningGateway, gateway_settings, running_gateway
from tests.support.identity.browser import Browser
from tests.support.identity.directory import (
    ADA_ID,
    ADMINS,
    BASE,
    PASSWORD,
    SERVICE,
    SERVICE_PASSWORD,
    Directory,
    running_directory,
)
from tests.support.identity.example_package import installed_example

pytest.importorskip("ldap", reason="needs python-ldap: the extra 'ldap'")

LOGIN = """mutation($input: LoginInput!) { login(input: $input) {
  ... on LoginSuccess { user { username role } session { provider } } ... on UserError { __typename message code }
} }"""

EVE = "a password of eve's"


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Directory]:
    with running_directory(tmp_path_factory.mktemp("slapd")) as directory:
        yield directory


@pytest.fixture(scope="module")
async def shared_gateway(
    sqlite_databases: SqliteDatabases, tmp_path_factory: pytest.TempPathFactory, directory: Directory
) -> AsyncIterator[RunningGateway]:
    """A gateway that asks a directory first, and then the example's file of passwords."""
    folder = tmp_path_factory.mktemp("passwords")
    hashed = argon2.using(time_cost=1, memory_cost=64, parallelism=1).hash(EVE)
    (folder / "users").write_text(f"7:eve:{hashed}:ops\n")
    with sqlite_databases.fresh(folder) as url, installed_example(tmp_path_factory):
        async with running_fake_model_server() as fake:
            settings = gateway_settings(
                folder,
                url,
                fake.url,
                ldap_url=directory.url,
                ldap_base=BASE,
                ldap_bind_dn=SERVICE,
                ldap_bind_password=SERVICE_PASSWORD,
                ldap_roles={ADMINS: "developer"},
                ldap_timeout=2,
                providers={"htpasswd": {"file": str(folder / "users"), "admins": "ops"}},
                login_max_failures=3,
            )
            async with running_gateway(settings, fake) as gateway:
                yield gateway


@pytest.fixture
def gateway(emptied_gateway: RunningGateway) -> RunningGateway:
    emptied_gateway.token = None
    return emptied_gateway


async def login(gateway: RunningGateway, username: str, password: str) -> Json:
    return (await gateway.run(LOGIN, {"input": {"username": username, "password": password}}))["login"]


def of(username: str, role: str, provider: str) -> Json:
    return {"user": {"username": username, "role": role}, "session": {"provider": provider}}


async def code(gateway: RunningGateway, username: str, password: str) -> str:
    return (await login(gateway, username, password))["code"]


async def users(gateway: RunningGateway) -> set[str]:
    async with gateway.database.reading() as session:
        return set(await session.scalars(select(User.username)))


async def test_a_person_of_the_directory_signs_in_and_is_the_same_next_time(gateway: RunningGateway):
    assert await login(gateway, " ADA ", PASSWORD) == of("ada", "developer", "ldap")
    assert await login(gateway, "ada", PASSWORD) == of("ada", "developer", "ldap")
    assert await users(gateway) == {"admin", "ada"}
    async with gateway.database.reading() as session:
        [account] = await session.scalars(select(ExternalAccount))
    assert (account.provider, account.subject) == ("ldap", ADA_ID)


async def test_a_package_of_somebody_else_s_signs_people_in(gateway: RunningGateway):
    assert await login(gateway, "eve", EVE) == of("eve", "admin", "htpasswd")
    assert await code(gateway, "eve", PASSWORD) == "INVALID_CREDENTIALS"


@pytest.mark.parametrize("password", ["wrong", "", "\0", OWN_PASSWORD])
async def test_what_is_wrong_signs_nobody_in(gateway: RunningGateway, password: str):
    assert await code(gateway, "ada", password) == "INVALID_CREDENTIALS"
    assert await code(gateway, "nobody", password) == "INVALID_CREDENTIALS"
    assert await users(gateway) == {"admin"}


async def test_an_account_with_a_password_here_is_not_the_directory_s(gateway: RunningGateway):
    """The administrator's name in a directory must not be the administrator."""
    await gateway.make_user("ada")
    assert await code(gateway, "ada", PASSWORD) == "INVALID_CREDENTIALS"
    assert (await login(gateway, "ada", OWN_PASSWORD))["session"] == {"provider": "password"}


async def test_an_account_of_the_directory_has_no_password_here(gateway: RunningGateway):
    await login(gateway, "ada", PASSWORD)
    other = await gateway.make_user("other")
    async with gateway.database.transaction() as tx:
        await tx.execute(update(User).where(User.username == "ada").values(password_hash=other.password_hash))
    assert await code(gateway, "ada", OWN_PASSWORD) == "INVALID_CREDENTIALS"
    assert "session" in await login(gateway, "ada", PASSWORD)


async def test_an_account_with_another_name_asks_by_the_directory_s(gateway: RunningGateway):
    await login(gateway, "ada", PASSWORD)
    async with gateway.database.transaction() as tx:
        await tx.execute(update(User).where(User.username == "ada").values(username="countess"))
    assert (await login(gateway, "countess", PASSWORD))["user"]["username"] == "countess"
    assert await users(gateway) == {"admin", "countess"}


async def test_who_is_disabled_does_not_get_in(gateway: RunningGateway):
    await login(gateway, "ada", PASSWORD)
    async with gateway.database.transaction() as tx:
        await tx.execute(update(User).where(User.username == "ada").values(disabled_at=now()))
    assert await code(gateway, "ada", PASSWORD) == "INVALID_CREDENTIALS"


async def test_guesses_at_the_directory_are_counted_and_locked_as_here(gateway: RunningGateway):
    codes = [await code(gateway, "ada", "wrong") for _ in range(4)]
    assert codes == ["INVALID_CREDENTIALS"] * 3 + ["ACCOUNT_LOCKED"]
    assert await code(gateway, "ada", PASSWORD) == "ACCOUNT_LOCKED"


async def test_a_directory_that_is_down_locks_nobody_and_the_administrator_gets_in(
    gateway: RunningGateway, directory: Directory
):
    assert "session" in await login(gateway, "ada", PASSWORD)
    directory.stop()
    try:
        answers = [await login(gateway, "ada", PASSWORD) for _ in range(5)]
        assert {(it["code"], it["message"]) for it in answers} == {
            ("PROVIDER_UNAVAILABLE", "The identity provider 'ldap' cannot be reached. Try again in a moment.")
        }
        assert "session" in await login(gateway, "admin", OWN_PASSWORD)
        assert "session" in await login(gateway, "eve", EVE)
    finally:
        directory.start()
    async with gateway.database.reading() as session:
        assert {it.failures for it in await session.scalars(select(LoginAttempts)) if it.username == "ada"} == {0}
    assert "session" in await login(gateway, "ada", PASSWORD)


async def test_what_one_provider_denied_counts_although_another_is_down(gateway: RunningGateway, directory: Directory):
    directory.stop()
    try:
        codes = [await code(gateway, "nobody", "guess") for _ in range(4)]
    finally:
        directory.start()
    assert codes == ["PROVIDER_UNAVAILABLE"] * 3 + ["ACCOUNT_LOCKED"]


async def test_a_directory_is_linked_with_its_password_and_asked_from_then_on(gateway: RunningGateway):
    await gateway.make_user("grace")
    async with Browser(gateway) as browser:
        await browser.log_in("grace", OWN_PASSWORD)
        assert (await browser.link("ldap"))["code"] == "INVALID_INPUT"
        assert (await browser.link("ldap", password=PASSWORD))["code"] == "INVALID_CREDENTIALS"
        assert (await browser.link("ldap", username="ada", password="wrong"))["code"] == "INVALID_CREDENTIALS"
        linked = await browser.link("ldap", username="ada", password=PASSWORD)
        assert linked == {"url": None, "user": {"username": "grace"}}
        assert await users(gateway) == {"admin", "grace"}
        assert (await login(gateway, "grace", PASSWORD))["session"] == {"provider": "ldap"}
        assert await code(gateway, "grace", OWN_PASSWORD) == "INVALID_CREDENTIALS"
        assert (await browser.link("ldap", username="ada", password=PASSWORD))["user"] == {"username": "grace"}
    await gateway.make_user("mallory")
    async with Browser(gateway) as other:
        await other.log_in("mallory", OWN_PASSWORD)
        refused = await other.link("ldap", username="ada", password=PASSWORD)
    assert (refused["__typename"], refused["message"]) == (
        "SignInRefused",
        "This account at the identity provider belongs to another user here.",
    )


async def test_guesses_at_a_directory_by_linking_are_counted(gateway: RunningGateway):
    await gateway.make_user("grace")
    async with Browser(gateway) as browser:
        await browser.log_in("grace", OWN_PASSWORD)
        answers = [await browser.link("ldap", username="ada", password="guess") for _ in range(4)]
    assert [it["code"] for it in answers] == ["INVALID_CREDENTIALS"] * 3 + ["ACCOUNT_LOCKED"]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"ldap_url": "ldap://ldap.example", "ldap_base": BASE}, "OLLAGRAPH_LDAP_…: ldap: passwords would cross"),
        ({"oidc_issuer": "http://a.example", "oidc_client_id": "x"}, "OLLAGRAPH_OIDC_…: oidc: issuer must be"),
        ({"oidc_client_id": "x"}, "set OLLAGRAPH_OIDC_ISSUER"),
        ({"github_client_id": "x"}, "OLLAGRAPH_GITHUB_…: github: client_id and client_secret"),
        ({"providers": {"nothing": {}}}, "No installed package has an identity provider 'nothing'"),
        ({"oidc_issuer": "https://a.example", "oidc_client_id": "x", "oidc_name": "password"}, "may be named"),
    ],
    ids=str,
)
def test_settings_that_cannot_work_are_told(tmp_path: Path, settings: dict[str, Any], said: str):
    with pytest.raises(SettingsError) as refusal:
        make_providers(gateway_settings(tmp_path, "sqlite://", None, **settings))
    assert said in str(refusal.value)
