"""Rotating API keys: two secrets for a time, one for a retry, and never one that nobody knows."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import anyio
import pytest

from auth.api_keys import derive_api_key, is_well_formed
from auth.derived_keys import derive_key
from db.tables import ApiKey
from schema.node import parse_global_id
from tests.support.gateways import Json, RunningGateway
from tests.test_identity_keys import REVOKE
from tests.test_key_grants import rotate
from tests.test_key_places import reason


@pytest.fixture
def gateway(used_gateway: RunningGateway) -> RunningGateway:
    """One for all tests here, whatever the earlier ones left in its database."""
    return used_gateway


async def reasons(gateway: RunningGateway, *keys: Json) -> list[str | None]:
    """Why each of these secrets is refused; None where it works."""
    return [await reason(gateway, key) for key in keys]


async def shift(gateway: RunningGateway, key: Json, by: timedelta) -> None:
    """Let this much time pass since the rotation of a key."""
    async with gateway.database.transaction() as tx:
        row = await tx.get_one(ApiKey, UUID(parse_global_id(key["apiKey"]["id"])[1]))
        assert row.rotated_at is not None
        assert row.previous_expires_at is not None
        row.rotated_at -= by
        row.previous_expires_at -= by


def test_a_derived_key_is_a_key_that_depends_on_every_part():
    secrets = {
        derive_api_key(key, *parts).secret
        for key in (derive_key("s" * 32, "a"), derive_key("s" * 32, "b"), derive_key("t" * 32, "a"))
        for parts in (("a", "bc"), ("ab", "c"), ("abc",), ("a", "bc", ""))
    }
    assert len(secrets) == 12
    assert all(map(is_well_formed, secrets))
    again = derive_api_key(derive_key("s" * 32, "a"), "a", "bc").secret
    assert again in secrets


def test_the_key_for_a_purpose_is_derived_as_rfc_5869_says():
    # openssl kdf -keylen 32 -kdfopt digest:SHA256 -kdfopt key:secret -kdfopt info:label HKDF
    assert derive_key("secret", "label").hex() == "112fefb269ce7dcb2ea6c7e952c104c1abde44e3c0c5589d1e825dcacf1dd2de"


async def test_both_secrets_work_for_a_time_and_the_id_stays(emptied_gateway_on_each_database: RunningGateway):
    gateway = emptied_gateway_on_each_database
    key = await gateway.make_key()
    new = await rotate(gateway, key, graceSeconds=3600)
    assert new["apiKey"]["id"] == key["apiKey"]["id"]
    assert new["secret"].startswith(new["apiKey"]["prefix"])
    assert await reasons(gateway, key, new) == [None, None]
    await shift(gateway, key, timedelta(hours=1))
    assert await reasons(gateway, key, new) == ["ROTATED_API_KEY", None]


async def test_without_grace_the_old_secret_ends_at_once(gateway: RunningGateway):
    key = await gateway.make_key()
    new = await rotate(gateway, key, graceSeconds=0)
    assert await reasons(gateway, key, new) == ["ROTATED_API_KEY", None]


async def test_revoking_ends_both_secrets(gateway: RunningGateway):
    key = await gateway.make_key()
    new = await rotate(gateway, key)
    await gateway.run(REVOKE, {"id": key["apiKey"]["id"]})
    assert await reasons(gateway, key, new) == ["REVOKED_API_KEY"] * 2


@pytest.mark.parametrize("grace", [0, 3600])
async def test_a_retry_gets_the_same_secret_and_rotates_once(gateway: RunningGateway, grace: int):
    key = await gateway.make_key()
    input: dict[str, Any] = {"graceSeconds": grace, "idempotencyKey": "Sept. rotation"}
    new = await rotate(gateway, key, **input)
    assert await rotate(gateway, key, **input) == new
    assert await reasons(gateway, key, new) == ["ROTATED_API_KEY" if grace == 0 else None, None]


async def test_the_same_idempotency_key_gives_another_key_another_secret(gateway: RunningGateway):
    keys = [await gateway.make_key(), await gateway.make_key()]
    secrets = {(await rotate(gateway, key, idempotencyKey="same"))["secret"] for key in keys}
    assert len(secrets) == 2


async def test_a_retry_that_asks_for_something_else_is_refused(gateway: RunningGateway):
    key = await gateway.make_key()
    await rotate(gateway, key, idempotencyKey="a", graceSeconds=60)
    assert (await rotate(gateway, key, idempotencyKey="a", graceSeconds=61))["code"] == "IDEMPOTENCY_KEY_REUSED"


async def test_a_retry_that_comes_too_late_does_not_rotate_again(gateway: RunningGateway):
    key = await gateway.make_key()
    new = await rotate(gateway, key, idempotencyKey="a", graceSeconds=3600)
    await shift(gateway, key, timedelta(hours=2))
    assert (await rotate(gateway, key, idempotencyKey="a", graceSeconds=3600))["code"] == "INVALID_INPUT"
    assert await reasons(gateway, new) == [None]


async def test_while_the_old_secret_works_only_a_rotation_without_grace_goes_through(gateway: RunningGateway):
    key = await gateway.make_key()
    first = await rotate(gateway, key, idempotencyKey="a")
    assert (await rotate(gateway, key))["code"] == "INVALID_INPUT"
    assert (await rotate(gateway, key, idempotencyKey="b"))["code"] == "INVALID_INPUT"
    last = await rotate(gateway, key, graceSeconds=0)
    assert await reasons(gateway, key, first, last) == ["INVALID_API_KEY", "ROTATED_API_KEY", None]


@pytest.mark.parametrize(
    "input", [{"graceSeconds": -1}, {"graceSeconds": 2_592_001}, {"idempotencyKey": ""}, {"idempotencyKey": "a\0"}]
)
async def test_a_rotation_that_cannot_be_is_refused(gateway: RunningGateway, input: Json):
    assert (await rotate(gateway, await gateway.make_key(), **input))["code"] == "INVALID_INPUT"


async def test_of_rotations_at_once_one_wins_and_no_secret_is_lost(emptied_gateway_on_each_database: RunningGateway):
    gateway = emptied_gateway_on_each_database
    key = await gateway.make_key()
    answers: list[Json] = []

    async def ask(name: str) -> None:
        answers.append(await rotate(gateway, key, idempotencyKey=name))

    async with anyio.create_task_group() as tasks:
        for number in range(6):
            tasks.start_soon(ask, f"rotation {number % 3}")
    secrets = {answer["secret"] for answer in answers if "secret" in answer}
    assert len(secrets) == 1
    assert {answer["code"] for answer in answers if "code" in answer} == {"INVALID_INPUT"}
    assert await reasons(gateway, key, {"secret": secrets.pop()}) == [None, None]


async def test_forced_rotations_at_once_leave_the_last_secret_alone(emptied_gateway_on_each_database: RunningGateway):
    gateway = emptied_gateway_on_each_database
    key = await gateway.make_key()
    answers: list[Json] = []

    async def ask() -> None:
        answers.append(await rotate(gateway, key, graceSeconds=0))

    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(ask)
    assert len({answer["secret"] for answer in answers}) == 4
    assert (await reasons(gateway, *answers)).count(None) == 1
