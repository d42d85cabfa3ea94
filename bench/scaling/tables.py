"""The costs and what follows from them, as tables in Markdown."""

import re
from collections.abc import Sequence

from bench.scaling.costs import Costs
from bench.scaling.fleet import FULL, Load, limits, needs

STREAMS = (1_000, 10_000, 100_000, 1_000_000)

BLOCK = re.compile(r"(<!-- python -m bench\.scaling: begin -->\n).*?(<!-- end -->)", re.DOTALL)
"""Where a document has the tables."""


def put_into(document: str, costs: Costs) -> str:
    """Give a document with the tables of these costs in it."""
    return BLOCK.sub(lambda found: f"{found[1]}\n{show(costs)}\n\n{found[2]}", document)


def show(costs: Costs) -> str:
    """All tables."""
    load = Load(1)
    stated = (
        f"Assumed: {load.tokens_per_second:.0f} tokens/s in each open stream, {load.tokens_per_answer:.0f} tokens in "
        f"an answer, {load.tokens_per_batch:.0f} token in a batch, {load.elsewhere:.0%} of the streams watched at "
        f"another worker, and parts that are filled to {FULL:.0%} of a core."
    )
    return "\n\n".join([_costs(costs), _rest(costs), stated, _needs(costs), _limits(costs)])


def _costs(costs: Costs) -> str:
    names = {
        "worker_us": "worker, CPU microseconds",
        "other_us": "the viewer's worker, CPU microseconds",
        "valkey_us": "Valkey, CPU microseconds",
        "valkey_calls": "Valkey, scripts",
        "valkey_commands": "Valkey, commands in them",
        "valkey_in_bytes": "Valkey, bytes in",
        "valkey_out_bytes": "Valkey, bytes out",
        "valkey_bytes": "Valkey, bytes of memory",
        "database_us": "PostgreSQL, CPU microseconds",
        "database_commits": "PostgreSQL, commits",
        "database_rows": "PostgreSQL, rows written",
        "database_wal_bytes": "PostgreSQL, bytes of log",
    }
    pieces = ("generation", "batch", "follower")
    rows = [[name, *(_number(costs[piece][key]) for piece in pieces)] for key, name in names.items()]
    return _table(["", "a generation", "a token batch", "a batch for a viewer at another worker"], rows)


def _rest(costs: Costs) -> str:
    worker, opened, waiting, message = costs["worker"], costs["open"], costs["waiting"], costs["message"]
    full, report = costs["full"], costs["report"]
    rows = [
        ["token at full speed, many in a batch: CPU of the worker", f"{_number(full['worker_us'])} microseconds"],
        ["token at full speed: CPU of Valkey", f"{_number(full['valkey_us'])} microseconds"],
        ["open stream with its socket: memory of the worker", f"{opened['worker_bytes'] / 1000:,.1f} kB"],
        ["open stream: memory of Valkey", f"{opened['valkey_bytes'] / 1000:,.1f} kB"],
        ["silent stream: CPU of the worker in a second", f"{_number(waiting['worker_us'])} microseconds"],
        ["silent stream: CPU of Valkey in a second", f"{_number(waiting['valkey_us'])} microseconds"],
        ["silent stream: scripts in a second", _number(waiting["valkey_calls"])],
        ["idle worker: CPU in a second", f"{worker['worker_us'] / 1000:,.1f} ms"],
        ["idle worker: scripts in a second", _number(worker["valkey_calls"] / 2)],
        ["report over 30 days: CPU of the worker", f"{report['worker_us'] / 1000:,.1f} ms"],
        ["the same: CPU of PostgreSQL", f"{report['database_us'] / 1000:,.1f} ms"],
        ["the same with a tenth of the generations", f"{report['of_few_us'] / 1000:,.1f} ms"],
        [
            f"message in a cluster of {message['servers']:.0f}: CPU of the server that sends it",
            f"{_number(message['sender_us'])} microseconds",
        ],
        ["message in a cluster: CPU of each other server", f"{_number(message['receiver_us'])} microseconds"],
        ["the same message, sharded: CPU of one server", f"{_number(message['sharded_us'])} microseconds"],
    ]
    return _table(["", "cost"], rows)


def _needs(costs: Costs) -> str:
    found = [needs(costs, Load(streams)) for streams in STREAMS]
    rows = [
        ["tokens/s", *(f"{Load(streams).tokens:,.0f}" for streams in STREAMS)],
        ["generations/s", *(f"{Load(streams).answers:,.0f}" for streams in STREAMS)],
        ["workers (cores)", *(f"{each.workers:,}" for each in found)],
        ["workers that merge tokens, as full ones do", *(f"{each.merging:,}" for each in found)],
        ["memory of the workers", *(_bytes(each.worker_memory) for each in found)],
        [
            "Valkey servers, without replicas",
            *(f"{each.valkeys:,}" if each.valkeys else "not enough" for each in found),
        ],
        ["Valkey, scripts/s", *(f"{each.valkey_calls:,.0f}" for each in found)],
        ["Valkey, memory for running streams", *(_bytes(each.valkey_memory) for each in found)],
        ["Valkey, memory to keep all for an hour", *(_bytes(each.kept) for each in found)],
        ["Valkey, traffic", *(f"{_bytes(each.valkey_traffic)}/s" for each in found)],
        ["PostgreSQL, cores", *(f"{each.database_cores:,.1f}" for each in found)],
        ["PostgreSQL, commits/s", *(f"{each.commits:,.0f}" for each in found)],
        ["PostgreSQL, log", *(f"{_bytes(each.wal)}/s" for each in found)],
        ["ledger, rows a day", *(f"{each.rows_per_day:,.0f}" for each in found)],
    ]
    return _table(["open streams", *(f"{streams:,}" for streams in STREAMS)], rows)


def _limits(costs: Costs) -> str:
    order = sorted(limits(costs).items(), key=lambda limit: limit[1])
    return _table(["what gives way", "open streams"], [[name, f"{most:,}"] for name, most in order])


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---", *["--:"] * (len(heads) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _number(value: float) -> str:
    """A cost; what is less than the measurement can tell is nothing."""
    if value < 0.05:
        return "0"
    return f"{value:,.1f}" if value < 100 else f"{value:,.0f}"


def _bytes(value: float) -> str:
    for unit in ("kB", "MB", "GB", "TB"):
        value /= 1000
        if value < 1000:
            return f"{value:,.1f} {unit}"
    return f"{value:,.0f} PB"
