"""Sign-in with a real directory, and every way round it that has a name."""

import socket
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from auth.providers import (
    InvalidProviderConfig,
    LdapConfig,
    ProviderUnavailable,
    RefusalReason,
    RoleMapping,
    SignInRefused,
    build_providers,
)
from auth.providers.ldap import LdapProvider
from tests.support.identity.directory import (
    ADA_ID,
    ADMINS,
    BASE,
    GROUPS,
    PASSWORD,
    PEOPLE,
    SERVICE,
    SERVICE_PASSWORD,
    Directory,
    running_directory,
)
from tests.support.ports import free_port

library: Any = pytest.importorskip("ldap", reason="needs python-ldap: the extra 'ldap'")

SEARCH, DIRECT = "search", "direct"
USER_DN = f"uid={{username}},{PEOPLE}"


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Directory]:
    with running_directory(tmp_path_factory.mktemp("slapd")) as directory:
        yield directory


def config(directory: Directory, **options: object) -> LdapConfig:
    plain = LdapConfig(directory.url, BASE, bind_dn=SERVICE, bind_password=SERVICE_PASSWORD)
    return replace(plain, **options)


@pytest.fixture(params=[SEARCH, DIRECT])
def ldap(directory: Directory, request: pytest.FixtureRequest) -> LdapConfig:
    """Each way to find the person, in turn."""
    return config(directory, user_dn=None if request.param == SEARCH else USER_DN)


async def verify(config: LdapConfig, username: str, password: str):
    """Verify a password once, with a provider as the gateway has it."""
    providers = build_providers([config])
    try:
        return await providers.password(config.name).verify(username, password)
    finally:
        await providers.aclose()


async def test_the_right_password_signs_in(ldap: LdapConfig):
    identity = await verify(ldap, "ada", PASSWORD)
    assert identity is not None
    assert (identity.provider, identity.subject, identity.username) == ("ldap", ADA_ID, "ada")
    assert (identity.email, identity.email_verified) == ("ada@example.org", False)
    assert (identity.display_name, identity.groups) == ("Ada Lovelace", frozenset([ADMINS]))


async def test_the_name_is_as_the_directory_writes_it(ldap: LdapConfig):
    identity = await verify(ldap, " ADA ", PASSWORD)
    assert identity is not None
    assert (identity.username, identity.subject) == ("ada", ADA_ID)


@pytest.mark.parametrize(("username", "password"), [("ada", "wrong"), ("nobody", PASSWORD), ("ada", f"{PASSWORD} ")])
async def test_what_is_wrong_does_not_sign_in(ldap: LdapConfig, username: str, password: str):
    assert await verify(ldap, username, password) is None


@pytest.mark.parametrize("password", ["", "\0", f"\0{PASSWORD}", f"{PASSWORD}\0", "\ud800", "x" * 257])
async def test_a_password_that_is_empty_or_cut_never_signs_in(ldap: LdapConfig, password: str):
    provider = LdapProvider(ldap)  # without what guards all providers
    assert await provider.verify("ada", password) is None
    await provider.aclose()


async def test_the_directory_itself_takes_an_empty_password_as_nobody(directory: Directory):
    connection = library.initialize(directory.url)
    connection.simple_bind_s(f"uid=ada,{PEOPLE}", "")
    assert connection.whoami_s() == ""
    connection.unbind_s()


@pytest.mark.parametrize(
    "username",
    [
        "*",
        "a*",
        "ada)(uid=*",
        "*)(objectClass=*",
        "nobody)(|(uid=ada",
        "x)(|(objectClass=*)(uid=x",
        "\\61da",
        "ada\0",
        "ada,ou=people",
        f"ada,{PEOPLE}",
        f"bob,{PEOPLE}+uid=ada",
        "{username}",
        "{dn}",
        "#04036164",
        "",
        " ",
        "\ud800",
        "a" * 257,
    ],
)
async def test_no_user_name_is_read_as_a_filter_or_a_name(ldap: LdapConfig, username: str):
    assert await verify(ldap, username, PASSWORD) is None


async def test_a_user_name_of_special_characters_signs_in(ldap: LdapConfig):
    identity = await verify(ldap, "o,neil(*)", PASSWORD)
    assert identity is not None
    assert identity.display_name == "O'Neil"


async def test_a_name_that_two_entries_have_does_not_sign_in(directory: Directory):
    assert await verify(config(directory), "twin", PASSWORD) is None


@pytest.mark.parametrize("user_dn", [None, USER_DN])
async def test_groups_are_searched_for_by_the_name_of_the_entry(directory: Directory, user_dn: str | None):
    groups = config(directory, group_base=GROUPS, member_of_attribute="none")
    assert (await verify(groups, "ada", PASSWORD)).groups == {ADMINS, "admins"}
    assert (await verify(groups, "o,neil(*)", PASSWORD)).groups == frozenset()


@pytest.mark.parametrize("group", [ADMINS, ADMINS.upper().replace(",", " , ")])
async def test_the_first_rule_that_matches_gives_the_role(directory: Directory, group: str):
    roles = RoleMapping(((group, "ADMIN"), (ADMINS, "LATER")), default="USER")
    ldap = config(directory, roles=roles)
    assert [(await verify(ldap, name, PASSWORD)).role for name in ("ada", "bob")] == ["ADMIN", "USER"]


async def test_who_gets_no_role_is_refused_where_one_is_required(ldap: LdapConfig):
    required = replace(ldap, roles=RoleMapping(((ADMINS, "ADMIN"),), required=True))
    with pytest.raises(SignInRefused, match="no access here") as refused:
        await verify(required, "bob", PASSWORD)
    assert refused.value.reason is RefusalReason.NO_ROLE
    assert await verify(required, "bob", "wrong") is None


