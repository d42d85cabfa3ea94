"""Tries limits over real processes: `python -m bench.ledger.limits`. What may not be 0 or over a limit is told.

Gateways over one database, each a process, are asked for more than limits allow; then generations end in every
way while gateways are killed. What was let in, what stays reserved, and whether limits and ledger agree is read from
the database itself.
"""

import argparse
import os
import random
import secrets
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import anyio
import httpx
from sqlalchemy import delete, func, select

from bench import fake, processes
from db.clock import new_id, now
from db.engine import Database
from db.tables import Generation, Limit, LimitCounter, Reservation, UsageRecord
from tests.support.databases import postgresql_server
from tests.support.valkeys import valkey_server

START = """mutation($input: GenerateInput!) { startGeneration(input: $input) {
  __typename ... on StartGenerationSuccess { generation { id } } ... on UserError { code message } } }"""
CANCEL = "mutation($id: ID!) { cancelGeneration(input: {id: $id}) { __typename } }"

REQUESTS, TOKENS, ENDINGS = 10, 20_000, 500
SETTLE_SECONDS = 90


@dataclass
class Site:
    """Gateways over one database."""

    name: str
    database_url: str
    gateways: list[processes.Gateway] = field(default_factory=list[processes.Gateway])


@contextmanager
def site(
    name: str, folder: Path, model_server: str, database_url: str | None, count: int, *, valkey: bool, workers: int
) -> Generator[Site]:
    """Start so many gateways, over PostgreSQL where a URL is given; the first one makes the database."""
    with ExitStack() as stack:
        folder.mkdir()
        others = {"WORKERS": str(workers), "SECRET_KEY": secrets.token_urlsafe(48), "LEASE_TIME": "2"}
        if database_url is not None:
            others["DATABASE_URL"] = database_url
        if valkey:
            server = stack.enter_context(valkey_server(folder))
            anyio.run(server.answers)
            others["REDIS_URL"] = server.url
        url = database_url or f"sqlite:///{folder / 'data' / 'ollagraph.db'}"
        found = Site(name, url)
        for _ in range(count):
            found.gateways.append(stack.enter_context(processes.gateway(folder, model_server, **others)))
        yield found


async def ask(client: httpx.AsyncClient, gateway: processes.Gateway, model: str, tokens: int) -> dict[str, Any]:
    """Start a generation; gives what came of it, or an empty object where the gateway is gone."""
    asked = {
        "model": model,
        "prompt": {"text": "one two three"},
        "options": {"maxTokens": tokens},
        "onDisconnect": "CONTINUE",
    }
    try:
        response = await client.post(
            f"{gateway.url}/graphql",
            json={"query": START, "variables": {"input": asked}},
            headers={"Authorization": f"Bearer {gateway.key}"},
        )
        answer = response.json()
        found = (answer.get("data") or {}).get("startGeneration")
        return found or {"code": answer["errors"][0]["extensions"]["code"]}
    except httpx.HTTPError:
        return {}


async def set_limits(database: Database, *limits: Limit) -> None:
    """Have these limits and no others, and wait until every gateway has read them."""
    async with database.transaction() as tx:
        await tx.execute(delete(Limit))
        tx.add_all(limits)
    await anyio.sleep(4)


def limit(measure: str, amount: int, window: str | None = "DAY") -> Limit:
    """A limit over all callers together."""
    return Limit(id=new_id(), name=measure.lower(), measure=measure, window=window, amount=amount, each=[])


async def settled(database: Database) -> None:
    """Wait until nothing runs any more."""
    with anyio.fail_after(SETTLE_SECONDS):
        while True:
            async with database.reading() as session:
                running = select(func.count()).select_from(Generation).where(Generation.finished_at.is_(None))
                if not await session.scalar(running):
                    return
            await anyio.sleep(0.2)


async def left(database: Database, since: datetime) -> tuple[int, int, int]:
    """Give the rows and the amount that stay reserved, and how far the counter of tokens is from the ledger."""
    async with database.reading() as session:
        rows = await session.scalar(select(func.count()).select_from(Reservation)) or 0
        reserved = await session.scalar(select(func.sum(LimitCounter.reserved))) or 0
        counted = await session.scalar(
            select(LimitCounter.used).join(Limit, Limit.id == LimitCounter.limit_id).where(Limit.measure == "TOKENS")
        )
        tokens = func.sum(UsageRecord.prompt_tokens + UsageRecord.completion_tokens)
        ledger = await session.scalar(select(tokens).where(UsageRecord.at >= since))
    return rows, int(reserved), int(counted or 0) - int(ledger or 0)


async def burst(gateways: Sequence[processes.Gateway], count: int, model: str, tokens: int) -> Counter[str]:
    """Ask so often at once, the gateways taking turns."""
    found: Counter[str] = Counter()

    async def one(number: int) -> None:
        told = await ask(client, gateways[number % len(gateways)], model, tokens)
        found[told.get("code") or told.get("__typename", "gone")] += 1

    async with httpx.AsyncClient(timeout=120) as client, anyio.create_task_group() as tasks:
        for number in range(count):
            tasks.start_soon(one, number)
    return found


