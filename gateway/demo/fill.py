"""Writes the sample data, a portion at a time."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from random import Random
from typing import Any

from db import queries
from db.clock import now
from db.engine import Database
from gateway.demo.conversations import made_up_talk
from gateway.demo.people import make_company
from gateway.demo.year import DemoSize, Year
from gateway.generation import OnDisconnect, State
from gateway.usage import UsageUpkeep

ROWS_AT_ONCE = 5_000
"""Rows of one transaction."""

LAST_SHOWN = 5_000
"""How many of the last generations are in the list of generations, and not only in the ledger."""

LAST_TALKS = 300
"""How many of these have their prompt and their answer."""

KEPT_DAYS = 365


class DatabaseInUse(Exception):
    """The database has data that nobody wants among made-up data."""

    def __init__(self) -> None:
        super().__init__(
            "The database has users, keys, prices or generations already. Sample data is for a new database: set "
            "OLLAGRAPH_DATA_DIR or OLLAGRAPH_DATABASE_URL to another one."
        )


class Demo:
    """Fills a database with sample data."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def fill(self, size: DemoSize, told: Callable[[int], None]) -> None:
        """Make it up and write it. `told` is called with the number of generations after each portion.

        Raises DatabaseInUse where there is more in the database than one user, the first administrator. What was
        written stays where it is interrupted.
        """
        random = Random(size.seed)  # noqa: S311 - nothing secret: it has to come out the same each time
        company = make_company(random, size.users, size.begin, size.until)
        async with self._database.transaction() as tx:
            if not await queries.demo.is_new(tx):
                raise DatabaseInUse
            tx.add_all([*company.groups, *company.prices, *(person.user for person in company.people)])
            await tx.flush()
            tx.add_all([*company.members(), *(key for person in company.people for key in person.keys)])
        last: deque[dict[str, Any]] = deque(maxlen=LAST_SHOWN)
        written = 0
        for rows in _portions(Year(random, size, company).rows()):
            async with self._database.transaction() as tx:
                await queries.demo.add_usage(tx, rows)
            last.extend(rows)
            written += len(rows)
            told(written)
        await self._write_shown(random, list(last))

    async def sum_up(self) -> int:
        """Add what was written to the sums of reports, as a gateway does in the background; give how many rows."""
        upkeep = UsageUpkeep(self._database, usage_retention=0)
        added = await upkeep.catch_up()
        await upkeep.make_months()
        return added

    async def _write_shown(self, random: Random, rows: Sequence[dict[str, Any]]) -> None:
        completed = [row for row in rows if row["state"] is State.COMPLETED][-LAST_TALKS:]
        expires_at = now() + timedelta(days=KEPT_DAYS)
        talks = [made_up_talk(random, row) | {"expires_at": expires_at} for row in completed]
        async with self._database.transaction() as tx:
            await queries.demo.add_generations(tx, [_generation(row) for row in rows], talks)


def _portions(days: Iterator[list[dict[str, Any]]]) -> Iterator[list[dict[str, Any]]]:
    """Give the rows of days in portions of ROWS_AT_ONCE."""
    waiting: list[dict[str, Any]] = []
    for day in days:
        waiting += day
        while len(waiting) >= ROWS_AT_ONCE:
            yield waiting[:ROWS_AT_ONCE]
            waiting = waiting[ROWS_AT_ONCE:]
    if waiting:
        yield waiting


_SAME = (
    *("user_id", "api_key_id", "model", "backend", "state", "tags", "end_user", "group_ids", "finish_reason"),
    *("cancel_reason", "error_code", "prompt_tokens", "completion_tokens", "cached_tokens", "thinking_tokens"),
    *("queued_ms", "time_to_first_token_ms", "last_token_ms", "eval_ms", "total_ms"),
)
"""The columns that a generation has as its row of the ledger has them."""


def _generation(row: dict[str, Any]) -> dict[str, Any]:
    created_at = row["at"] - timedelta(milliseconds=row["total_ms"])
    return {
        **{name: row[name] for name in _SAME},
        "id": row["generation_id"],
        "fence": 1,
        "on_disconnect": OnDisconnect.CANCEL,
        "error_message": row["error_code"] and "The model server did not answer in time.",
        "usage_source": row["source"],
        "cost_nano": row["cost_nano"],
        "currency": row["currency"],
        "created_at": created_at,
        "started_at": created_at + timedelta(milliseconds=row["queued_ms"]),
        "finished_at": row["at"],
    }
