"""Streams over a Valkey Cluster: what holds for one server holds, and a server that is gone costs its own alone."""

import inspect
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, aclosing
from itertools import count
from pathlib import Path
from typing import Any
from uuid import UUID

import anyio
import pytest
from redis.crc import key_slot

from db.clock import new_id
from gateway.errors import StreamExpired, StreamLogUnavailable
from gateway.streams.events import Event, Started
from gateway.streams.shared import SharedStreamLog
from gateway.streams.valkey import UnusableValkey, Valkey, check_valkey
from gateway.streams.valkey.keys import ClusterKeys
from tests import test_stream_log as contract
from tests.support.damage import begun, end, read, said
from tests.support.fake_model_server import FakeModelServer
from tests.support.generations import WATCH, start, text_of
from tests.support.polling import pause
from tests.support.shared.logs import NEVER, PLENTY, Heard, running_log
from tests.support.valkeys import ValkeyCluster, ValkeyServer, ask
from tests.test_replicas import gateways


def contract_calls() -> Iterator[tuple[str, Callable[..., Any], dict[str, Any]]]:
    """Everything that the contract asks of any log, with its parameters."""
    for name, test in vars(contract).items():
        if not name.startswith("test_") or "log" not in inspect.signature(test).parameters:
            continue
        marks = [mark for mark in getattr(test, "pytestmark", []) if mark.name == "parametrize"]
        for values in [{mark.args[0]: value} for mark in marks for value in mark.args[1]] or [{}]:
            yield name, test, values


async def test_the_contract_of_a_stream_log_holds(cluster: ValkeyCluster):
    async with AsyncExitStack() as stack:
        log = await contract.pair(stack, cluster, NEVER, PLENTY)
        calls = list(contract_calls())
        assert len(calls) > 15
        for name, test, values in calls:
            try:
                await test(log, **values)
            except BaseException as error:
                error.add_note(f"in {name} {values}")
                raise


async def begun_at(log: SharedStreamLog, cluster: ValkeyCluster, server: ValkeyServer, *, elsewhere: bool) -> UUID:
    """A stream of three events that one server keeps, or another one."""
    for _ in count():
        stream = await begun(log, 3)
        if (await cluster.primary_of(stream) is server) is not elsewhere:
            return stream
    raise AssertionError


async def test_streams_go_on_where_another_server_takes_their_slots(cluster: ValkeyCluster):
    async with running_log(cluster) as one, running_log(cluster) as other:
        done = await begun(one, 3)
        await one.append(done, [end(4)])
        lost = await cluster.primary_of(done)
        hit = await begun_at(one, cluster, lost, elsewhere=False)
        spared = await begun_at(one, cluster, lost, elsewhere=True)
        seen: dict[UUID, list[Event]] = {hit: [], spared: []}

        async def watch(stream: UUID) -> None:
            seen[stream] = await read(other, stream)

        with anyio.fail_after(60):
            async with anyio.create_task_group() as tasks:
                for stream in seen:
                    tasks.start_soon(watch, stream)
                lost.kill()
                for number in range(4, 40):
                    for stream in seen:
                        await one.append(stream, said(number, number))
                await one.append(spared, [end(40)])  # returns when Valkey has it
                await one.append(hit, [end(40)])
            assert await cluster.primary_of(hit) is not lost
            assert seen == {stream: [Started(1, 0), *said(2, 39), end(40)] for stream in seen}
            while True:  # the end of what had ended before may have been with the lost server alone
                try:
                    assert await read(other, done, finished=True) == [Started(1, 0), *said(2, 3), end(4)]
                    break
                except (StreamExpired, StreamLogUnavailable):
                    await pause()


