"""Ends generations in every way: `python -m bench.ledger.endings --count 10000`, on SQLite and on PostgreSQL.

One gateway in this process, with the tests' fake model server beside it, runs generations that complete, are cancelled,
lose their client, fail, or go on after a loss, in an order that the seed decides. Then the ledger is compared with what
the fake server has sent and reported: every token is there once, however its generation ended, and no limit has
anything reserved. Ends with 1 where that is not so. Killed processes are in `bench.ledger.limits`.
"""

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import anyio
from sqlalchemy import func, select

from db.clock import new_id
from db.engine import Database, ReadSession
from db.tables import Generation, GenerationAttempt, Limit, LimitCounter, Reservation, UsageRecord
from gateway.generation import State
from tests.support.databases import postgresql_server
from tests.support.fake_model_server import FakeModelServer, running_fake_model_server
from tests.support.gateways import RunningGateway, gateway_settings, running_gateway
from tests.support.generations import CANCEL, COMPLETE, START

AT_ONCE = 32
BATCH = 1_000
"""Endings after which all is compared, and the fake server forgets its requests."""

PATIENCE = 120

COMPLETED = ("fake:count-{}", "fake:together-{}", "fake:length-{}", "fake:no-usage-{}")
FAILED = ("fake:error-{}", "fake:malformed-{}", "fake:truncated-{}", "fake:status-500")
CONTINUED = "fake:breaks-{}-{}"
STALLED = "fake:stall-{}"

TOKENS = (1, 4, 9, 30)
MODELS = sorted(
    {name.format(*some) for name in (*COMPLETED, *FAILED, CONTINUED, STALLED) for some in product(TOKENS, repeat=2)}
)

WEIGHTS = {"completed": 40, "cancelled": 20, "client gone": 20, "failed": 15, "continued": 5}


@dataclass
class Sums:
    """What was sent and reported, and how many generations were begun, by how they are to end."""

    sent: int = 0
    prompts: int = 0
    states: Counter[str] = field(default_factory=Counter[str])

    def add(self, fake: FakeModelServer) -> None:
        """Count the requests that the fake server had, and let it forget them."""
        self.sent += sum(request.sent for request in fake.requests)
        self.prompts += sum(request.reported[0] for request in fake.requests if request.reported is not None)
        fake.requests.clear()


async def end(gateway: RunningGateway, kind: str, chance: random.Random) -> State:
    """Let one generation end in one way; gives the state that it must have."""
    tokens = chance.choice(TOKENS)
    asked: dict[str, Any] = {"prompt": {"text": "word " * chance.randint(1, 20)}}
    match kind:
        case "completed":
            await gateway.run(COMPLETE, {"input": {"model": chance.choice(COMPLETED).format(tokens), **asked}})
            return State.COMPLETED
        case "failed":
            await gateway.run(COMPLETE, {"input": {"model": chance.choice(FAILED).format(tokens), **asked}})
            return State.FAILED
        case "continued":
            model = CONTINUED.format(tokens, chance.choice(TOKENS))
            await gateway.run(COMPLETE, {"input": {"model": model, "onBackendLoss": "CONTINUE", **asked}})
            return State.COMPLETED
        case "cancelled":
            asked |= {"model": STALLED.format(tokens), "onDisconnect": "CONTINUE", "endUser": (name := new_id().hex)}
            started = (await gateway.run(START, {"input": asked}))["startGeneration"]["generation"]
            await came(gateway, name, tokens)
            await gateway.run(CANCEL, {"id": started["id"]})
            return State.CANCELLED
        case _:
            asked |= {"model": STALLED.format(tokens), "endUser": (name := new_id().hex)}
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(gateway.run, COMPLETE, {"input": asked})
                await came(gateway, name, tokens)
                tasks.cancel_scope.cancel()
            return State.CANCELLED


async def came(gateway: RunningGateway, end_user: str, tokens: int) -> None:
    """Wait until all that the model server sends of a generation has come."""
    runner = gateway.app.running.service.runner
    with anyio.fail_after(PATIENCE):
        while True:
            run = next((run for run in runner.runs if run.job.row.end_user == end_user), None)
            if run is not None and run.usage().completion_tokens == tokens:
                return
            await anyio.sleep(0.002)


async def batch(gateway: RunningGateway, count: int, chance: random.Random, sums: Sums) -> None:
    """End so many generations, some at once, and wait until all have ended."""
    kinds = iter(chance.choices(list(WEIGHTS), list(WEIGHTS.values()), k=count))

    async def work(own: random.Random) -> None:
        for kind in kinds:  # all take from one
            sums.states[await end(gateway, kind, own)] += 1

    async with anyio.create_task_group() as tasks:
        for _ in range(AT_ONCE):
            tasks.start_soon(work, random.Random(chance.random()))
    with anyio.fail_after(PATIENCE):
        for run in gateway.app.running.service.runner.runs:
            await run.stopped.wait()
    sums.add(gateway.fake)


