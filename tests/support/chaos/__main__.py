"""Breaks everything under thousands of streams, and counts what was lost: `make chaos`.

Three gateways over PostgreSQL and Valkey, before two model servers. Clients are cut at random and go on at another
gateway; gateways and model servers are killed, or gateways stand still; Valkey is started anew or loses keys at random,
and Valkey or the database takes no writes for a while. Ends with status 1 where a character was lost or doubled, a
stream hung, a generation has not exactly one end, or the usage of one that no killed process touched is not exact. Of
the others it is at least what was shown, and at most what was sent: what was on its way to a process when it was killed
came to nobody. A text that is told as gone (STREAM_EXPIRED) is no loss where a gateway was killed while Valkey took
nothing, keys were evicted, or the Valkey of workers, which keeps nothing on disk, was started anew. What a generation
has used is in Valkey alone while it runs: where a key of it was evicted and its gateway was killed, nobody else knows.
"""

import argparse
import random
import signal
import sys
import tempfile
from contextlib import AbstractAsyncContextManager, suppress
from pathlib import Path

import anyio
from redis.exceptions import RedisError

from schema.node import parse_uuid
from tests.support.chaos.program import Program
from tests.support.chaos.report import UNDER_WAY, Record, ledger, report, sent
from tests.support.chaos.streams import Stream, Tally
from tests.support.chaos.world import MODELS, World, crash_database, refusing_database, running_world

DEADLINE_SECONDS = 180

LAST_ENDS_SECONDS = 30

PAUSE_SECONDS = 6.0
"""Twice the time after which a silent gateway counts as dead here."""

SHORT = {"streams": 80, "at_once": 40, "gateways": 2, "gateway_kills": 3.4, "model_kills": 4.0, "valkey_restart": 3.0}
"""What CI has time for: under half a minute. A gateway is killed while Valkey is away."""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.support.chaos", description=__doc__)
    parser.add_argument("--streams", type=int, default=2000)
    parser.add_argument("--at-once", type=int, default=150)
    parser.add_argument("--gateways", type=int, default=3)
    parser.add_argument("--workers", type=int, default=0, help="one gateway of so many workers, over SQLite")
    parser.add_argument("--gateway-kills", type=float, default=5.0, help="seconds between two; 0 for none")
    parser.add_argument("--gateway-pauses", type=float, default=0, help="seconds between two; 0 for none")
    parser.add_argument("--model-kills", type=float, default=7.0, help="seconds between two; 0 for none")
    parser.add_argument("--valkey-restart", type=float, default=12.0, help="seconds until it; 0 for none")
    parser.add_argument("--valkey-refuses", type=float, default=0, help="seconds in which it takes no writes")
    parser.add_argument("--valkey-refuses-after", type=float, default=6.0, help="seconds until that begins")
    parser.add_argument("--database-refuses", type=float, default=0, help="seconds in which it takes no writes")
    parser.add_argument("--database-refuses-after", type=float, default=6.0, help="seconds until that begins")
    parser.add_argument("--database-crashes", type=float, default=0, help="seconds between two; 0 for none")
    parser.add_argument("--evict", type=float, default=0, help="keys that Valkey loses in a second, at random")
    parser.add_argument("--text-retention", type=int, default=0, help="seconds that the database keeps texts")
    parser.add_argument("--gently", action="store_true", help="stop gateways with SIGTERM: a rolling restart")
    parser.add_argument("--drain", type=int, default=10, help="seconds that a stopped gateway's streams have to finish")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", help="a folder for the logs of all processes")
    parser.add_argument("--short", action="store_true", help="fewer streams, for CI")
    if "--short" in sys.argv:
        parser.set_defaults(**SHORT)
    return parser.parse_args()


async def kill_gateways(world: World, options: argparse.Namespace, chance: random.Random) -> None:
    """One at a time; the next when the last one is back."""
    while options.gateway_kills:
        await anyio.sleep(options.gateway_kills)
        gateway = chance.choice(world.gateways)
        await gateway.end(signal.SIGTERM if options.gently else signal.SIGKILL)
        async with world.starts:
            await again(gateway)


async def pause_gateways(world: World, options: argparse.Namespace, chance: random.Random) -> None:
    """Until the others have taken over from them: then they come back, and must not write."""
    while options.gateway_pauses:
        await anyio.sleep(options.gateway_pauses)
        async with world.starts:
            await chance.choice(world.gateways).pause(PAUSE_SECONDS)


async def kill_models(world: World, options: argparse.Namespace, chance: random.Random) -> None:
    while options.model_kills:
        await anyio.sleep(options.model_kills)
        model = chance.choice(world.models)
        await model.end()
        await anyio.sleep(1)
        await again(model)


async def restart_valkey(world: World, options: argparse.Namespace) -> None:
    if options.valkey_restart:
        await anyio.sleep(options.valkey_restart)
        async with world.valkey_troubles:
            await world.valkey.restart()


async def refuse_writes(world: World, options: argparse.Namespace) -> None:
    refusing = world.valkey.refusing("full memory")
    seconds, after = options.valkey_refuses, options.valkey_refuses_after
    await without_writes("Valkey", world.valkey_troubles, refusing, seconds, after)


