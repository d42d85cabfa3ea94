"""Usage as it happens: who sees what, merged, over all replicas, and however slowly it is read."""

import time
from pathlib import Path
from uuid import UUID, uuid4

import anyio
import pytest

from auth.principal import Principal
from auth.scopes import Scope
from gateway.errors import Forbidden
from gateway.usage import UsageFeed
from gateway.usage.feed import INTERVAL_SECONDS
from tests.support.fake_model_server import FakeModelServer
from tests.support.gateways import GraphQLErrors, Json, RunningGateway, Socket
from tests.support.generations import COMPLETE, asking
from tests.support.valkeys import ValkeyServer
from tests.test_accounts import make, mutate
from tests.test_prices import set_price
from tests.test_replicas import gateways

FOLLOW = """
subscription($all: Boolean) { usageUpdated(allUsers: $all) {
  generations completed completionTokens costs { amount currency } from to
} }
"""
PATIENCE = 30


@pytest.fixture
def gateway(used_gateway: RunningGateway) -> RunningGateway:
    return used_gateway


def row(user_id: UUID, nano: int | None = None, state: str = "COMPLETED") -> dict[str, object]:
    used = {"prompt_tokens": 2, "completion_tokens": 3, "cached_tokens": None, "thinking_tokens": 1}
    return {"user_id": user_id, "state": state, "cost_nano": nano, "currency": nano and "EUR", **used}


def caller(*scopes: Scope) -> Principal:
    return Principal(uuid4(), "ada", frozenset(scopes))


async def spend(gateway: RunningGateway) -> None:
    await gateway.run(COMPLETE, asking("fake:count-3"))


async def update(socket: Socket, id: str = "1") -> Json:
    """The next update of a subscription."""
    with anyio.fail_after(PATIENCE):
        while (message := await socket.receive()).get("id") != id:
            pass
    if message["type"] == "error":
        raise GraphQLErrors(message["payload"])
    return message["payload"]["data"]["usageUpdated"]


async def followed(socket: Socket, id: str = "1", **variables: object) -> None:
    """Begin to follow: what is asked behind it on the same socket is answered when it has begun."""
    await socket.subscribe(FOLLOW, variables, id)
    await socket.subscribe("{ viewer { method } }", id=f"{id} has begun")
    with anyio.fail_after(PATIENCE):
        while (await socket.receive()).get("id") != f"{id} has begun":
            pass


async def test_a_slow_follower_gets_one_sum_of_all_that_came():
    feed, ada = UsageFeed(), caller(Scope.USAGE_READ)
    follower = feed.follow(ada, all_users=False)
    feed.note([row(ada.user_id, 5), row(uuid4(), 7), row(ada.user_id, None, "FAILED")])
    feed.note([row(ada.user_id, 2**60) for _ in range(1000)])
    told = await anext(follower)
    assert (told.sums.completed, told.sums.failed, told.sums.completion_tokens, told.sums.thinking_tokens) == (
        1001,
        1,
        3006,
        1002,
    )
    assert told.sums.costs == (("EUR", 5 + 1000 * 2**60),)
    feed.note([row(ada.user_id)])
    later = await anext(follower)
    assert (later.sums.completed, later.start) == (1, told.end)
    await follower.aclose()
    with pytest.raises(StopAsyncIteration):
        await anext(follower)


async def test_updates_come_no_more_often_than_said():
    feed, ada = UsageFeed(), caller(Scope.USAGE_READ)
    follower = feed.follow(ada, all_users=False)
    feed.note([row(ada.user_id)])
    begun = time.monotonic()  # the clock on the wall may be set while this waits
    await anext(follower)
    feed.note([row(ada.user_id)])
    await anext(follower)
    assert time.monotonic() - begun >= INTERVAL_SECONDS - 0.002  # timers of the loop count whole milliseconds


async def test_all_users_are_for_who_may_see_them():
    feed = UsageFeed()
    with pytest.raises(Forbidden, match="USAGE_READ_ALL"):
        feed.follow(caller(Scope.USAGE_READ), all_users=True)
    follower = feed.follow(caller(Scope.USAGE_READ_ALL), all_users=True)
    feed.note([row(uuid4()), row(uuid4())])
    assert (await anext(follower)).sums.completed == 2


