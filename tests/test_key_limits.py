"""How long a key may hold, how many a user may have, and how many are listed."""

from datetime import datetime, timedelta
from pathlib import Path

import anyio
import pytest
from sqlalchemy import func, select, update

from db.clock import now
from db.tables import ApiKey
from tests.support.fake_model_server import FakeModelServer
from tests.support.gateways import Json, RunningGateway, gateway_settings, refused_field, running_gateway
from tests.support.shared.gateways import as_new, sharing
from tests.test_identity_keys import revoke

MOST = 5
KEYS = "{ me { apiKeys { id name expiresAt revokedAt } } }"


@pytest.fixture
def gateway(emptied_gateway: RunningGateway) -> RunningGateway:
    """One for all tests here, emptied before each of them."""
    return emptied_gateway


shared_few = sharing(max_api_keys_per_user=MOST)


@pytest.fixture
async def few(shared_few: RunningGateway) -> RunningGateway:
    """A gateway in which a user may have five keys, as new."""
    return await as_new(shared_few)


async def listed(gateway: RunningGateway) -> list[Json]:
    return (await gateway.run(KEYS))["me"]["apiKeys"]


async def expiring_maker(gateway: RunningGateway) -> datetime:
    """Sign in with a key that makes keys and expires; gives when."""
    end = now() + timedelta(hours=1)
    key = await gateway.make_key(scopes=["KEYS_WRITE", "PROFILE_READ", "MODELS_READ"], expiresAt=end.isoformat())
    gateway.token = key["secret"]
    return datetime.fromisoformat(key["apiKey"]["expiresAt"])


async def test_a_key_made_by_a_key_that_expires_expires_with_it(gateway: RunningGateway):
    end = await expiring_maker(gateway)
    made = await gateway.make_key()
    assert datetime.fromisoformat(made["apiKey"]["expiresAt"]) == end


async def test_so_does_the_key_that_is_made_by_that_one(gateway: RunningGateway):
    end = await expiring_maker(gateway)
    gateway.token = (await gateway.make_key(scopes=["KEYS_WRITE"]))["secret"]
    made = await gateway.make_key(scopes=["KEYS_WRITE"])
    assert datetime.fromisoformat(made["apiKey"]["expiresAt"]) == end


async def test_a_key_makes_none_that_holds_for_longer(gateway: RunningGateway):
    end = await expiring_maker(gateway)
    refused = await gateway.make_key(expiresAt=(end + timedelta(seconds=1)).isoformat())
    assert (refused["code"], refused_field(refused)) == ("INVALID_INPUT", "expiresAt")


async def test_a_key_may_make_one_that_holds_for_less(gateway: RunningGateway):
    end = await expiring_maker(gateway) - timedelta(minutes=1)
    made = await gateway.make_key(expiresAt=end.isoformat())
    assert datetime.fromisoformat(made["apiKey"]["expiresAt"]) == end


async def test_a_person_who_is_signed_in_may_make_a_key_without_an_end(gateway: RunningGateway):
    assert (await gateway.make_key())["apiKey"]["expiresAt"] is None


async def test_a_user_has_so_many_keys_and_no_more(few: RunningGateway):
    for _ in range(MOST):
        assert "secret" in await few.make_key()
    refused = await few.make_key()
    assert (refused["code"], refused["message"]) == (
        "LIMIT_EXCEEDED",
        "The limit of 5 API keys is reached. Revoke one that is not needed.",
    )


async def test_keys_that_are_made_at_once_are_no_more_either(database_url: str, tmp_path: Path, fake: FakeModelServer):
    settings = gateway_settings(tmp_path, database_url, fake.url, max_api_keys_per_user=MOST)
    async with running_gateway(settings, fake) as gateway:
        async with anyio.create_task_group() as tasks:
            for number in range(4 * MOST):
                tasks.start_soon(gateway.make_key, f"key {number}")
        async with gateway.database.reading() as session:
            assert await session.scalar(select(func.count()).select_from(ApiKey)) == MOST


async def test_a_key_that_was_revoked_or_has_expired_does_not_count(few: RunningGateway):
    keys = [await few.make_key() for _ in range(MOST)]
    await revoke(few, keys[0])
    assert "secret" in await few.make_key()
    async with few.database.transaction() as tx:
        await tx.execute(update(ApiKey).values(expires_at=now() - timedelta(seconds=1)))
    assert "secret" in await few.make_key()


async def test_one_users_keys_do_not_count_for_another(few: RunningGateway):
    for _ in range(MOST):
        await few.make_key()
    await few.make_user("ada")
    await few.sign_in("ada")
    assert "secret" in await few.make_key()


async def test_as_many_keys_are_listed_as_a_user_may_have_and_first_those_that_hold(few: RunningGateway):
    kept = await few.make_key("kept")
    for number in range(2 * MOST):
        await revoke(few, await few.make_key(f"ended {number}"))
    names = [key["name"] for key in await listed(few)]
    assert names == ["ended 9", "ended 8", "ended 7", "ended 6", "kept"]
    await revoke(few, kept)
    assert [key["name"] for key in await listed(few)] == [f"ended {number}" for number in (9, 8, 7, 6, 5)]