async def close_database(world: World, options: argparse.Namespace) -> None:
    """Of PostgreSQL as after a failover, of SQLite as of a busy file."""
    refusing = refusing_database(world.database_url)
    seconds, after = options.database_refuses, options.database_refuses_after
    await without_writes("the database", world.starts, refusing, seconds, after)


async def without_writes(
    store: str, alone: anyio.Lock, refusing: AbstractAsyncContextManager[None], seconds: float, after: float
) -> None:
    """Let a store take no writes for a while, if any."""
    if seconds:
        await anyio.sleep(after)
        async with alone, refusing:
            print(f"{store} takes no writes for {seconds} s", flush=True)
            await anyio.sleep(seconds)
        print(f"{store} takes writes again", flush=True)


async def crash_databases(world: World, options: argparse.Namespace) -> None:
    while options.database_crashes:
        await anyio.sleep(options.database_crashes)
        async with world.starts:
            await crash_database(world.database_url)


async def evict(world: World, options: argparse.Namespace, tally: Tally) -> None:
    """Take keys away as a full memory does, whatever they are."""
    async with world.valkey.client() as client:
        while options.evict:
            await anyio.sleep(1 / options.evict)
            with suppress(RedisError, OSError):  # it is being started anew
                if (key := await client.randomkey()) is not None:
                    await client.delete(key)
                    tally.evicted.append(key.decode())


async def again(program: Program) -> None:
    program.launch()
    await program.answers()


async def stream_all(world: World, streams: list[Stream], at_once: int) -> None:
    limiter = anyio.CapacityLimiter(at_once)

    ended = 0

    async def one(stream: Stream) -> None:
        nonlocal ended
        async with limiter:
            await stream.run(world)
        ended += 1
        if ended % 200 == 0:
            print(f"{ended} streams have ended", flush=True)

    with anyio.move_on_after(DEADLINE_SECONDS):
        async with anyio.create_task_group() as tasks:
            for stream in streams:
                tasks.start_soon(one, stream)
    stuck = [stream for stream in streams if not stream.is_over]
    print(f"streams that hung                                {len(stuck)}")
    rows = await ledger(world.database_url) if stuck else {}
    for stream in stuck:
        row = rows.get(str(parse_uuid(stream.id, "Generation"))) if stream.id else None
        print(f"no end in {DEADLINE_SECONDS} s: {stream.name} {stream.id} after {stream.sequence}, row {row}")
    if stuck:
        sys.exit(1)


async def main(options: argparse.Namespace, folder: Path) -> int:
    chance, tally = random.Random(options.seed), Tally()
    streams = [
        Stream(
            name=f"s{number}",
            model=chance.choice(MODELS),
            continues=number % 2 == 0,
            chance=random.Random(chance.random()),
            tally=tally,
        )
        for number in range(options.streams)
    ]
    settings = {"DRAIN_TIME": str(options.drain), "TEXT_RETENTION": str(options.text_retention)}
    async with running_world(folder, options.gateways, options.workers, **settings) as world:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(kill_gateways, world, options, random.Random(chance.random()))
            tasks.start_soon(pause_gateways, world, options, random.Random(chance.random()))
            tasks.start_soon(kill_models, world, options, random.Random(chance.random()))
            tasks.start_soon(restart_valkey, world, options)
            tasks.start_soon(refuse_writes, world, options)
            tasks.start_soon(close_database, world, options)
            tasks.start_soon(crash_databases, world, options)
            tasks.start_soon(evict, world, options, tally)
            await stream_all(world, streams, options.at_once)
            tasks.cancel_scope.cancel()
        for program in [*world.gateways, *world.models]:
            assert program.process is not None
            if program.process.poll() is not None:
                program.launch()
            await program.answers()
        limiter = anyio.CapacityLimiter(50)
        async with anyio.create_task_group() as tasks:
            for stream in streams:
                tasks.start_soon(_read_again, stream, world, limiter)
        rows = await ended(world.database_url)
        gateways, models = ([each.deaths for each in programs] for programs in (world.gateways, world.models))
        print(f"deaths of gateways {gateways}, of model servers {models}")
        forgets = options.evict or (options.workers and options.valkey_restart)
        may_expire = bool(forgets and not options.text_retention)
        return report(streams, rows, sent(world.journal), tally, may_expire=may_expire)


async def ended(database_url: str) -> dict[str, Record]:
    """Wait for the ends that nobody watched to the last, as of those whose text was told as gone; then give all."""
    rows = await ledger(database_url)
    with anyio.move_on_after(LAST_ENDS_SECONDS):
        while any(row.state in UNDER_WAY for row in rows.values()):
            await anyio.sleep(0.5)
            rows = await ledger(database_url)
    return rows


async def _read_again(stream: Stream, world: World, limiter: anyio.CapacityLimiter) -> None:
    async with limiter:
        await stream.read_again(world)


if __name__ == "__main__":
    wanted = arguments()
    with tempfile.TemporaryDirectory(prefix="olg") as temporary:
        place = Path(wanted.keep or temporary)
        place.mkdir(parents=True, exist_ok=True)
        sys.exit(1 if anyio.run(main, wanted, place, backend_options={"use_uvloop": True}) else 0)
