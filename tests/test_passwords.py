"""Passwords are hashed with Argon2id, away from the event loop, and unknown users cost as much as known ones."""

import math
import string
import subprocess
import sys
import threading

import anyio
import pytest

from auth import passwords
from auth.password_policy import PasswordPolicy
from auth.passwords import (
    Argon2Cost,
    PasswordHasher,
    UnusablePassword,
    Verified,
    generate_password,
)

CHEAP = Argon2Cost(time_cost=1, memory_kib=64, parallelism=1)
PASSWORD = "correct horse battery staple"


async def test_the_right_password_is_accepted() -> None:
    hasher = PasswordHasher(CHEAP)
    assert await hasher.verify(PASSWORD, await hasher.hash(PASSWORD)) == Verified(ok=True)


async def test_a_wrong_password_is_refused() -> None:
    hasher = PasswordHasher(CHEAP)
    assert await hasher.verify(PASSWORD + "!", await hasher.hash(PASSWORD)) == Verified(ok=False)


async def test_the_same_password_never_has_the_same_hash() -> None:
    hasher = PasswordHasher(CHEAP)
    assert await hasher.hash(PASSWORD) != await hasher.hash(PASSWORD)


async def test_the_usual_cost_is_what_rfc_9106_recommends() -> None:
    assert (await PasswordHasher().hash(PASSWORD)).startswith("$argon2id$v=19$m=65536,t=3,p=4$")


@pytest.mark.parametrize("weaker", [Argon2Cost(1, 64, 1), Argon2Cost(2, 32, 1)])
async def test_a_hash_that_has_become_too_weak_is_replaced(weaker: Argon2Cost) -> None:
    hasher = PasswordHasher(Argon2Cost(2, 64, 1))
    verified = await hasher.verify(PASSWORD, await PasswordHasher(weaker).hash(PASSWORD))
    assert verified.ok
    assert await hasher.verify(PASSWORD, verified.new_hash) == Verified(ok=True)


@pytest.mark.parametrize("no_hash", [None, "", "!", "plain text"])
async def test_nobody_can_sign_in_without_a_hash(no_hash: str | None) -> None:
    assert await PasswordHasher(CHEAP).verify(PASSWORD, no_hash) == Verified(ok=False)


@pytest.mark.parametrize("no_hash", [None, "!"])
async def test_an_unknown_user_costs_one_argon2_as_a_known_one_does(
    no_hash: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counts what is worked out, for a time would be true on some machines only."""
    hasher = PasswordHasher(CHEAP)
    known = await hasher.hash(PASSWORD)
    counted: list[str] = []
    real = hasher._context.verify_and_update

    def counting(secret: str, hash: str) -> tuple[bool, str | None]:
        counted.append(hash[: known.rindex("$", 0, known.rindex("$")) + 1])
        return real(secret, hash)

    monkeypatch.setattr(hasher._context, "verify_and_update", counting)
    await hasher.verify("wrong password", known)
    await hasher.verify("wrong password", no_hash)
    assert counted == ["$argon2id$v=19$m=64,t=1,p=1$"] * 2


async def test_hashing_leaves_the_event_loop_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    hasher = PasswordHasher(CHEAP)
    threads: list[threading.Thread] = []
    work = hasher._hash

    def watched(password: str) -> str:
        threads.append(threading.current_thread())
        return work(password)

    monkeypatch.setattr(hasher, "_hash", watched)
    await hasher.hash(PASSWORD)
    assert len(threads) == 1
    assert threads != [threading.current_thread()]


async def test_the_policy_leaves_the_event_loop_to_others() -> None:
    threads: list[threading.Thread] = []

    class Watched(PasswordPolicy):
        def problems(self, password: str, username: str = "") -> list[str]:
            threads.append(threading.current_thread())
            return [username]

    assert await PasswordHasher(CHEAP, Watched()).problems(PASSWORD, "ada") == ["ada"]
    assert threads != [threading.current_thread()]


async def test_no_more_hashes_are_worked_on_at_once_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    hasher = PasswordHasher(CHEAP, concurrency=2)
    lock, running, most = threading.Lock(), 0, 0
    work = hasher._hash

    def watched(password: str) -> str:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        try:
            return work(password)
        finally:
            with lock:
                running -= 1

    monkeypatch.setattr(hasher, "_hash", watched)
    async with anyio.create_task_group() as tasks:
        for _ in range(12):
            tasks.start_soon(hasher.hash, PASSWORD)
    assert most <= 2


async def test_a_letter_is_the_same_however_the_keyboard_writes_it() -> None:
    hasher = PasswordHasher(CHEAP)
    assert await hasher.verify("cafe\u0301 creme", await hasher.hash("caf\u00e9 creme")) == Verified(ok=True)


@pytest.mark.parametrize("password", ["x" * 257, "\ud800" * 8])
async def test_what_can_be_nobodys_password_is_not_hashed(password: str) -> None:
    with pytest.raises(UnusablePassword):
        await PasswordHasher(CHEAP).hash(password)


@pytest.mark.parametrize("password", ["12345678", "x" * 256, "пароль-пароль", "🔑🔑🔑🔑🔑🔑🔑🔑", "null\0null"])
async def test_every_other_password_may_be_used(password: str) -> None:
    hasher = PasswordHasher(CHEAP)
    assert await hasher.verify(password, await hasher.hash(password)) == Verified(ok=True)


@pytest.mark.parametrize("password", ["x" * 1_000_000, "\ud800" * 8, ""])
async def test_what_can_be_nobodys_password_is_wrong(password: str) -> None:
    hasher = PasswordHasher(CHEAP)
    assert await hasher.verify(password, await hasher.hash(PASSWORD)) == Verified(ok=False)


@pytest.mark.parametrize(
    "policy",
    [
        PasswordPolicy(),
        PasswordPolicy(64),
        PasswordPolicy(23),
        PasswordPolicy(15, frozenset({"lower", "upper", "digit", "symbol"})),
    ],
)
def test_a_generated_password_may_be_used_and_is_hard_to_guess(policy: PasswordPolicy) -> None:
    password = generate_password(policy)
    assert policy.problems(password, "ada") == []
    assert len(password.replace("-", "")) * math.log2(len(passwords._LETTERS)) > 80


def test_a_generated_password_has_no_letters_that_look_alike() -> None:
    letters = {letter for _ in range(200) for letter in generate_password()}
    assert letters == set(string.ascii_lowercase + string.digits + "-") - set("ilo01")


def test_generated_passwords_differ() -> None:
    assert len({generate_password() for _ in range(100)}) == 100


def test_the_password_library_gives_no_warnings() -> None:
    script = "from auth.passwords import *; PasswordHasher(Argon2Cost(1, 64, 1))"
    subprocess.run([sys.executable, "-W", "error", "-c", script], check=True)
