"""What gateways count together in one Valkey, over a socket and in a cluster: requests by address, and what is open.

A server of a cluster that is lost costs what it counts, until it or another one is there.
"""

import gc
import logging
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import anyio
import pytest

from db.clock import new_id
from gateway.connections import SharedConnections
from gateway.request_limits import RequestBucket, parse_request_rules
from gateway.request_limits.memory import CountsInMemory
from gateway.streams import OpenCounts, RequestCounts
from tests.support.polling import pause
from tests.support.valkeys import ValkeyCluster, ValkeyServer, ask, valkey_server
from tests.test_request_limits import let_in, shared_limits, together

HOUR = 3600
PARALLEL = 50


@pytest.fixture(scope="module")
async def socket_url(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """A server that listens on a socket."""
    folder = tmp_path_factory.mktemp("socket")
    socket = folder / "valkey.sock"
    with valkey_server(folder, options=["--unixsocket", str(socket)]) as server:
        await server.answers()
        yield f"unix://{socket}"


@pytest.fixture(params=["valkey", "socket_url", "formed"])
def url(request: pytest.FixtureRequest) -> str:
    """The URL of each kind of Valkey that there is."""
    found: ValkeyServer | ValkeyCluster | str = request.getfixturevalue(request.param)
    return found if isinstance(found, str) else found.url


async def test_what_is_counted_is_told_in_the_order_in_which_it_was_asked(url: str):
    async with aclosing(RequestCounts(url)) as one, aclosing(RequestCounts(url)) as other:
        keys = [f"order:{number}" for number in range(50)]
        assert await one.probe()
        first = await one.add([(key, HOUR, number + 1) for number, key in enumerate(keys)])
        second = await other.add([(key, HOUR, 1) for key in reversed(keys)])
    assert [counted and counted[0] for counted in first] == list(range(1, 51))
    assert [counted and counted[0] for counted in second] == list(range(51, 1, -1))
    assert all(counted is not None and HOUR - 60 < counted[1] <= HOUR for counted in (*first, *second))


async def test_no_connection_is_left_open_by_who_has_been_cancelled(url: str, recwarn: pytest.WarningsRecorder):
    counts = RequestCounts(url)
    await counts.add([("cancelled", HOUR, 1)])
    with anyio.CancelScope() as scope:
        scope.cancel()
        await counts.aclose()
    del counts
    gc.collect()
    assert [str(warning.message) for warning in recwarn if warning.category is ResourceWarning] == []


async def test_a_window_ends_though_requests_go_on(url: str):
    async with aclosing(RequestCounts(url)) as counts:
        await counts.add([("short", 1, 1)])
        with anyio.fail_after(30):
            while (await counts.add([("short", 1, 1)]))[0] != (1, 1.0):
                await pause()


async def test_at_many_gateways_at_once_exactly_as_many_are_let_in_as_may_be(url: str):
    async with shared_limits(url, "30/hour") as one, shared_limits(url, "30/hour") as other:
        for host in ("192.0.2.1", "192.0.2.2", "192.0.2.3"):
            gateways = [one, other] * (PARALLEL // 2)
            assert sum(await together(PARALLEL, lambda: let_in(gateways.pop(), host))) == 30  # noqa: B023 - called here


async def test_a_flood_of_addresses_is_shared_no_further_than_memory_reaches(url: str):
    memory = CountsInMemory(most=20)
    async with shared_limits(url, "1/hour", memory=memory) as limits:
        assert [await let_in(limits, f"203.0.{number}.1") for number in range(100)] == [True] * 100
        assert len(memory) == 20


async def test_servers_that_have_forgotten_the_script_count(cluster: ValkeyCluster):
    async with aclosing(RequestCounts(cluster.url)) as counts:
        asked = [(f"script:{number}", HOUR, 1) for number in range(50)]
        await counts.add(asked)
        for server in cluster.servers:
            await ask(server, "SCRIPT", "FLUSH")
        assert [counted and counted[0] for counted in await counts.add(asked)] == [2] * 50


async def hosts_at(cluster: ValkeyCluster, server: ValkeyServer, rule: str, *, elsewhere: bool) -> list[str]:
    """Some addresses that this server counts, or that others do."""
    (item,) = parse_request_rules(rule)
    found: list[str] = []
    for host in (f"198.51.100.{number}" for number in range(1, 40)):
        key = f"ollagraph:requests:{item.key_for(RequestBucket.ANONYMOUS, host)}"
        if (await cluster.primary_of_key(key) is server) is not elsewhere:
            found.append(host)
    return found


async def are_back(caplog: pytest.LogCaptureFixture, times: int) -> None:
    """Return when gateways have told so often that they count together again."""
    with anyio.fail_after(60):
        while sum("is back" in message for message in caplog.messages) < times:
            await pause()


async def test_a_lost_server_costs_its_own_counts_until_it_is_back(
    cluster: ValkeyCluster, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr("gateway.request_limits.shared.RETRY_SECONDS", 0.05)
    caplog.set_level(logging.WARNING, "gateway.request_limits.shared")
    rule = "2/hour"
    await cluster.stay()
    lost = await cluster.primary_of_key("ollagraph:requests:any")
    own, others = [await hosts_at(cluster, lost, rule, elsewhere=elsewhere) for elsewhere in (False, True)]
    async with shared_limits(cluster.url, rule) as one, shared_limits(cluster.url, rule) as other:
        lost.freeze()
        try:
            assert [await let_in(it, own[0]) for it in (one, other) * 3] == [True] * 4 + [False] * 2, "each for itself"
            assert [await let_in(it, others[0]) for it in (one, other) * 2] == [True] * 2 + [False] * 2, "together"
        finally:
            lost.thaw()
        await are_back(caplog, 2)
        assert [await let_in(it, own[1]) for it in (one, other) * 2] == [True] * 2 + [False] * 2, "together again"
    assert len(caplog.messages) == 4, "each tells once that a server was away, and once that it is back"


async def test_gateways_count_together_where_another_server_has_taken_the_slots(
    cluster: ValkeyCluster, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr("gateway.request_limits.shared.RETRY_SECONDS", 0.05)
    caplog.set_level(logging.WARNING, "gateway.request_limits.shared")
    rule = "3/hour"
    lost = await cluster.primary_of_key("ollagraph:requests:any")
    own = await hosts_at(cluster, lost, rule, elsewhere=False)
    async with shared_limits(cluster.url, rule) as one, shared_limits(cluster.url, rule) as other:
        lost.kill()
        assert [await let_in(it, own[0]) for it in (one, other)] == [True, True]
        await are_back(caplog, 2)
        assert await cluster.primary_of_key("ollagraph:requests:any") is not lost
        assert [await let_in(it, own[1]) for it in (one, other) * 2] == [True] * 3 + [False], "together again"


@asynccontextmanager
async def open_connections(url: str) -> AsyncIterator[SharedConnections]:
    """What one gateway counts of its connections."""
    connections = SharedConnections(OpenCounts(url, new_id()))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(connections.run)
        yield connections
        tasks.cancel_scope.cancel()
    await connections.leave()


async def count_together(one: SharedConnections, other: SharedConnections) -> None:
    """Return when each gateway knows of what is open at the other one."""
    with anyio.fail_after(60):
        for first, second in ((one, other), (other, one)):
            name = str(new_id())
            await first.take(name, 1)
            while await second.take(name, 1):
                second.give_back(name)
                await pause()
            first.give_back(name)


async def test_connections_are_counted_at_all_gateways_together(url: str):
    async with open_connections(url) as one, open_connections(url) as other:
        await count_together(one, other)
        gateways = [one, other] * (PARALLEL // 2)
        assert sum(await together(PARALLEL, lambda: gateways.pop().take("ada", 30))) == 30


async def test_connections_count_together_where_another_server_has_taken_their_slot(
    cluster: ValkeyCluster, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("gateway.connections.RENEWAL_SECONDS", 0.05)
    async with open_connections(cluster.url) as one, open_connections(cluster.url) as other:
        await count_together(one, other)
        assert [await it.take("ada", 3) for it in (one, other)] == [True, True]
        lost = await cluster.primary_of_key("ollagraph:{open}:alive")
        lost.kill()
        await count_together(one, other)
        assert await cluster.primary_of_key("ollagraph:{open}:alive") is not lost
        assert [await it.take("ada", 3) for it in (one, other)] == [True, False]
