"""Generations: started by one call, run by the gateway itself, watched by any number of viewers."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

import anyio
from anyio.abc import TaskGroup
from sqlalchemy.exc import SQLAlchemyError

from auth.principal import Principal
from auth.scopes import Scope
from backends.protocol import ToolCall
from db import queries_generation
from db.engine import Database, DatabaseUnavailable
from db.tables import Generation, UsageRecord, new_id, now
from gateway.catalog import Catalog
from gateway.errors import ErrorCode, NotFound, ShuttingDown, StreamExpired
from gateway.events import Event, Failed, TextDelta, ThinkingDelta, ToolCallRequested
from gateway.queue import Line, Ticket
from gateway.requests import GenerationRequest, chat_request
from gateway.run import Outcome, Run, State
from gateway.streams import StreamLog
from gateway.viewer import Viewer

logger = logging.getLogger(__name__)

LAST_WORD_SECONDS = 2
"""How long a gateway that stops waits for its viewers to take the last event."""

_DATABASE_ERRORS = (SQLAlchemyError, DatabaseUnavailable, OSError)


@dataclass(frozen=True, slots=True)
class GenerationFilter:
    """Which of the caller's generations are wanted; None takes all."""

    states: Sequence[State] | None = None
    model: str | None = None


@dataclass(frozen=True, slots=True)
class Output:
    """Everything a generation has said so far; `failure` is there when it ended with an error."""

    text: str
    thinking: str
    tool_calls: Sequence[ToolCall]
    failure: Failed | None


@dataclass(frozen=True, slots=True)
class Answer:
    """A generation that has ended, and all it said."""

    generation_id: UUID
    output: Output


class Generations:
    """The generations of all users.

    `lines` holds the waiting line of each backend by its name. `tasks` is the task group of the whole
    application: a generation belongs to it and not to the request that started it. `event_interval` is the least
    time in seconds between two events with text that a viewer gets.
    """

    def __init__(
        self,
        database: Database,
        catalog: Catalog,
        log: StreamLog,
        lines: Mapping[str, Line],
        tasks: TaskGroup,
        event_interval: float = 0,
    ) -> None:
        self._database = database
        self._catalog = catalog
        self._log = log
        self._lines = lines
        self._tasks = tasks
        self._event_interval = event_interval
        self._runs: dict[UUID, Run] = {}
        self._stopping = False

    async def start(self, principal: Principal, request: GenerationRequest) -> Generation:
        """Begin, and return at once. Raises InvalidInput, ModelNotFound, Unsupported, Overloaded, ShuttingDown."""
        if self._stopping:
            raise ShuttingDown
        model = await self._catalog.find(request.model)
        if self._stopping:
            raise ShuttingDown
        chat = chat_request(request, model)
        ticket = self._lines[model.backend.name].enter()
        generation = _new_row(principal, request, ticket, model.backend.name)
        run = Run(generation.id, model, chat, request.on_disconnect, ticket, self._log)
        self._runs[generation.id] = run  # from here on `stop` waits for it
        # a caller who leaves meanwhile leaves either nothing or a generation that runs
        with anyio.CancelScope(shield=True):
            try:
                async with self._database.transaction() as tx:
                    tx.add(generation)
                await self._log.open(generation.id)
            except BaseException:
                self._forget(run)
                raise
            self._tasks.start_soon(self._run, run, generation, name=f"generation {generation.id}")
        return generation

    async def start_and_watch(self, principal: Principal, request: GenerationRequest) -> Viewer:
        """Begin, and watch from the first event. Raises what `start` raises; close the viewer in any case."""
        generation = await self.start(principal, request)
        return self._viewer(generation.id, after=0)

    async def complete(self, principal: Principal, request: GenerationRequest) -> Answer:
        """Begin, and wait for the whole answer. Raises what `start` raises.

        A caller who is cancelled meanwhile counts as a viewer who left.
        """
        viewer = await self.start_and_watch(principal, request)
        try:
            return Answer(viewer.generation_id, _output([event async for event in viewer]))
        finally:
            await viewer.aclose()

    async def watch(self, principal: Principal, generation_id: UUID, after: int) -> Viewer:
        """Watch a generation after the sequence number `after`. Raises NotFound; the viewer raises StreamExpired."""
        await self.get(principal, generation_id)
        return self._viewer(generation_id, after)

    async def cancel(self, principal: Principal, generation_id: UUID) -> Generation:
        """End a generation and return it as it ended; one that has ended stays as it is. Raises NotFound."""
        run = self._runs.get(generation_id)  # looked up first: what is not there by now has its end in the database
        generation = await self.get(principal, generation_id)
        if run is None:
            return generation
        run.cancel()
        await run.ended.wait()
        return await self.get(principal, generation_id)

    async def get(self, principal: Principal, generation_id: UUID) -> Generation:
        """One generation of the caller's; an admin may see anyone's. Raises NotFound."""
        async with self._database.reading() as session:
            found = await queries_generation.generations_by_id(session, [generation_id])
        generation = found.get(generation_id)
        if generation is None or (generation.user_id != principal.user_id and not principal.has(Scope.ADMIN)):
            raise NotFound("You have no generation of this id.")
        return generation

    async def by_id(self, ids: Sequence[UUID]) -> list[Generation | None]:
        """Many generations at once, in the order of the ids; whoever asks has checked whose they are."""
        async with self._database.reading() as session:
            found = await queries_generation.generations_by_id(session, ids)
        return [found.get(generation_id) for generation_id in ids]

    async def page(
        self, principal: Principal, wanted: GenerationFilter, first: int, before: UUID | None
    ) -> tuple[Sequence[Generation], bool]:
        """The caller's generations, newest first, older than `before`; and whether there are more."""
        async with self._database.reading() as session:
            rows = await queries_generation.generations_page(
                session,
                principal.user_id,
                limit=first + 1,
                before=before,
                states=wanted.states,
                model=wanted.model,
            )
        return rows[:first], len(rows) > first

    async def output(self, generation_id: UUID) -> Output | None:
        """What a generation has said so far; None when that is no longer kept."""
        try:
            return _output(await self._log.read(generation_id))
        except StreamExpired:
            return None

    async def recover(self) -> None:
        """At start: end the generations that a killed process left behind, so that each has exactly one end."""
        async with self._database.transaction() as tx:
            message = "The gateway stopped while this generation was under way."
            orphans = await queries_generation.fail_unfinished(tx, now(), ErrorCode.INTERRUPTED, message)
        if orphans:
            logger.warning("%d generations of an earlier process were ended as failed", len(orphans))

    async def stop(self, drain_seconds: float) -> None:
        """Take no new work, give what runs `drain_seconds` to finish, and end the rest as failed.

        Returns when the viewers have got the end too, or were too slow to take it.
        """
        self._stopping = True
        runs = list(self._runs.values())
        with anyio.move_on_after(drain_seconds):
            for run in runs:
                await run.ended.wait()
        for run in runs:
            run.shut_down()
        for run in runs:
            await run.ended.wait()
        with anyio.move_on_after(LAST_WORD_SECONDS):
            for run in runs:
                await run.wait_until_unwatched()

    def _viewer(self, generation_id: UUID, after: int) -> Viewer:
        run = self._runs.get(generation_id)
        if run is None:
            return Viewer(self._log, generation_id, after)
        run.viewer_came()
        return Viewer(self._log, generation_id, after, run.viewer_left, self._event_interval)

    async def _run(self, run: Run, generation: Generation) -> None:
        """The task of one generation. Whatever happens, it ends in one record and one terminal event."""
        try:
            await run.execute(self._turn_came)
        finally:
            outcome = run.outcome()
            run.ticket.release()
            with anyio.CancelScope(shield=True):
                await self._record(generation, outcome)
                await run.write_end(outcome)
            del self._runs[generation.id]

    def _forget(self, run: Run) -> None:
        """It was never begun: nobody knows of it."""
        del self._runs[run.generation_id]
        run.ticket.release()
        run.ended.set()

    async def _turn_came(self, generation_id: UUID, queued_ms: int) -> None:
        """Tell the database. Where that fails, the answer comes all the same, and the row is right at the end."""
        try:
            async with self._database.transaction() as tx:
                await queries_generation.mark_running(tx, generation_id, now(), queued_ms)
        except _DATABASE_ERRORS:
            logger.exception("the database does not know that generation %s has begun", generation_id)

    async def _record(self, generation: Generation, outcome: Outcome) -> None:
        """Write the end and the ledger in one transaction. A failure is logged with all numbers, not passed on."""
        ended_at = now()
        try:
            async with self._database.transaction() as tx:
                await queries_generation.mark_ended(tx, generation.id, _ending(outcome) | {"finished_at": ended_at})
                tx.add(
                    UsageRecord(
                        generation_id=generation.id,
                        user_id=generation.user_id,
                        api_key_id=generation.api_key_id,
                        model=generation.model,
                        prompt_tokens=outcome.usage.prompt_tokens,
                        completion_tokens=outcome.usage.completion_tokens,
                        cached_tokens=outcome.usage.cached_tokens,
                        source=outcome.usage.source,
                        at=ended_at,
                        day=ended_at.date(),
                    )
                )
        except Exception:  # in the task group of the whole application it would end everything
            logger.exception("the end of generation %s is not in the database: %s", generation.id, outcome)


