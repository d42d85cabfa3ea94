"""Measures what each piece of work costs, with two workers, Valkey and PostgreSQL as a fleet has them."""

import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import asdict
from pathlib import Path

import anyio
import asyncpg
import httpx
import orjson
from redis.crc import key_slot
from websockets.asyncio.client import ClientConnection

from bench import paths, processes
from bench.fake import COUNT, HOLD, SHORT, SLOW
from bench.memory import START, WATCH
from bench.paths import PROMPT, Failed, graphql_socket, subscribe
from bench.scaling.gauges import Gauges, Used
from tests.support.damage import begun, keys
from tests.support.databases import postgresql_server
from tests.support.shared.logs import running_log
from tests.support.valkeys import PRIMARIES, ValkeyServer, valkey_cluster, valkey_server

SHORT_ANSWERS, AT_ONCE = 200, 10
SLOW_STREAMS, SLOW_ROUNDS, SLOW_TOKENS = 24, 2, 60
FULL_STREAMS, FULL_TOKENS = 32, 256
SILENT_STREAMS, SILENT_SECONDS = 200, 15.0
KEPT_BATCHES = (2, 402)
LEDGERS = (5_000, 50_000)
REPORTS = 8
MESSAGES, MESSAGE_BYTES = 20_000, 300
STATISTICS_SECONDS = 11.0
"""After how long PostgreSQL's processes have told how many transactions they made."""

LONGEST_SECONDS = 1200

REPORT = "{ usage { totals { generations completionTokens } rows { nodes { start totals { generations } } } } }"

Costs = dict[str, dict[str, float]]


async def measure() -> Costs:
    """Start everything, measure one piece of work after another, end everything."""
    with tempfile.TemporaryDirectory(prefix="scaling-") as name, ExitStack() as stack:
        folder = Path(name)
        for own in ("valkey", "one", "other", "cluster"):
            (folder / own).mkdir()
        database_url = stack.enter_context(postgresql_server())
        valkey = stack.enter_context(valkey_server(folder / "valkey"))
        await valkey.answers()
        model_server = stack.enter_context(processes.fake_model_server(folder))
        settings = {"REDIS_URL": valkey.url, "DATABASE_URL": database_url, "SECRET_KEY": "of the bench alone" * 3}
        one = stack.enter_context(processes.gateway(folder / "one", model_server, **settings))
        other = stack.enter_context(processes.gateway(folder / "other", model_server, **settings))
        database = await asyncpg.connect(database_url)
        try:
            gauges = Gauges([one.pid, other.pid], valkey.url, database)
            with anyio.fail_after(LONGEST_SECONDS):
                costs = await _measured(one, other, gauges, valkey)
        finally:
            await database.close()
        costs["message"] = await _message(folder / "cluster")
    return costs