async def test_an_entry_without_a_subject_is_refused(ldap: LdapConfig):
    with pytest.raises(SignInRefused, match="employeeNumber"):
        await verify(replace(ldap, subject_attribute="employeeNumber"), "ada", PASSWORD)


@pytest.mark.parametrize("way", ["ldaps", "starttls"])
async def test_the_directory_is_reached_with_tls(directory: Directory, way: str):
    url = directory.secure_url if way == "ldaps" else directory.url
    ldap = config(directory, url=url, starttls=way == "starttls", ca_file=directory.tls.authority)
    assert await verify(ldap, "ada", PASSWORD) is not None


@pytest.mark.parametrize("way", ["ldaps", "starttls"])
@pytest.mark.parametrize("fault", ["unknown authority", "another host"])
async def test_a_certificate_that_does_not_hold_is_refused(directory: Directory, way: str, fault: str):
    url = directory.secure_url if way == "ldaps" else directory.url
    if fault == "another host":
        url = url.replace("127.0.0.1", "localhost")
    ca_file = directory.tls.authority if fault == "another host" else None
    with pytest.raises(ProviderUnavailable):
        await verify(config(directory, url=url, starttls=way == "starttls", ca_file=ca_file), "ada", PASSWORD)


async def test_wrong_credentials_of_the_service_are_the_operators_affair(directory: Directory):
    with pytest.raises(ProviderUnavailable):
        await verify(config(directory, bind_password="wrong"), "ada", PASSWORD)


async def test_a_directory_that_is_down_is_unavailable(ldap: LdapConfig):
    port = free_port()
    with pytest.raises(ProviderUnavailable, match="cannot be reached"):
        await verify(replace(ldap, url=f"ldap://127.0.0.1:{port}"), "ada", PASSWORD)


@pytest.mark.parametrize("url", ["ldap://127.0.0.1:{}", "ldaps://127.0.0.1:{}", "starttls"])
async def test_a_directory_that_says_nothing_is_unavailable_in_time(ldap: LdapConfig, url: str):
    with socket.create_server(("127.0.0.1", 0)) as silent, anyio.fail_after(10):
        where = url.replace("starttls", "ldap://127.0.0.1:{}").format(silent.getsockname()[1])
        with pytest.raises(ProviderUnavailable):
            await verify(replace(ldap, url=where, starttls=url == "starttls", timeout=0.2), "ada", PASSWORD)


async def test_a_directory_that_hangs_keeps_no_process_from_ending(tmp_path: Path):
    script = f"""
import anyio
from auth.providers import LdapConfig, ProviderUnavailable, build_providers
async def main():
    config = LdapConfig("ldaps://127.0.0.1:{{port}}", "{BASE}", timeout=0.1)
    try:
        await build_providers([config]).password("ldap").verify("ada", "secret")
    except ProviderUnavailable:
        print("unavailable")
anyio.run(main)
"""
    with socket.create_server(("127.0.0.1", 0)) as silent, anyio.fail_after(30):
        command = [sys.executable, "-c", script.format(port=silent.getsockname()[1])]
        done = await anyio.run_process(command, cwd=Path(__file__).parent.parent)
    assert done.stdout == b"unavailable\n"


async def test_a_restart_of_the_directory_is_not_noticed(tmp_path: Path):
    with running_directory(tmp_path) as directory:
        providers = build_providers([config(directory)])
        ldap = providers.password("ldap")
        assert await ldap.verify("ada", PASSWORD) is not None
        directory.stop()
        with pytest.raises(ProviderUnavailable):
            await ldap.verify("ada", PASSWORD)
        directory.start()
        assert await ldap.verify("ada", PASSWORD) is not None
        await providers.aclose()


async def test_many_sign_in_at_once_over_few_connections(directory: Directory):
    providers = build_providers([config(directory, max_connections=2)])
    found: list[object] = []

    async def sign_in(password: str) -> None:
        found.append(await providers.password("ldap").verify("ada", password) is not None)

    async with anyio.create_task_group() as tasks:
        for number in range(12):
            tasks.start_soon(sign_in, PASSWORD if number % 2 else "wrong")
    assert sorted(found) == [False] * 6 + [True] * 6
    await providers.aclose()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"url": "ldap://directory.example.org"}, "unencrypted"),
        ({"url": "https://directory.example.org"}, "url must be ldap"),
        ({"url": "ldap://127.0.0.1:port"}, "url must be ldap"),
        ({"url": "ldaps://directory.example.org", "starttls": True}, "encrypted already"),
        ({"bind_password": None}, "bind_dn and a bind_password"),
        ({"bind_password": ""}, "bind_dn and a bind_password"),
        ({"user_filter": "(uid=ada)"}, "user_filter must contain"),
        ({"user_dn": "uid=ada"}, "user_dn must contain"),
        ({"ca_file": Path("missing.pem")}, "no readable file"),
        ({"timeout": 0}, "must be positive"),
    ],
)
def test_a_configuration_that_cannot_work_is_refused(options: dict[str, object], message: str):
    good = LdapConfig("ldap://127.0.0.1", BASE, bind_dn=SERVICE, bind_password="secret")
    with pytest.raises(InvalidProviderConfig, match=message):
        replace(good, **options)


def test_python_ldap_that_is_missing_is_told_in_a_sentence(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "ldap", None)
    with pytest.raises(InvalidProviderConfig, match=r"pip install 'ollagraph\[ldap\]'"):
        build_providers([LdapConfig("ldap://127.0.0.1", BASE)])


def test_a_password_stands_in_no_repr():
    assert "secret" not in repr(LdapConfig("ldap://127.0.0.1", BASE, bind_dn=SERVICE, bind_password="secret"))
