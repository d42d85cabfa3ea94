"""Notes in the database what running generations have used, for whoever has to end them if this gateway dies.

Only where no shared stream log tells it.
"""

from uuid import UUID

from db import queries
from db.engine import Database
from gateway.generation import Runner, usage_columns
from gateway.streams import NO_USAGE, TokenUsage


class UsageNotes:
    """Remembers what was noted last, and writes what has changed since."""

    def __init__(self, database: Database, runner: Runner) -> None:
        self._database = database
        self._runner = runner
        self._noted: dict[UUID, TokenUsage] = {}

    async def write(self) -> None:
        """Write what has changed."""
        rows: list[dict[str, object]] = []
        noted: dict[UUID, TokenUsage] = {}
        for run in self._runner.runs:
            usage = noted[run.generation_id] = run.usage()
            if usage != self._noted.get(run.generation_id, NO_USAGE):
                rows.append(
                    {
                        "row_id": run.generation_id,
                        "row_fence": run.job.row.fence,
                        **usage_columns(usage),
                    }
                )
        if rows:
            async with self._database.transaction() as tx:
                await queries.generation.note_usage(tx, rows)
        self._noted = noted