async def _measured(one: processes.Gateway, other: processes.Gateway, gauges: Gauges, valkey: ValkeyServer) -> Costs:
    nothing = dict.fromkeys(asdict(await gauges.read()), 0.0)
    await _each(one, gauges, SHORT, AT_ONCE, 3, nothing)  # warms it up
    await _each(other, gauges, SHORT, AT_ONCE, 3, nothing)
    idle = await _idle(gauges)
    said("generations")
    generation = await _each(one, gauges, SHORT, AT_ONCE, SHORT_ANSWERS // AT_ONCE, idle)
    said("tokens")
    slow = await _each(one, gauges, SLOW, SLOW_STREAMS, SLOW_ROUNDS, idle)
    batches = slow["valkey_calls"] - generation["valkey_calls"]
    batch = {name: (slow[name] - generation[name]) / batches for name in slow}
    said("viewers at another worker")
    watched = await _watched(one, other, gauges, idle)
    follows = 2  # a viewer elsewhere comes, and is told to the others when it leaves
    batches_watched = watched["valkey_calls"] - generation["valkey_calls"] - follows
    follower = {name: (watched[name] - generation[name]) / batches_watched - batch[name] for name in slow}
    said("what is kept")
    kept_answer, kept_batch = await _kept(valkey)
    said("tokens of a worker that has more than it can do")
    full = await _each(one, gauges, COUNT, FULL_STREAMS, 1, idle)
    full = {name: (full[name] - generation[name]) / FULL_TOKENS for name in full}
    said("silent streams")
    silent, waiting = await _silent(one, gauges, idle)
    said("reports")
    found = {
        "worker": idle,
        "generation": generation | {"valkey_bytes": kept_answer},
        "batch": batch | {"valkey_bytes": kept_batch, "tokens": (SLOW_TOKENS - 1) / batches},
        "follower": follower | {"valkey_bytes": 0},
        "full": full,
        "open": silent,
        "waiting": waiting,
        "report": await _report(one, gauges, idle),
    }
    # what is less than the measurement can tell is nothing
    return {piece: {name: max(value, 0.0) for name, value in each.items()} for piece, each in found.items()}


def said(what: str) -> None:
    """Tell how far it is."""
    print(f"measuring {what} ...", flush=True)


async def _idle(gauges: Gauges) -> dict[str, float]:
    """What is used in a second in which nothing is asked."""
    before, begun = await gauges.read(), time.perf_counter()
    await anyio.sleep(SILENT_SECONDS)
    return (await gauges.read()).since(before, time.perf_counter() - begun)


def _less_idle(after: Used, before: Used, seconds: float, idle: dict[str, float], by: float) -> dict[str, float]:
    return {name: (value - idle[name] * seconds) / by for name, value in after.since(before).items()}


async def _each(
    gateway: processes.Gateway, gauges: Gauges, model: str, streams: int, rounds: int, idle: dict[str, float]
) -> dict[str, float]:
    """What one answer of a model costs, from its question to its end, on sockets that are open already."""
    path = paths.gateway(gateway.url, gateway.key, gateway.pid)
    async with AsyncExitStack() as stack:
        asks = [await stack.enter_async_context(path.connect()) for _ in range(streams)]
        await _answers(asks, SHORT, 1)
        before, begun = await gauges.read(), time.perf_counter()
        await _answers(asks, model, rounds)
        await anyio.sleep(STATISTICS_SECONDS)
        return _less_idle(await gauges.read(), before, time.perf_counter() - begun, idle, streams * rounds)


async def _answers(asks: Sequence[paths.Ask], model: str, rounds: int) -> None:
    async def ask_again_and_again(ask: paths.Ask) -> None:
        for _ in range(rounds):
            async for _ in ask(model):
                pass

    async with anyio.create_task_group() as tasks:
        for ask in asks:
            tasks.start_soon(ask_again_and_again, ask)


async def _watched(
    one: processes.Gateway, other: processes.Gateway, gauges: Gauges, idle: dict[str, float]
) -> dict[str, float]:
    """What one answer costs that somebody else watches at another worker."""

    async def ask(socket: ClientConnection, watching: ClientConnection) -> None:
        for number in range(SLOW_ROUNDS):
            generation = await _begin(socket, str(number), SLOW)
            await subscribe(watching, str(number), WATCH, {"id": generation})
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_to_the_end, socket)
                tasks.start_soon(_to_the_end, watching)

    async with AsyncExitStack() as stack:
        askers = [await stack.enter_async_context(graphql_socket(one.url, one.key)) for _ in range(SLOW_STREAMS)]
        viewers = [await stack.enter_async_context(graphql_socket(other.url, other.key)) for _ in range(SLOW_STREAMS)]
        before, begun = await gauges.read(), time.perf_counter()
        async with anyio.create_task_group() as tasks:
            for socket, watching in zip(askers, viewers, strict=True):
                tasks.start_soon(ask, socket, watching)
        await anyio.sleep(STATISTICS_SECONDS)
        seconds = time.perf_counter() - begun
        return _less_idle(await gauges.read(), before, seconds, idle, SLOW_STREAMS * SLOW_ROUNDS)


async def _begin(socket: ClientConnection, id: str, model: str) -> str:
    await subscribe(socket, id, START, {"input": {"model": model, "prompt": {"text": PROMPT}}})
    message = orjson.loads(await socket.recv())
    if message["type"] != "next" or "errors" in message["payload"]:
        raise Failed(str(message))
    return message["payload"]["data"]["generate"]["generationId"]


async def _to_the_end(socket: ClientConnection) -> None:
    while orjson.loads(await socket.recv(decode=False))["type"] != "complete":
        pass


async def _kept(valkey: ValkeyServer) -> tuple[float, float]:
    """Give the memory of Valkey for a stream without its batches, and for each batch of one token in it."""
    sizes: list[int] = []
    async with running_log(valkey) as log, valkey.client() as client:
        for count in KEPT_BATCHES:
            stream = await begun(log, count)
            sizes.append(sum([await client.memory_usage(key, samples=0) for key in keys(stream)]))
    slope = (sizes[1] - sizes[0]) / (KEPT_BATCHES[1] - KEPT_BATCHES[0])
    return sizes[0] - slope * KEPT_BATCHES[0], slope


