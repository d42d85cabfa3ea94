"""Signing in, end to end."""

from datetime import datetime, timedelta
from typing import Any

import argon2
import pytest
from sqlalchemy import update

from db.clock import now
from db.tables import LoginAttempts, User
from tests.support.gateways import (
    ADMIN,
    PASSWORD,
    GraphQLErrors,
    Json,
    RunningGateway,
)
from tests.support.shared.gateways import as_new, sharing

LOGIN = """
mutation($input: LoginInput!) { login(input: $input) {
  __typename
  ... on LoginSuccess { accessToken expiresAt user { username role } }
  ... on UserError { message code } ... on AccountLocked { retryAfterMs lockedUntil }
} }
"""

MAX_FAILURES = 3


@pytest.fixture
def gateway(emptied_gateway: RunningGateway) -> RunningGateway:
    """One for all tests here, emptied before each of them."""
    return emptied_gateway


shared_strict = sharing(login_max_failures=MAX_FAILURES)


@pytest.fixture
async def strict(shared_strict: RunningGateway) -> RunningGateway:
    """A gateway that locks a name after three wrong passwords, as new."""
    return await as_new(shared_strict)


async def login(gateway: RunningGateway, username: str, password: str) -> Json:
    gateway.token = None
    data = await gateway.run(LOGIN, {"input": {"username": username, "password": password}})
    return data["login"]


async def change(gateway: RunningGateway, table: type, **values: object) -> None:
    """Set columns of every row: what time, or an administrator, would do."""
    async with gateway.database.transaction() as tx:
        await tx.execute(update(table).values(values))


async def test_the_right_password_signs_in(gateway: RunningGateway):
    answer = await login(gateway, ADMIN, PASSWORD)
    assert answer["user"] == {"username": ADMIN, "role": "admin"}


@pytest.mark.parametrize("typed", ["ADMIN", "  Admin "])
async def test_case_and_spaces_around_a_name_do_not_matter(gateway: RunningGateway, typed: str):
    assert (await login(gateway, typed, PASSWORD))["__typename"] == "LoginSuccess"


async def test_the_token_signs_further_calls(gateway: RunningGateway):
    gateway.token = (await login(gateway, ADMIN, PASSWORD))["accessToken"]
    assert (await gateway.run("{ me { username } }"))["me"] == {"username": ADMIN}


async def test_nobody_is_signed_in_without_credentials(gateway: RunningGateway):
    gateway.token = None
    assert (await gateway.run("{ me { username } }"))["me"] is None


async def test_a_wrong_password_and_an_unknown_user_get_the_same_answer(gateway: RunningGateway):
    wrong = await login(gateway, ADMIN, "wrong password")
    assert wrong["__typename"] == "InvalidCredentials"
    assert wrong == await login(gateway, "nobody", "wrong password")


@pytest.mark.parametrize("username", [ADMIN, "nobody"])
async def test_a_refused_sign_in_has_cost_one_argon2(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch, username: str
):
    verified: list[bytes] = []
    verify = argon2.low_level.verify_secret

    def counted(hash: bytes, *others: Any) -> bool:
        verified.append(hash)
        return verify(hash, *others)

    monkeypatch.setattr(argon2.low_level, "verify_secret", counted)
    await login(gateway, username, "wrong password")
    assert len(verified) == 1
    assert verified[0].startswith(b"$argon2id$")


@pytest.mark.parametrize("username", ["", "a\0b", "x" * 1000, "' OR 1=1 --", "%"])
async def test_a_name_that_nobody_can_have_is_a_wrong_name(
    emptied_gateway_on_each_database: RunningGateway, username: str
):
    assert (await login(emptied_gateway_on_each_database, username, PASSWORD))["__typename"] == "InvalidCredentials"


@pytest.mark.parametrize("username", [ADMIN, "nobody"])
async def test_too_many_wrong_passwords_lock_a_name_whether_or_not_a_user_has_it(strict: RunningGateway, username: str):
    kinds = [(await login(strict, username, "wrong password"))["__typename"] for _ in range(MAX_FAILURES + 1)]
    assert kinds == ["InvalidCredentials"] * MAX_FAILURES + ["AccountLocked"]


async def test_a_locked_name_is_closed_to_the_right_password_too(strict: RunningGateway):
    for _ in range(MAX_FAILURES):
        await login(strict, ADMIN, "wrong password")
    answer = await login(strict, ADMIN, PASSWORD)
    assert (answer["__typename"], answer["code"]) == ("AccountLocked", "ACCOUNT_LOCKED")
    assert answer["retryAfterMs"] > 0
    assert datetime.fromisoformat(answer["lockedUntil"]) > now()


async def test_a_lock_does_not_close_the_gateway_to_other_names(strict: RunningGateway):
    await strict.make_user("ada")
    for _ in range(MAX_FAILURES):
        await login(strict, ADMIN, "wrong password")
    assert (await login(strict, "ada", PASSWORD))["__typename"] == "LoginSuccess"


async def test_a_lock_ends(strict: RunningGateway):
    for _ in range(MAX_FAILURES):
        await login(strict, ADMIN, "wrong password")
    await change(strict, LoginAttempts, locked_until=now() - timedelta(seconds=1))
    assert (await login(strict, ADMIN, PASSWORD))["__typename"] == "LoginSuccess"


async def test_a_sign_in_that_works_starts_the_counting_anew(strict: RunningGateway):
    for password in ["wrong password"] * (MAX_FAILURES - 1) + [PASSWORD]:
        await login(strict, ADMIN, password)
    kinds = [(await login(strict, ADMIN, "wrong password"))["__typename"] for _ in range(MAX_FAILURES - 1)]
    assert kinds == ["InvalidCredentials"] * (MAX_FAILURES - 1)
    assert (await login(strict, ADMIN, PASSWORD))["__typename"] == "LoginSuccess"


async def test_failures_of_long_ago_do_not_count(strict: RunningGateway):
    for _ in range(MAX_FAILURES - 1):
        await login(strict, ADMIN, "wrong password")
    await change(strict, LoginAttempts, last_failed_at=now() - timedelta(days=1))
    await login(strict, ADMIN, "wrong password")
    assert (await login(strict, ADMIN, PASSWORD))["__typename"] == "LoginSuccess"


async def test_a_disabled_user_cannot_sign_in_and_is_told_nothing(own_gateway: RunningGateway):
    await own_gateway.make_user("ada")
    await change(own_gateway, User, disabled_at=now())
    assert await login(own_gateway, "ada", PASSWORD) == await login(own_gateway, "nobody", PASSWORD)


async def test_the_session_of_a_disabled_user_ends(own_gateway: RunningGateway):
    await change(own_gateway, User, disabled_at=now())
    with pytest.raises(GraphQLErrors, match="session token is not valid"):
        await own_gateway.run("{ models { name } }")


async def test_the_key_of_a_disabled_user_no_longer_works(own_gateway: RunningGateway):
    own_gateway.token = (await own_gateway.make_key())["secret"]
    await change(own_gateway, User, disabled_at=now())
    with pytest.raises(GraphQLErrors, match="API key is not valid"):
        await own_gateway.run("{ models { name } }")


async def test_a_user_may_not_do_what_only_an_administrator_may(gateway: RunningGateway):
    await gateway.make_user("ada")
    other = (await gateway.run("{ me { id } }"))["me"]["id"]
    await gateway.sign_in("ada")
    with pytest.raises(GraphQLErrors) as caught:
        await gateway.run(
            "query($id: ID!) { usage(input: {filter: {userIds: [$id]}}) { totals { generations } } }", {"id": other}
        )
    assert caught.value.code == "FORBIDDEN"
