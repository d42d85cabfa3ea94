"""What a number of open streams needs of each part, and which part gives way first: a model made of measured costs.

All parts are filled to `FULL` of a core, so that peaks find room. Workers and the servers of a cluster are added as
they are needed; PostgreSQL is one server, and its cores are what it needs.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from bench.scaling.costs import Costs

FULL = 0.6
"""How much of a core is used before another one is taken."""

DATABASE_CORES = 16
"""Of the PostgreSQL server at which a fleet is called too large for it."""

DAY = 86_400


@dataclass(frozen=True)
class Load:
    """Streams that are open at one time, and what they do."""

    streams: int
    tokens_per_second: float = 20
    tokens_per_answer: float = 400
    tokens_per_batch: float = 1
    elsewhere: float = 0.05
    """The share that is watched at another worker than the one that generates it."""
    reports_per_stream: float = 1 / 10_000
    """Reports in a second."""

    @property
    def tokens(self) -> float:
        """Tokens in a second."""
        return self.streams * self.tokens_per_second

    @property
    def batches(self) -> float:
        """Token batches in a second."""
        return self.tokens / self.tokens_per_batch

    @property
    def answers(self) -> float:
        """Generations that begin, and end, in a second."""
        return self.tokens / self.tokens_per_answer


@dataclass(frozen=True)
class Needs:
    """What it takes."""

    workers: int
    merging: int
    """Workers, if each has so much to do that it merges tokens as at full speed."""
    worker_memory: float
    """Bytes of all workers, beyond what each has at its start."""
    valkeys: int | None
    """Servers, without their replicas; None where no number of them is enough."""
    valkey_calls: float
    """Scripts in a second."""
    valkey_memory: float
    """Bytes of all streams that run."""
    valkey_traffic: float
    """Bytes in a second, to Valkey."""
    kept: float
    """Bytes for what ended in the last hour; OLLAGRAPH_REDIS_MEMORY bounds it."""
    database_cores: float
    commits: float
    rows_per_day: float
    wal: float
    """Bytes in a second."""


def needs(costs: Costs, load: Load) -> Needs:
    """Add up what every token, generation, viewer and report costs in each part."""
    batch, generation, follower = costs["batch"], costs["generation"], costs["follower"]
    reports = load.streams * load.reports_per_stream
    answer = generation["valkey_bytes"] + load.tokens_per_answer / load.tokens_per_batch * batch["valkey_bytes"]
    worker_us = (
        load.batches * (batch["worker_us"] + load.elsewhere * follower["other_us"])
        + load.answers * generation["worker_us"]
        + reports * costs["report"]["worker_us"]
    )
    workers = math.ceil(worker_us / (1e6 * FULL))
    merged_us = load.tokens * costs["full"]["worker_us"] + load.answers * generation["worker_us"]
    return Needs(
        workers=workers,
        merging=math.ceil(merged_us / (1e6 * FULL)),
        worker_memory=load.streams * costs["open"]["worker_bytes"],
        valkeys=_valkeys(costs, load, workers),
        valkey_calls=load.batches * batch["valkey_calls"] + load.answers * generation["valkey_calls"],
        valkey_memory=load.streams * (costs["open"]["valkey_bytes"] + answer / 2),
        valkey_traffic=load.batches * batch["valkey_in_bytes"] + load.answers * generation["valkey_in_bytes"],
        kept=load.answers * 3600 * answer,
        database_cores=(load.answers * generation["database_us"] + reports * costs["report"]["database_us"])
        / 1e6
        / FULL,
        commits=load.answers * generation["database_commits"],
        rows_per_day=load.answers * DAY,
        wal=load.answers * generation["database_wal_bytes"],
    )


def _valkeys(costs: Costs, load: Load, workers: int) -> int | None:
    """Count the servers that are needed: each takes its part of the streams, and all of the messages."""
    own = (
        load.batches * (costs["batch"]["valkey_us"] + load.elsewhere * costs["follower"]["valkey_us"])
        + load.answers * costs["generation"]["valkey_us"]
    )
    # each worker looks at every server, with scripts as short as those that write; two of them were measured
    looked_at = workers * costs["worker"]["valkey_calls"] / 2 * costs["batch"]["valkey_us"]
    if own + looked_at <= 1e6 * FULL:
        return 1
    left = 1e6 * FULL - looked_at - messages_us(costs, load)
    return math.ceil(own / left) if left > 0 else None


def messages_us(costs: Costs, load: Load) -> float:
    """What the messages of a cluster cost each of its servers in a second: all go to all, and to their replicas."""
    message = costs["message"]
    return load.batches * load.elsewhere * (message["receiver_us"] + 2 * message["sender_us_per_server"])


def limits(costs: Costs) -> dict[str, float]:
    """Give how many open streams fill each part, if the other parts had room; the least gives way first."""

    def most(fits: Callable[[Load], bool]) -> int:
        low, high = 0, 10**9
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if fits(Load(middle)) else (low, middle - 1)
        return low

    return {
        "one worker (one core)": most(lambda load: needs(costs, load).workers <= 1),
        "one worker that merges tokens": most(lambda load: needs(costs, load).merging <= 1),
        "one Valkey": most(lambda load: needs(costs, load).valkeys == 1),
        f"PostgreSQL with {DATABASE_CORES} cores": most(
            lambda load: needs(costs, load).database_cores <= DATABASE_CORES
        ),
        "a Valkey Cluster, by its messages": most(lambda load: needs(costs, load).valkeys is not None),
    }
