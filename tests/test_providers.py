"""The registry of identity providers, the built-in one, and one that somebody else has written."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import anyio
import pytest
from argon2 import PasswordHasher as Argon2

from auth.passwords import Argon2Cost, PasswordHasher
from auth.providers import (
    BuiltInPasswords,
    ExternalIdentity,
    GitHubConfig,
    InvalidProviderConfig,
    PasswordProvider,
    ProviderUnavailable,
    SignInRefused,
    StoredPassword,
    UnknownProvider,
    build_providers,
    guard,
    registry,
)
from tests.support.identity.example_package import installed_example

PASSWORD = "correct horse"
CHEAP = Argon2Cost(time_cost=1, memory_kib=64, parallelism=1)


class Plugin:
    """A provider of somebody else, which does what a test wants."""

    label = "Plugin"

    def __init__(self, answer: Any, name: str = "plugin") -> None:
        self.name = name
        self._answer = answer

    async def verify(self, username: str, password: str) -> ExternalIdentity | None:
        if self._answer == "hang":
            await anyio.sleep_forever()
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer

    async def aclose(self) -> None:
        raise OSError("closed already")


class Point:
    """An entry point that is not installed anywhere."""

    value = "somewhere:Plugin"

    def __init__(self, name: str, made: Any) -> None:
        self.name = name
        self._made = made

    def load(self) -> Any:
        if isinstance(self._made, Exception):
            raise self._made
        return lambda settings: self._made


def install(monkeypatch: pytest.MonkeyPatch, *points: Point) -> None:
    monkeypatch.setattr(registry, "entry_points", lambda group: points)


def plugin(monkeypatch: pytest.MonkeyPatch, answer: Any) -> PasswordProvider:
    install(monkeypatch, Point("plugin", Plugin(answer)))
    return build_providers(plugins={"plugin": {}}).password("plugin")


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with installed_example(tmp_path_factory) as folder:
        yield folder


async def test_a_provider_of_another_package_signs_in(example: Path, tmp_path: Path):
    users = tmp_path / "users"
    hashed = Argon2(time_cost=1, memory_cost=64, parallelism=1).hash(PASSWORD)
    users.write_text(f"# id:name:hash:groups\n7:ada:{hashed}:staff,ops\n8:bob:{hashed}:\n")
    providers = build_providers(plugins={"htpasswd": {"file": str(users), "admins": "ops"}})
    company = providers.password("htpasswd")
    ada = ExternalIdentity("htpasswd", "7", "ada", groups=frozenset(["staff", "ops"]), role="admin")
    assert await company.verify("ada", PASSWORD) == ada
    assert (await company.verify("bob", PASSWORD)).role == "user"
    assert [await company.verify(*wrong) for wrong in (("ada", "wrong"), ("eve", PASSWORD), ("ada", ""))] == [None] * 3
    users.unlink()
    with pytest.raises(ProviderUnavailable):
        await company.verify("ada", PASSWORD)
    await providers.aclose()


def test_settings_that_another_package_refuses_are_told(example: Path):
    with pytest.raises(InvalidProviderConfig, match=r"'htpasswd' .* the setting 'file' is missing"):
        build_providers(plugins={"htpasswd": {}})


def test_what_is_installed_and_not_named_is_not_used(example: Path):
    assert build_providers().passwords == ()


def test_a_plugin_that_is_not_installed_is_told_with_those_that_are(example: Path):
    with pytest.raises(InvalidProviderConfig, match=r"'saml'. There are: htpasswd"):
        build_providers(plugins={"saml": {}})


@pytest.mark.parametrize("name", ["", "Corp", "corp sso", "-corp", "corp/../x", "c" * 33, "corp\n"])
def test_a_malformed_name_is_refused(name: str):
    with pytest.raises(InvalidProviderConfig, match="lower-case"):
        build_providers([GitHubConfig("id", "secret", name=name)])


def test_two_providers_of_one_name_are_refused():
    with pytest.raises(InvalidProviderConfig, match="Two identity providers are named 'github'"):
        build_providers([GitHubConfig("id", "secret"), GitHubConfig("id", "secret")])


@pytest.mark.parametrize("made", [ImportError("no such module"), object(), Plugin(None, name="another")])
def test_a_plugin_that_is_no_provider_is_told(monkeypatch: pytest.MonkeyPatch, made: Any):
    install(monkeypatch, Point("plugin", made))
    with pytest.raises(InvalidProviderConfig, match="'plugin'"):
        build_providers(plugins={"plugin": {}})


def test_two_packages_with_one_provider_are_refused(monkeypatch: pytest.MonkeyPatch):
    install(monkeypatch, Point("plugin", None), Point("plugin", None))
    with pytest.raises(InvalidProviderConfig, match="Two installed packages"):
        build_providers(plugins={"plugin": {}})


def test_an_unknown_provider_is_told():
    with pytest.raises(UnknownProvider, match="'nobody'"):
        build_providers().redirect("nobody")


@pytest.mark.parametrize(
    "answer",
    [
        ExternalIdentity("another", "1", "ada"),
        ExternalIdentity("plugin", "", "ada"),
        ExternalIdentity("plugin", "1", " "),
        ExternalIdentity("plugin", "1\0", "ada"),
        ExternalIdentity("plugin", "1", "a" * 513),
        ExternalIdentity("plugin", "1", "ada", display_name="\ud83d"),
    ],
)
async def test_an_identity_that_nobody_can_keep_is_refused(monkeypatch: pytest.MonkeyPatch, answer: Any):
    with pytest.raises(SignInRefused):
        await plugin(monkeypatch, answer).verify("ada", PASSWORD)


@pytest.mark.parametrize(("username", "password"), [("", PASSWORD), ("ada", "")])
async def test_an_empty_password_is_not_even_shown_to_a_provider(
    monkeypatch: pytest.MonkeyPatch, username: str, password: str
):
    careless = plugin(monkeypatch, ExternalIdentity("plugin", "1", "ada"))
    assert await careless.verify(username, password) is None


@pytest.mark.parametrize("answer", ["hang", RuntimeError("a bug"), KeyError("x")])
async def test_a_provider_that_fails_or_hangs_is_unavailable(monkeypatch: pytest.MonkeyPatch, answer: Any):
    monkeypatch.setattr(guard, "MOST_SECONDS", 0.1)
    with anyio.fail_after(10), pytest.raises(ProviderUnavailable):
        await plugin(monkeypatch, answer).verify("ada", PASSWORD)


async def test_a_provider_that_cannot_be_closed_keeps_no_other_open(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    install(monkeypatch, Point("one", Plugin(None, "one")), Point("two", Plugin(None, "two")))
    await build_providers(plugins={"one": {}, "two": {}}).aclose()
    assert caplog.text.count("could not be closed") == 2


class Accounts:
    """Accounts in memory, for the built-in provider."""

    def __init__(self, accounts: Mapping[str, StoredPassword]) -> None:
        self._accounts = accounts
        self.stored: list[tuple[str, str]] = []

    async def look_up(self, username: str) -> StoredPassword | None:
        return self._accounts.get(username.lower())

    async def store(self, account: StoredPassword, password_hash: str) -> None:
        self.stored.append((account.subject, password_hash))


async def built_in(hasher: PasswordHasher, made_by: PasswordHasher) -> tuple[BuiltInPasswords, Accounts]:
    accounts = Accounts(
        {
            "ada": StoredPassword("user-1", "ada", await made_by.hash(PASSWORD)),
            "locked": StoredPassword("user-2", "locked", None),
        }
    )
    return BuiltInPasswords(hasher, accounts.look_up, accounts.store), accounts


async def test_the_built_in_provider_knows_its_own_accounts():
    hasher = PasswordHasher(CHEAP)
    built, accounts = await built_in(hasher, hasher)
    provider = build_providers(built_in=built).password("password")
    assert await provider.verify("ADA", PASSWORD) == ExternalIdentity("password", "user-1", "ada")
    wrong = [("ada", "wrong"), ("nobody", PASSWORD), ("locked", PASSWORD), ("ada", "")]
    assert [await provider.verify(*guess) for guess in wrong] == [None] * 4
    assert accounts.stored == []


async def test_a_hash_that_has_become_weak_is_replaced():
    hasher = PasswordHasher(Argon2Cost(2, 64, 1))
    provider, accounts = await built_in(hasher, PasswordHasher(CHEAP))
    assert await provider.verify("ada", "wrong") is None
    assert await provider.verify("ada", PASSWORD) is not None
    ((subject, new_hash),) = accounts.stored
    assert (subject, (await hasher.verify(PASSWORD, new_hash)).new_hash) == ("user-1", None)


async def test_an_unknown_name_is_hashed_like_a_known_one(monkeypatch: pytest.MonkeyPatch):
    hasher = PasswordHasher(CHEAP)
    provider, _ = await built_in(hasher, hasher)
    hashed: list[str] = []
    compute = hasher._context.verify_and_update
    monkeypatch.setattr(hasher._context, "verify_and_update", lambda *given: hashed.append(given[1]) or compute(*given))
    for username in ("ada", "nobody", "locked"):
        await provider.verify(username, "wrong password")
    assert len(hashed) == 3