async def faults(session: ReadSession, sums: Sums, count: int) -> list[str]:
    """Compare the ledger with what was sent and reported, and tell every difference."""
    tokens = func.sum(UsageRecord.prompt_tokens + UsageRecord.completion_tokens)
    told = GenerationAttempt.prompt_source == "BACKEND"
    states = await session.execute(select(UsageRecord.state, func.count()).group_by(UsageRecord.state))
    same = (UsageRecord.prompt_tokens, UsageRecord.completion_tokens, UsageRecord.state)
    of_row = (Generation.prompt_tokens, Generation.completion_tokens, Generation.state)
    differs = [mine != other for mine, other in zip(same, of_row, strict=True)]
    joined = select(func.count()).select_from(UsageRecord).join(Generation, Generation.id == UsageRecord.generation_id)
    found: dict[str, tuple[object, object]] = {
        "rows": (await session.scalar(select(func.count()).select_from(UsageRecord)), count),
        "states": ({str(state): number for state, number in states}, dict(sums.states)),
        "completion tokens": (await session.scalar(select(func.sum(UsageRecord.completion_tokens))), sums.sent),
        "of the attempts": (await session.scalar(select(func.sum(GenerationAttempt.completion_tokens))), sums.sent),
        "prompt tokens told": (
            await session.scalar(select(func.sum(GenerationAttempt.prompt_tokens)).where(told)),
            sums.prompts,
        ),
        "prompt tokens of ledger and attempts": (
            await session.scalar(select(func.sum(UsageRecord.prompt_tokens))),
            await session.scalar(select(func.sum(GenerationAttempt.prompt_tokens))),
        ),
        "generations unlike their row of the ledger": (
            await session.scalar(joined.where(differs[0] | differs[1] | differs[2])),
            0,
        ),
        "reservations": (await session.scalar(select(func.count()).select_from(Reservation)), 0),
        "reserved": (int(await session.scalar(select(func.sum(LimitCounter.reserved))) or 0), 0),
        "counted by the limit": (
            int(await session.scalar(select(func.sum(LimitCounter.used))) or 0),
            int(await session.scalar(tokens.select()) or 0),
        ),
    }
    return [f"{name}: {is_so}, not {expected}" for name, (is_so, expected) in found.items() if is_so != expected]


async def attempt(name: str, folder: Path, database_url: str, count: int, seed: int) -> bool:
    """Try it on one database, and print it. False: something is not as it must be."""
    chance, sums, began = random.Random(seed), Sums(), time.monotonic()
    quick = {"identity_max_age": 60, "models_max_age": 60, "ollama_parallel": AT_ONCE}
    async with running_fake_model_server() as fake:
        fake.models += MODELS
        settings = gateway_settings(folder, database_url, fake.url, **quick)
        async with running_gateway(settings, fake) as gateway:
            async with gateway.database.transaction() as tx:
                tx.add(Limit(name="all", measure="TOKENS", window="MONTH", amount=10**15, each=[]))
            for first in range(0, count, BATCH):
                await batch(gateway, min(BATCH, count - first), chance, sums)
            database = Database(database_url)
            async with database.reading() as session:
                found = await faults(session, sums, count)
            await database.close()
    seconds = time.monotonic() - began
    ends = ", ".join(f"{number:,} {state.lower()}" for state, number in sorted(sums.states.items()))
    print(f"{name}: {count:,} endings in {seconds:.0f} s, {ends}, {sums.sent:,} tokens sent", flush=True)
    for fault in found:
        print(f"  {fault}", flush=True)
    return not found


def main() -> None:
    """Read the options, try, and tell; ends with 1 where ledger and model server differ."""
    parser = argparse.ArgumentParser(prog="python -m bench.ledger.endings", description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=["sqlite", "postgresql"])
    options = parser.parse_args()
    right = True
    with tempfile.TemporaryDirectory(prefix="bench-") as name, ExitStack() as stack:
        folder = Path(name)
        urls: dict[str, str] = {}
        if options.only != "postgresql":
            urls["sqlite"] = f"sqlite:///{folder / 'ledger.db'}"
        if options.only != "sqlite":
            urls["postgresql"] = stack.enter_context(postgresql_server())
        for database, url in urls.items():
            place = folder / database
            right &= anyio.run(attempt, database, place, url, options.count, options.seed)
    sys.exit(not right)


if __name__ == "__main__":
    main()
