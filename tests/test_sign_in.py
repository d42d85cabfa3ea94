"""Guesses at passwords: how many there may be, from where, and whom they do not concern."""

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import argon2
import httpx
import pytest
from sqlalchemy import func, select, update

from auth.client import origin
from auth.lane import SHARE
from db.clock import now
from db.tables import KnownAddress, LoginAttempts
from tests.support.databases import on_postgresql, on_sqlite
from tests.support.fake_model_server import FakeModelServer
from tests.support.gateways import ADMIN, PASSWORD, Json, RunningGateway, gateway_settings, running_gateway
from tests.support.polling import pause
from tests.test_identity import LOGIN, MAX_FAILURES, shared_strict, strict

__all__ = ["shared_strict", "strict"]

WRONG = "wrong password"
WINDOW = timedelta(seconds=900)


def attempt(username: str, password: str) -> Json:
    return {"input": {"username": username, "password": password}}


async def login(gateway: RunningGateway, username: str, password: str = WRONG, host: str = "127.0.0.1") -> Json:
    """Try to sign in from one of this machine's many addresses."""
    async with httpx.AsyncClient(
        transport=httpx.AsyncHTTPTransport(local_address=host, verify=False), timeout=60
    ) as client:
        body = {"query": LOGIN, "variables": attempt(username, password)}
        response = (await client.post(f"{gateway.url}/graphql", json=body)).json()
    return response["data"]["login"]


async def guess(gateway: RunningGateway, username: str, count: int, host: str) -> None:
    for _ in range(count):
        assert (await login(gateway, username, WRONG, host))["__typename"] == "InvalidCredentials"


async def row(gateway: RunningGateway, username: str, address: str) -> LoginAttempts | None:
    async with gateway.database.reading() as session:
        return await session.get(LoginAttempts, (username, address))


async def counted(gateway: RunningGateway) -> int:
    async with gateway.database.reading() as session:
        both = select(func.sum(LoginAttempts.failures)).where(
            LoginAttempts.username != " ", LoginAttempts.address != ""
        )
        return await session.scalar(both) or 0


async def set_rows(gateway: RunningGateway, **values: object) -> None:
    async with gateway.database.transaction() as tx:
        await tx.execute(update(LoginAttempts).values(values))