async def _silent(
    gateway: processes.Gateway, gauges: Gauges, idle: dict[str, float]
) -> tuple[dict[str, float], dict[str, float]]:
    """What opening a stream takes, on a socket of its own; and what it takes in each second in which it is silent."""
    async with AsyncExitStack() as stack:
        before = await gauges.read()
        for number in range(SILENT_STREAMS):
            socket = await stack.enter_async_context(graphql_socket(gateway.url, gateway.key))
            await _begin(socket, str(number), HOLD)
        opened, begun = await gauges.read(), time.perf_counter()
        await anyio.sleep(SILENT_SECONDS)
        seconds = time.perf_counter() - begun
        waiting = _less_idle(await gauges.read(), opened, seconds, idle, SILENT_STREAMS * seconds)
    return opened.since(before, SILENT_STREAMS), waiting


async def _report(gateway: processes.Gateway, gauges: Gauges, idle: dict[str, float]) -> dict[str, float]:
    """What a report over the last 30 days costs with few generations in them, and with many: it reads their sums."""
    found: list[dict[str, float]] = []
    rows = 0
    headers = {"Authorization": f"Bearer {gateway.key}"}
    async with httpx.AsyncClient(base_url=gateway.url, headers=headers, timeout=60, trust_env=False) as client:
        for size in LEDGERS:
            await _fill_ledger(gauges.database, size - rows)
            rows = size
            await _ask_for_report(client, size)  # warms it up
            before, begun = await gauges.read(), time.perf_counter()
            for _ in range(REPORTS):
                await _ask_for_report(client, size)
            seconds = time.perf_counter() - begun
            found.append(_less_idle(await gauges.read(), before, seconds, idle, REPORTS))
    few, many = found
    return {name: many[name] for name in ("worker_us", "database_us")} | {"of_few_us": few["database_us"]}


async def _ask_for_report(client: httpx.AsyncClient, least: int) -> None:
    answer = (await client.post("/graphql", json={"query": REPORT})).json()
    if "errors" in answer or answer["data"]["usage"]["totals"]["generations"] < least:
        raise Failed(str(answer)[:1000])


async def _fill_ledger(database: asyncpg.Connection, count: int) -> None:
    """Add copies of one row, spread over the last 29 days, and wait until the gateways have added them to the sums."""
    columns = await database.fetch(
        "SELECT column_name FROM information_schema.columns WHERE table_name = 'usage' AND table_schema = 'public' "
        "AND column_name NOT IN ('generation_id', 'at', 'rolled_up')"
    )
    names = ", ".join(row["column_name"] for row in columns)
    await database.execute(
        f"INSERT INTO usage (generation_id, at, rolled_up, {names}) "
        f"SELECT gen_random_uuid(), now() - interval '29 days' * random(), false, {names} "
        f"FROM (SELECT * FROM usage LIMIT 1) AS one, generate_series(1, {count})"
    )
    while await database.fetchval("SELECT EXISTS (SELECT FROM usage WHERE NOT rolled_up)"):  # noqa: ASYNC110
        await anyio.sleep(0.5)
    await database.execute("ANALYZE")


async def _message(folder: Path) -> dict[str, float]:
    """What a message costs the server of a cluster that sends it, and each that passes it on; sharded, one alone."""
    said("messages in a cluster")
    with valkey_cluster(folder) as cluster:
        await cluster.form()
        first = cluster.servers[0]
        slot_end = 16384 // PRIMARIES
        sharded = next(name for number in range(10**6) if key_slot((name := f"c{number}").encode()) < slot_end)
        plain = await _published(cluster.servers, first, "PUBLISH", "ollagraph:replica:x")
        alone = await _published(cluster.servers, first, "SPUBLISH", sharded)
    receivers = plain[1:]
    return {
        "servers": len(plain),
        "sender_us": plain[0],
        "sender_us_per_server": (plain[0] - alone[0]) / len(receivers),
        "receiver_us": statistics.mean(receivers),
        "sharded_us": alone[0],
    }


async def _published(servers: Sequence[ValkeyServer], sender: ValkeyServer, word: str, channel: str) -> list[float]:
    """Microseconds of each server for one message."""
    before = await _cpu_of(servers)
    async with sender.client() as client:
        for _ in range(MESSAGES // 200):
            pipeline = client.pipeline(transaction=False)
            for _ in range(200):
                pipeline.execute_command(word, channel, b"x" * MESSAGE_BYTES)
            await pipeline.execute()
    await anyio.sleep(1)  # until all have passed it on
    return [(after - earlier) / MESSAGES for after, earlier in zip(await _cpu_of(servers), before, strict=True)]


async def _cpu_of(servers: Sequence[ValkeyServer]) -> list[float]:
    found: list[float] = []
    for server in servers:
        async with server.client() as client:
            cpu = await client.info("cpu")
        found.append((cpu["used_cpu_user"] + cpu["used_cpu_sys"]) * 1e6)
    return found