async def endings(found: Site, count: int, seed: int) -> int:
    """Begin generations that end in every way, and kill gateways meanwhile; gives how many were killed."""
    chance, killed = random.Random(seed), 0
    alive = list(found.gateways)
    models = (fake.SHORT, fake.COUNT, fake.PACED, *fake.FAULTY)
    async with httpx.AsyncClient(timeout=120) as client:
        for number in range(count):
            told = await ask(client, chance.choice(alive), chance.choice(models), chance.randint(1, 200))
            generation = told.get("generation")
            if generation and chance.random() < 0.6:
                await cancel(client, chance.choice(alive), generation["id"])
            if len(alive) > 1 and number % (count // len(found.gateways)) == count // len(found.gateways) - 1:
                victim = alive.pop()
                os.kill(victim.pid, signal.SIGKILL)
                killed += 1
        await anyio.sleep(3)  # the lease of the last one
        await cancel_all(client, alive[0], found)
    return killed


async def cancel(client: httpx.AsyncClient, gateway: processes.Gateway, generation_id: str) -> None:
    """Cancel, whether or not it can be told."""
    try:
        await client.post(
            f"{gateway.url}/graphql",
            json={"query": CANCEL, "variables": {"id": generation_id}},
            headers={"Authorization": f"Bearer {gateway.key}"},
        )
    except httpx.HTTPError:
        pass


async def cancel_all(client: httpx.AsyncClient, gateway: processes.Gateway, found: Site) -> None:
    """Cancel what stalls, for that has no end."""
    query = "{ generations(first: 100, filter: {states: [QUEUED, RUNNING]}) { nodes { id } } }"
    for _ in range(20):
        response = await client.post(
            f"{gateway.url}/graphql", json={"query": query}, headers={"Authorization": f"Bearer {gateway.key}"}
        )
        nodes = response.json()["data"]["generations"]["nodes"]
        if not nodes:
            return
        for node in nodes:
            await cancel(client, gateway, node["id"])
        await anyio.sleep(0.5)


async def attempt(found: Site, count: int, seed: int) -> bool:
    """Try all of it on one site, and print it. False: something is not as it must be."""
    database = Database(found.database_url)
    await set_limits(database, limit("REQUESTS", REQUESTS))
    requests = await burst(found.gateways, 50, fake.SHORT, 10)
    await settled(database)
    await set_limits(database, limit("TOKENS", TOKENS))
    tokens = await burst(found.gateways, 200, fake.SLOW, 1_000)
    await settled(database)
    async with database.reading() as session:
        used = await session.scalar(select(LimitCounter.used)) or 0
    since = now()
    await set_limits(database, limit("TOKENS", 10**9), limit("PARALLEL", 10**6, None))
    killed = await endings(found, count, seed)
    await settled(database)
    rows, reserved, apart = await left(database, since)
    await database.close()
    admitted, begun = requests["StartGenerationSuccess"], tokens["StartGenerationSuccess"]
    print(
        f"{found.name:<34} of 50 against {REQUESTS}: {admitted}, gone {requests['gone']}; of 200 against {TOKENS:,} "
        f"tokens: {begun}, used {used:,}; {count} endings, {killed} killed: reserved {rows} rows, {reserved}; "
        f"limit less ledger {apart}",
        flush=True,
    )
    return admitted == REQUESTS and used <= TOKENS and (rows, reserved, apart) == (0, 0, 0)


def main() -> None:
    """Read the options, try, and tell; ends with 1 where a limit did not hold."""
    parser = argparse.ArgumentParser(prog="python -m bench.ledger.limits", description=__doc__)
    parser.add_argument("--endings", type=int, default=ENDINGS)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="sites whose names hold this")
    options = parser.parse_args()
    processes.allow_open_files()
    right = True
    with tempfile.TemporaryDirectory(prefix="bench-") as name, ExitStack() as stack:
        folder = Path(name)
        model_server = stack.enter_context(processes.fake_model_server(folder))
        postgresql = stack.enter_context(postgresql_server())
        sites = (
            ("SQLite, 1 process", None, 1, False, 1),
            ("SQLite, 2 workers with a Valkey", None, 1, False, 2),
            ("PostgreSQL, 1 process", postgresql, 1, False, 1),
            ("PostgreSQL, 4 processes", postgresql, 4, False, 1),
            ("PostgreSQL, 4 processes and a Valkey", postgresql, 4, True, 1),
        )
        wanted = [it for it in sites if options.only in it[0]]
        for number, (label, url, count, valkey, workers) in enumerate(wanted):
            place = folder / str(number)
            with site(label, place, model_server, url, count, valkey=valkey, workers=workers) as found:
                right &= anyio.run(attempt, found, options.endings, options.seed)
    sys.exit(not right)


if __name__ == "__main__":
    main()
