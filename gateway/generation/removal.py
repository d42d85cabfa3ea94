"""What is left of the generations of a user who was deleted: their numbers, and no text."""

from collections.abc import Sequence
from uuid import UUID

from db import queries
from db.engine import Database
from gateway.errors import StreamLogUnavailable
from gateway.generation.runner import Runner
from gateway.streams import CancelReason, StreamOwnership


class TextRemoval:
    """Ends what runs for a deleted user, and hides what stream logs still hold of their text until it expires."""

    def __init__(self, database: Database, runner: Runner, ownership: StreamOwnership) -> None:
        self._database = database
        self._runner = runner
        self._ownership = ownership

    async def end_generations(self, user_id: UUID) -> None:
        """Cancel what runs for a user, here and at other replicas, and remove what was kept of it meanwhile.

        What cannot be reached now ends by itself, and its text is not kept.
        """
        async with self._database.reading() as session:
            ids = await queries.user.unfinished_generations(session, user_id)
        runs = [run for run in map(self._runner.get, ids) if run is not None]
        for run in runs:
            run.cancel(CancelReason.REQUESTED)
        here = {run.generation_id for run in runs}
        for generation_id in ids if self._ownership.is_shared else ():
            if generation_id not in here:
                try:
                    await self._ownership.cancel_elsewhere(generation_id)
                except StreamLogUnavailable:
                    break
        for run in runs:
            await run.finished.wait()
        if ids:
            async with self._database.transaction() as tx:
                await queries.user.forget_text(tx, user_id)


async def of_deleted_users(database: Database, ids: Sequence[UUID]) -> set[UUID]:
    """Give those of these generations whose user was deleted: nobody sees their text any more."""
    async with database.reading() as session:
        return await queries.user.are_deleted(session, ids)