async def test_replicas_tell_each_other_and_nothing_of_what_they_cannot_read():
    here, there, sent = UsageFeed(), UsageFeed(), list[bytes]()
    follower = there.follow(caller(Scope.USAGE_READ_ALL), all_users=True)

    async def send(message: bytes) -> None:
        there.receive(b"\x00 of another version")
        there.receive(b'{"nobody": 1}')
        there.receive(message)
        sent.append(message)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(here.run, send)
        await anyio.lowlevel.checkpoint()
        here.note([row(uuid4(), 5), row(uuid4(), 6)])
        told = await anext(follower)
        tasks.cancel_scope.cancel()
    assert (told.sums.completed, told.sums.costs, len(sent)) == (2, (("EUR", 11),), 1)


async def test_a_subscription_tells_of_own_usage_and_of_everybodys(gateway: RunningGateway):
    await set_price(gateway, promptPerMillion="0", completionPerMillion="2000000")
    await make(gateway, "ada")
    async with gateway.connect() as socket:
        await followed(socket, "mine")
        await followed(socket, "all", all=True)
        await gateway.sign_in("ada")
        await spend(gateway)
        told = await update(socket, "all")
        assert (told["generations"], told["completed"], told["completionTokens"]) == (1, 1, 3)
        assert told["costs"] == [{"amount": "6", "currency": "EUR"}]
        await gateway.be_administrator()
        await spend(gateway)
        assert (await update(socket, "mine"))["generations"] == 1  # and ada's were never among them
    await gateway.sign_in("ada")
    async with gateway.connect() as socket:
        await socket.subscribe(FOLLOW, {"all": True})
        with pytest.raises(GraphQLErrors) as refused:
            await update(socket)
        assert refused.value.code == "FORBIDDEN"


async def test_what_ends_at_one_replica_is_told_at_another(
    sqlite_url: str, valkey: ValkeyServer, tmp_path: Path, fake: FakeModelServer
):
    async with gateways(2, tmp_path, sqlite_url, fake, valkey) as (one, two), one.connect() as socket:
        await followed(socket)
        await spend(two)
        assert (await update(socket))["generations"] == 1


@pytest.mark.parametrize("by_key", [False, True], ids=["role", "key"])
async def test_who_loses_the_right_to_it_is_sent_away(gateway: RunningGateway, by_key: bool):
    name = f"eve-{by_key}".lower()
    eve = await make(gateway, name, role="admin")
    await gateway.sign_in(name)
    key = await gateway.make_key(scopes=["USAGE_READ", "USAGE_READ_ALL"])
    gateway.token = key["secret"] if by_key else gateway.token
    async with gateway.connect() as socket:
        await followed(socket, all=True)
        await gateway.be_administrator()
        if by_key:
            await mutate(gateway, "updateApiKey", "apiKey{id}", id=key["apiKey"]["id"], scopes=["USAGE_READ"])
        else:
            await mutate(gateway, "updateUser", "user", id=eve, role="user")
        messages: list[Json] = []
        with anyio.fail_after(PATIENCE):
            while not messages or messages[-1]["type"] != "complete":
                messages += [message] if (message := await socket.receive())["id"] == "1" else []
    [refused] = messages[-2]["payload"]["errors"]
    assert refused["extensions"]["code"] == "FORBIDDEN"
    assert refused["message"] == "You no longer have the scope USAGE_READ_ALL."


async def test_without_valkey_a_replica_looks_into_the_ledger_for_what_others_have_written(
    sqlite_url: str, tmp_path: Path, fake: FakeModelServer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("gateway.usage.elsewhere.POLL_SECONDS", 0.02)
    monkeypatch.setattr("gateway.usage.elsewhere.MOST_AT_ONCE", 1)
    async with gateways(2, tmp_path, sqlite_url, fake, None) as (one, two), one.connect() as socket:
        await followed(socket)
        for gateway in (one, two, two):
            await spend(gateway)
        told = [await update(socket)]
        while sum(it["generations"] for it in told) < 3:
            told.append(await update(socket))
        assert sum(it["completionTokens"] for it in told) == 9