class Hashing:
    """Every look at a password, counted, and held while `held`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.passwords: list[bytes] = []
        """In the order in which they were looked at."""
        self._free = threading.Event()
        self._free.set()
        verify = argon2.low_level.verify_secret

        def watched(*arguments: Any) -> bool:
            self.passwords.append(arguments[1])
            assert self._free.wait(60)
            return verify(*arguments)

        monkeypatch.setattr(argon2.low_level, "verify_secret", watched)

    @property
    def count(self) -> int:
        """How many there were."""
        return len(self.passwords)

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        self._free.clear()
        try:
            yield
        finally:
            self._free.set()


@pytest.fixture
def hashing(monkeypatch: pytest.MonkeyPatch) -> Hashing:
    """What is hashed from now on."""
    return Hashing(monkeypatch)


async def test_of_guesses_made_at_once_no_more_are_looked_at_than_may_fail(strict: RunningGateway, hashing: Hashing):
    async with strict.connect(init={}) as socket:
        for number in range(19):
            await socket.subscribe(LOGIN, attempt(ADMIN, f"{WRONG} {number}"), str(number))
        await socket.subscribe(LOGIN, attempt(ADMIN, PASSWORD), "right")
        kinds: dict[str, str] = {}
        while len(kinds) < 20:
            message = await socket.receive()
            if message["type"] == "next":
                kinds[message["id"]] = message["payload"]["data"]["login"]["__typename"]
    assert (kinds["right"], hashing.count) == ("AccountLocked", MAX_FAILURES)
    assert list(kinds.values()).count("InvalidCredentials") == MAX_FAILURES


async def test_a_guess_whose_client_leaves_is_counted(strict: RunningGateway, hashing: Hashing):
    async with hashing.held():
        async with strict.connect(init={}) as socket:
            for number in range(MAX_FAILURES):
                await socket.subscribe(LOGIN, attempt("ada", WRONG), str(number))
            while await counted(strict) < MAX_FAILURES:
                await pause()
    assert (await login(strict, "ada"))["__typename"] == "AccountLocked"


async def test_a_stranger_does_not_close_a_name_to_other_addresses(strict: RunningGateway):
    await strict.make_user("ada")
    await guess(strict, "ada", MAX_FAILURES, "127.0.0.2")
    assert (await login(strict, "ada", PASSWORD, "127.0.0.2"))["__typename"] == "AccountLocked"
    assert (await login(strict, "ada", PASSWORD, "127.0.0.3"))["__typename"] == "LoginSuccess"


async def test_many_strangers_close_a_name_but_not_where_its_user_has_signed_in(strict: RunningGateway):
    await strict.make_user("ada")
    assert (await login(strict, "ada", PASSWORD, "127.0.0.2"))["__typename"] == "LoginSuccess"
    for last in range(10, 20):
        await guess(strict, "ada", MAX_FAILURES, f"127.0.0.{last}")
    assert (await login(strict, "ada", PASSWORD, "127.0.0.3"))["__typename"] == "AccountLocked"
    assert (await login(strict, "ada", PASSWORD, "127.0.0.2"))["__typename"] == "LoginSuccess"


async def test_an_address_that_tries_many_names_is_closed_to_all_of_them(strict: RunningGateway):
    await strict.make_user("ada")
    for number in range(3 * MAX_FAILURES):
        await guess(strict, f"made up {number}", 1, "127.0.0.2")
    assert (await login(strict, "ada", PASSWORD, "127.0.0.2"))["__typename"] == "AccountLocked"
    assert (await login(strict, "ada", PASSWORD, "127.0.0.3"))["__typename"] == "LoginSuccess"


async def test_a_lock_lasts_for_the_window_at_an_address_that_is_not_known(strict: RunningGateway):
    await guess(strict, "ada", MAX_FAILURES, "127.0.0.2")
    locked = await row(strict, "ada", "127.0.0.2")
    assert locked is not None
    assert locked.locked_until == locked.last_failed_at + WINDOW


@pytest.mark.parametrize("username", [ADMIN, "nobody"])
async def test_at_a_known_address_the_pauses_are_short_and_grow(strict: RunningGateway, username: str):
    """The same for a name that nobody has: the pause does not tell."""
    await guess(strict, username, MAX_FAILURES, "127.0.0.1")
    pauses: list[timedelta] = []
    for _ in range(6):
        locked = await row(strict, username, "127.0.0.1")
        assert locked is not None
        assert locked.locked_until is not None
        pauses.append(locked.locked_until - locked.last_failed_at)
        assert (await login(strict, username))["__typename"] == "AccountLocked"
        await set_rows(strict, locked_until=None)
        await guess(strict, username, 1, "127.0.0.1")
    assert pauses == [timedelta(seconds=seconds) for seconds in (15, 30, 60, 120, 240, 300)]


async def test_a_lock_of_a_clock_that_ran_ahead_ends_within_the_window(strict: RunningGateway):
    await guess(strict, "ada", MAX_FAILURES, "127.0.0.2")
    await set_rows(strict, locked_until=now() + timedelta(days=400), last_failed_at=now() + timedelta(days=399))
    answer = await login(strict, "ada", PASSWORD, "127.0.0.2")
    assert datetime.fromisoformat(answer["lockedUntil"]) <= now() + WINDOW
    cut = await row(strict, "ada", "127.0.0.2")
    assert cut is not None
    assert cut.locked_until is not None
    assert cut.locked_until <= now() + WINDOW
    assert cut.last_failed_at <= now()


async def test_a_sign_in_that_works_takes_back_what_it_counted(strict: RunningGateway):
    await strict.make_user("ada")
    await login(strict, ADMIN, WRONG, "127.0.0.2")
    async with strict.database.transaction() as tx:
        await tx.execute(
            update(LoginAttempts).where(LoginAttempts.address == "").values(failures=10 * MAX_FAILURES - 1)
        )
    answer = await login(strict, "ada", PASSWORD, "127.0.0.2")
    address, name = await row(strict, " ", "127.0.0.2"), await row(strict, "ada", "")
    assert answer["__typename"] == "LoginSuccess"
    assert (address and address.failures, name and name.failures) == (1, 0)
    assert await row(strict, "ada", "127.0.0.2") is None


@on_postgresql
async def test_a_lock_holds_at_every_gateway(database_url: str, tmp_path: Path, fake: FakeModelServer):
    one_of_two = [
        gateway_settings(tmp_path / name, database_url, fake.url, login_max_failures=MAX_FAILURES)
        for name in ("one", "other")
    ]
    async with running_gateway(one_of_two[0], fake) as one, running_gateway(one_of_two[1], fake) as other:
        await guess(one, "ada", MAX_FAILURES, "127.0.0.2")
        assert (await login(other, "ada", WRONG, "127.0.0.2"))["__typename"] == "AccountLocked"


@on_sqlite
async def test_old_failures_and_addresses_are_removed(
    database_url: str, tmp_path: Path, fake: FakeModelServer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("gateway.tasks.FIRST_PURGE_SECONDS", 0)
    settings = gateway_settings(tmp_path, database_url, fake.url)
    async with running_gateway(settings, fake) as gateway:
        await login(gateway, "ada")
        await set_rows(gateway, last_failed_at=now() - timedelta(seconds=901))
        async with gateway.database.transaction() as tx:
            await tx.execute(update(KnownAddress).values(signed_in_at=now() - timedelta(days=31), address="127.0.0.9"))
    async with running_gateway(settings, fake) as gateway:
        with anyio.fail_after(20):
            while await row(gateway, "ada", "127.0.0.1") is not None:
                await pause()
        async with gateway.database.reading() as session:
            assert set(await session.scalars(select(KnownAddress.address))) == {"127.0.0.1"}


async def test_a_flood_of_made_up_names_is_refused_early_and_holds_up_nobody_who_is_known(
    gateway: RunningGateway, hashing: Hashing, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("auth.lane.PATIENCE_SECONDS", 600)
    answers: dict[str, Json] = {}

    async def sign_in(username: str, password: str, host: str) -> None:
        answers[username] = await login(gateway, username, password, host)

    async with anyio.create_task_group() as tasks:
        async with hashing.held():
            for number in range(SHARE):
                tasks.start_soon(sign_in, f"made up {number}", WRONG, "127.0.0.2")
            while await counted(gateway) < SHARE:
                await pause()
            refused = await login(gateway, "one more", WRONG, "127.0.0.2")
            assert (refused["__typename"], refused["code"]) == ("Overloaded", "OVERLOADED")
            tasks.start_soon(sign_in, ADMIN, PASSWORD, "127.0.0.1")
            while await counted(gateway) < SHARE + 1:
                await pause()
    assert answers[ADMIN]["__typename"] == "LoginSuccess"
    assert hashing.passwords.index(PASSWORD.encode()) < SHARE / 2  # after those that had their turn when it came
    assert await row(gateway, "one more", "127.0.0.2") is None


async def test_where_hashing_is_slow_strangers_are_told_to_come_again_and_nothing_is_counted(
    gateway: RunningGateway, hashing: Hashing, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("auth.lane.PATIENCE_SECONDS", 0.2)
    at_work: list[Json] = []

    async def guess_first(username: str) -> None:
        at_work.append(await login(gateway, username, WRONG, "127.0.0.3"))

    async with anyio.create_task_group() as tasks:
        async with hashing.held():
            for username in ("first", "second"):
                tasks.start_soon(guess_first, username)
            while hashing.count < 2:
                await pause()
            for username in (ADMIN, "nobody"):
                refused = await login(gateway, username, PASSWORD, "127.0.0.4")
                assert (refused["__typename"], refused["code"]) == ("Overloaded", "OVERLOADED")
                assert not (counts := await row(gateway, username, "127.0.0.4")) or not counts.failures
    assert [answer["__typename"] for answer in at_work] == ["InvalidCredentials"] * 2
    assert hashing.count == 2
    assert (await login(gateway, ADMIN, PASSWORD, "127.0.0.4"))["__typename"] == "LoginSuccess"


@pytest.mark.parametrize(
    ("host", "counted_as"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("no address", "unknown"),
        ("", "unknown"),
        (None, "unknown"),
    ],
)
def test_an_address_is_counted_as_what_one_machine_can_have(host: str | None, counted_as: str):
    assert origin(host) == counted_as
