"""Who was looked up is remembered for a moment, and yet what this process revokes holds at once."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import anyio
import pytest

from db.clock import now
from gateway.identity import cache
from gateway.identity.cache import TtlCache
from tests.support.fake_model_server import FakeModelServer
from tests.support.gateways import ADMIN, GraphQLErrors, RunningGateway, gateway_settings, running_gateway
from tests.support.polling import pause
from tests.test_dataloaders import statements
from tests.test_identity_keys import refusal, revoke

ME = "{ me { username } }"


@pytest.fixture
async def remembering(tmp_path: Path, sqlite_url: str, fake: FakeModelServer) -> AsyncIterator[RunningGateway]:
    """A gateway that remembers whom it has looked up."""
    settings = gateway_settings(tmp_path, sqlite_url, fake.url, identity_max_age=3600)
    async with running_gateway(settings, fake) as gateway:
        yield gateway


async def test_a_key_that_was_just_looked_up_needs_no_statement(remembering: RunningGateway):
    remembering.token = (await remembering.make_key())["secret"]
    await remembering.run(ME)
    with statements() as asked:
        assert (await remembering.run(ME))["me"]["username"] == ADMIN
    assert asked == []


async def test_a_key_that_is_remembered_stops_at_once_when_revoked(remembering: RunningGateway):
    session, key = remembering.token, await remembering.make_key()
    remembering.token = key["secret"]
    await remembering.run(ME)
    remembering.token = session
    await revoke(remembering, key)
    assert (await refusal(remembering, Authorization=f"Bearer {key['secret']}"))["extensions"]["reason"] == (
        "REVOKED_API_KEY"
    )


async def ask_until_refused(gateway: RunningGateway) -> None:
    with anyio.fail_after(20):
        while True:
            await gateway.run(ME)
            await pause()


async def test_a_key_that_is_remembered_ends_when_it_expires(remembering: RunningGateway):
    soon = now() + timedelta(seconds=0.5)
    remembering.token = (await remembering.make_key(expiresAt=soon.isoformat()))["secret"]
    with pytest.raises(GraphQLErrors, match="expired"):
        await ask_until_refused(remembering)


def test_what_was_looked_up_before_a_change_is_not_remembered():
    values: TtlCache[str, int] = TtlCache(60)
    before = values.version
    values.clear()
    values.put("a", 1, before)
    assert values.get("a") is None


def test_what_is_too_old_is_not_remembered():
    values: TtlCache[str, int] = TtlCache(0)
    values.put("a", 1, values.version)
    assert values.get("a") is None


def test_only_the_last_ones_are_remembered():
    values: TtlCache[int, int] = TtlCache(60)
    for number in range(cache.MOST + 1):
        values.put(number, number, values.version)
    assert (values.get(0), values.get(1)) == (None, 1)


async def test_a_token_costs_one_statement_with_its_session_and_user_and_then_none(remembering: RunningGateway):
    await remembering.sign_in()
    counts: list[int] = []
    for _ in range(2):
        with statements() as asked:
            await remembering.run(ME)
        counts.append(len(asked))
    assert counts == [1, 0]
