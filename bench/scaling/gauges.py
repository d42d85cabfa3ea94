"""What the parts have used so far: processor time and counts, which change little with the load of the machine."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import asyncpg
import psutil
from redis import asyncio as redis


@dataclass(frozen=True)
class Used:
    """Sums since the start of each part; the difference of two is what was used between them."""

    worker_us: float
    worker_bytes: float
    other_us: float
    """Of the second worker."""
    valkey_us: float
    valkey_calls: float
    """Scripts that were run."""
    valkey_commands: float
    """Commands, those within scripts too."""
    valkey_in_bytes: float
    valkey_out_bytes: float
    valkey_bytes: float
    """Memory."""
    database_us: float
    database_commits: float
    database_rows: float
    """Rows that were inserted or changed."""
    database_wal_bytes: float

    def since(self, before: "Used", by: float = 1) -> dict[str, float]:
        """Give what was used since then, for each of `by` pieces of work."""
        earlier = asdict(before)
        return {name: (value - earlier[name]) / by for name, value in asdict(self).items()}


@dataclass(frozen=True)
class Gauges:
    """Where to look."""

    workers: Sequence[int]
    valkey_url: str
    database: asyncpg.Connection

    async def read(self) -> Used:
        """Look at everything now."""
        async with redis.Redis.from_url(self.valkey_url) as client:
            cpu, stats = await client.info("cpu"), await client.info("stats")
            memory, commands = await client.info("memory"), await client.info("commandstats")
        row = await self.database.fetchrow(
            "SELECT pg_backend_pid() AS pid, xact_commit AS commits, tup_inserted + tup_updated AS rows, "
            "pg_current_wal_insert_lsn() - '0/0'::pg_lsn AS wal "
            "FROM pg_stat_database WHERE datname = current_database()"
        )
        workers = [psutil.Process(pid) for pid in self.workers]
        return Used(
            worker_us=_cpu_us(workers[0]),
            worker_bytes=workers[0].memory_info().rss,
            other_us=_cpu_us(workers[1]),
            valkey_us=(cpu["used_cpu_user"] + cpu["used_cpu_sys"]) * 1e6,
            valkey_calls=sum(found["calls"] for name, found in commands.items() if name.startswith("cmdstat_eval")),
            valkey_commands=sum(found["calls"] for found in commands.values()),
            valkey_in_bytes=stats["total_net_input_bytes"],
            valkey_out_bytes=stats["total_net_output_bytes"],
            valkey_bytes=memory["used_memory"],
            database_us=sum(_cpu_us(process) for process in _servers(row["pid"])),
            database_commits=row["commits"],
            database_rows=row["rows"],
            database_wal_bytes=float(row["wal"]),
        )


def _cpu_us(process: psutil.Process) -> float:
    times = process.cpu_times()
    return (times.user + times.system) * 1e6


def _servers(backend: int) -> list[psutil.Process]:
    """PostgreSQL's main process and all that it has started: one for each connection, and those that write."""
    main = psutil.Process(backend).parent()
    assert main is not None
    return [main, *main.children()]
