"""Callers that are remembered: those who ask are looked up again in time, so that nobody waits for that."""

from sqlalchemy import update

from auth.api_keys import hash_api_key
from db.clock import now
from db.tables import ApiKey
from gateway.identity import KnownCallers
from tests.support.gateways import RunningGateway


async def key_of(gateway: RunningGateway) -> str:
    """Give the hash of a new API key."""
    return hash_api_key((await gateway.make_key())["secret"])


async def revoke_elsewhere(gateway: RunningGateway, secret_hash: str) -> None:
    async with gateway.database.transaction() as tx:
        await tx.execute(update(ApiKey).where(ApiKey.secret_hash == secret_hash).values(revoked_at=now()))


async def is_revoked(known: KnownCallers, secret_hash: str) -> bool:
    key, _ = (await known.keys([secret_hash]))[secret_hash]
    return key.revoked_at is not None


async def test_who_asks_is_looked_up_again_before_that_is_needed(used_gateway: RunningGateway):
    known, key = KnownCallers(used_gateway.database, 3600), await key_of(used_gateway)
    assert not await is_revoked(known, key)
    assert not await is_revoked(known, key)
    await revoke_elsewhere(used_gateway, key)
    assert not await is_revoked(known, key)
    await known.renew()
    assert await is_revoked(known, key)


async def test_who_asks_no_more_costs_nothing_more(used_gateway: RunningGateway):
    known, key = KnownCallers(used_gateway.database, 3600), await key_of(used_gateway)
    assert not await is_revoked(known, key)
    await revoke_elsewhere(used_gateway, key)
    await known.renew()  # nobody has asked since it was looked up
    assert not await is_revoked(known, key)