async def test_only_streams_whose_slots_are_gone_go_on_from_memory(
    cluster: ValkeyCluster, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("gateway.streams.mirrors.PATIENCE_SECONDS", 0.5)
    await cluster.stay()
    heard = Heard()
    async with running_log(cluster, handlers=heard) as one, running_log(cluster) as other:
        hit = await begun(one, 3)
        lost = await cluster.primary_of(hit)
        spared = await begun_at(one, cluster, lost, elsewhere=True)
        with anyio.fail_after(60):
            async with aclosing(other.follow(hit)) as theirs, aclosing(other.follow(spared)) as others:
                await anext(theirs)
                await anext(others)
                for server in [*await cluster.replicas_of(lost), lost]:
                    server.kill()
                await one.append(hit, [*said(4, 5)])
                await one.append(spared, [*said(4, 5)])
                assert list(await anext(others)) == said(4, 5)
                async for batch in one.follow(hit, 3):  # after the time of grace
                    if batch[-1].sequence == 5:
                        break
                assert heard.detached == {hit}
                assert one.mirrored
                assert one.trouble is not None
                assert one.trouble.startswith("1 streams cannot be written.")
                await one.append(spared, [end(6)])
                assert [event async for batch in others for event in batch] == [end(6)]
                with pytest.raises(StreamLogUnavailable):
                    await anext(theirs)
            await cluster.restore()
            await one.append(hit, [end(6)])
            while heard.detached:
                await pause()
            assert await read(other, hit) == [Started(1, 0), *said(2, 5), end(6)]
            assert one.trouble is None


async def test_a_stream_follows_its_slot_to_another_server(cluster: ValkeyCluster):
    async with running_log(cluster) as one, running_log(cluster) as other:
        stream = await begun(one, 3)
        source, slot = await cluster.primary_of(stream), key_slot(ClusterKeys().stream(stream)[0].encode())
        target = await cluster.primary_of(await begun_at(one, cluster, source, elsewhere=True))
        ids = {server.port: (await ask(server, "CLUSTER", "MYID")).decode() for server in (source, target)}
        async with aclosing(other.follow(stream)) as batches:
            seen = list(await anext(batches))
            await ask(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", ids[source.port])
            await ask(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", ids[target.port])
            await one.append(stream, said(4, 4))  # its keys are still there
            await one.flush(stream)
            while keys := await ask(source, "CLUSTER", "GETKEYSINSLOT", slot, 100):  # others' streams share the slot
                await ask(source, "MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)
            with anyio.fail_after(30):
                await one.append(stream, said(5, 5))  # they are at the other one, which is to be asked for them
                await one.flush(stream)
                for server in (target, source):
                    await ask(server, "CLUSTER", "SETSLOT", slot, "NODE", ids[target.port])
                await one.append(stream, [*said(6, 7), end(8)])
                seen += [event async for batch in batches for event in batch]
        assert seen == [Started(1, 0), *said(2, 7), end(8)]
        assert one.trouble is None


async def test_gateways_hear_each_other_wherever_they_listen(cluster: ValkeyCluster):
    async with AsyncExitStack() as stack:
        heard = Heard()
        one = await stack.enter_async_context(running_log(cluster, handlers=heard))
        others = [await stack.enter_async_context(running_log(cluster)) for _ in range(4)]
        stream = await begun(one, 3)
        for number, other in enumerate(others):
            await stack.enter_async_context(aclosing(batches := other.follow(stream)))
            await anext(batches)
            assert await one.followers(stream) == (number + 1, 0)
        with anyio.fail_after(30):
            for other in others:
                assert await other.cancel_elsewhere(stream)
            assert await heard.until("cancel") == stream
            await others[0].call_for_orphans()
            await heard.until("orphans")


async def test_nobody_listens_to_a_gateway_that_was_killed(cluster: ValkeyCluster):
    async with running_log(cluster) as other:
        async with running_log(cluster) as one:
            stream = await begun(one, 3)
        assert not await other.cancel_elsewhere(stream)


async def test_what_has_ended_takes_no_more_than_allowed(cluster: ValkeyCluster):
    async with running_log(cluster) as one, running_log(cluster) as other:
        streams = [await begun(one, 2) for _ in range(60)]
        for stream in streams:
            await one.append(stream, [end(3)])
        await ask(await cluster.primary_of_key("ollagraph:trim"), "DEL", "ollagraph:trim")
        books = Valkey(cluster.url, new_id(), retention=60, max_stream_bytes=10**6, max_bytes=3000)
        await books.trim()
        await books.trim()  # does nothing: somebody has just done it
        left = [stream for stream in streams if await books.read(stream) is not None]
        await books.aclose()
        assert 2 < len(left) < 15
        assert left == streams[-len(left) :]  # the oldest go first, whatever book they are in
        for stream in left:
            assert len(await read(other, stream)) == 3


async def test_a_generation_is_watched_at_another_gateway(
    tmp_path: Path, sqlite_url: str, fake: FakeModelServer, cluster: ValkeyCluster
):
    async with gateways(2, tmp_path, sqlite_url, fake, cluster) as (one, other):
        id = await start(one, "fake:count-5", onDisconnect="CONTINUE")
        assert text_of(await other.events(WATCH, {"id": id})) == "0 1 2 3 4 "
        assert (await one.client.get("/readyz")).json()["streamLog"] == {"ready": True}


async def test_a_url_that_says_server_for_a_cluster_or_cluster_for_a_server_is_refused(
    cluster: ValkeyCluster, valkey: ValkeyServer
):
    with pytest.raises(UnusableValkey, match="a server of a cluster: let it begin with redis\\+cluster://"):
        await check_valkey(cluster.servers[0].url)
    with pytest.raises(UnusableValkey, match="no part of a cluster: let it begin with redis://"):
        await check_valkey(f"redis+cluster://127.0.0.1:{valkey.port}")
    await check_valkey(cluster.url)