def _new_row(principal: Principal, request: GenerationRequest, ticket: Ticket, backend_name: str) -> Generation:
    created_at = now()
    waits = ticket.position > 0
    return Generation(
        id=new_id(),
        user_id=principal.user_id,
        api_key_id=principal.api_key_id,
        model=request.model,
        backend=backend_name,
        state=State.QUEUED if waits else State.RUNNING,
        on_disconnect=request.on_disconnect,
        created_at=created_at,
        started_at=None if waits else created_at,
    )


def _ending(outcome: Outcome) -> dict[str, object]:
    """The columns that tell how a generation ended. PostgreSQL takes no NUL, which a backend's words may hold."""
    return {
        "state": outcome.state,
        "finish_reason": outcome.finish_reason,
        "error_code": outcome.error.code if outcome.error else None,
        "error_message": outcome.error.message[:500].replace("\0", "") if outcome.error else None,
        "prompt_tokens": outcome.usage.prompt_tokens,
        "completion_tokens": outcome.usage.completion_tokens,
        "cached_tokens": outcome.usage.cached_tokens,
        "usage_source": outcome.usage.source,
        "queued_ms": outcome.timings.queued_ms,
        "load_ms": outcome.timings.load_ms,
        "time_to_first_token_ms": outcome.timings.time_to_first_token_ms,
        "total_ms": outcome.timings.total_ms,
    }


def _output(events: Iterable[Event]) -> Output:
    text: list[str] = []
    thinking: list[str] = []
    tool_calls: list[ToolCall] = []
    failure = None
    for event in events:
        match event:
            case TextDelta():
                text.append(event.text)
            case ThinkingDelta():
                thinking.append(event.text)
            case ToolCallRequested():
                tool_calls.append(event.call)
            case Failed():
                failure = event
            case _:
                pass
    return Output("".join(text), "".join(thinking), tool_calls, failure)
