"""Generations: started by one call, run by the gateway itself, watched by any number of viewers."""

from collections.abc import AsyncGenerator, Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

import anyio
from sqlalchemy.exc import IntegrityError

from auth.principal import Principal
from auth.scopes import Scope
from backends.protocol import ToolCall
from db import queries_generation, queries_transcript
from db.engine import Database
from db.tables import Generation, new_id, now
from gateway.catalog import Catalog
from gateway.errors import GatewayError, NotFound, ShuttingDown, StreamExpired, StreamLogUnavailable, TooMuchText
from gateway.event_codec import decode_transcript
from gateway.events import Event, Failed, TextDelta, ThinkingDelta, ToolCallRequested
from gateway.idempotency import begun_under, check_key, note_key
from gateway.requests import GenerationRequest, chat_request
from gateway.run import Job, Route, Run, State
from gateway.runner import Runner
from gateway.streams import StreamLog
from gateway.viewer import Viewer

CANCEL_SECONDS = 10
"""How long another gateway may take to end a generation that it was asked to cancel."""


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

    `runner` runs them, and `log` holds what they say. `event_interval` is the least time in seconds between two
    events with text that a viewer gets.
    """

    def __init__(
        self, database: Database, catalog: Catalog, log: StreamLog, runner: Runner, event_interval: float = 0
    ) -> None:
        self._database = database
        self._catalog = catalog
        self._log = log
        self._runner = runner
        self._event_interval = event_interval

    @property
    def stopping(self) -> bool:
        """Whether new work is refused."""
        return self._runner.stopping

    async def start(self, principal: Principal, request: GenerationRequest) -> Generation:
        """Begin, and return at once; under an idempotency key that was used before, what that began.

        Raises InvalidInput, ModelNotFound, Unsupported, Overloaded, ShuttingDown.
        """
        check_key(request.idempotency_key)
        if request.idempotency_key is not None and (begun := await self._begun_under(principal, request)):
            return begun
        if self.stopping:
            raise ShuttingDown
        model = await self._catalog.find(request.model)
        if self.stopping:
            raise ShuttingDown
        chat = chat_request(request, model)
        route = self._runner.enter(model)
        row = self._new_row(principal, request, route)
        run = self._runner.admit(Job(row, chat), route)
        try:
            await self._launch(principal, request, run)
        except IntegrityError:
            if request.idempotency_key is None or (begun := await self._begun_under(principal, request)) is None:
                raise
            return begun
        return row

    async def start_and_watch(self, principal: Principal, request: GenerationRequest) -> Viewer:
        """Begin, and watch from the first event. Raises what `start` raises; close the viewer in any case."""
        return self._viewer(await self.start(principal, request), after=0)

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
        return self._viewer(await self.get(principal, generation_id), after)

    async def cancel(self, principal: Principal, generation_id: UUID) -> Generation:
        """End a generation and return it as it ended; one that has ended stays as it is.

        Raises NotFound, and StreamLogUnavailable where the gateway that runs it cannot be told now.
        """
        run = self._runner.get(generation_id)  # looked up first: what is not there by now has its end elsewhere
        generation = await self.get(principal, generation_id)
        if run is not None:
            run.cancel()
            await run.ended.wait()
        elif generation.finished_at is None:
            await self._cancel_elsewhere(generation_id)
        else:
            return generation
        return await self.get(principal, generation_id)

    async def get(self, principal: Principal, generation_id: UUID) -> Generation:
        """One generation of the caller's; an admin may see anyone's. Raises NotFound."""
        generation = (await self.by_id([generation_id]))[0]
        if generation is None or (generation.user_id != principal.user_id and not principal.has(Scope.ADMIN)):
            raise NotFound("You have no generation of this id.")
        return generation

    async def by_id(self, ids: Sequence[UUID]) -> list[Generation | None]:
        """Many generations at once, in the order of the ids; whoever asks has checked whose they are."""
        ended = [self._runner.ended(generation_id) for generation_id in ids]
        if all(ended):
            return ended
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

    async def texts(self, ids: Sequence[UUID], most: int) -> list[str | GatewayError | None]:
        """What each of these generations has said so far, in the order of the ids; None when it is no longer kept.

        No more is read once there are more than `most` characters: the rest is LimitExceeded, as what the log cannot
        give now is StreamLogUnavailable. The database is asked once for all that the log has no more.
        """
        found: dict[UUID, str | GatewayError | None] = {}
        expired: list[UUID] = []
        for generation_id in dict.fromkeys(ids):
            if most < 0:
                break
            try:
                text = _text(await self._log.read(generation_id))
            except StreamExpired:
                expired.append(generation_id)
            except StreamLogUnavailable as error:
                found[generation_id] = error
            else:
                found[generation_id] = text
                most -= len(text)
        if expired:
            async with self._database.reading() as session:
                async for generation_id, data in queries_transcript.transcripts(session, expired, now()):
                    if most >= 0:
                        found[generation_id] = text = _text(decode_transcript(data))
                        most -= len(text)
        if most >= 0:
            found = {**dict.fromkeys(expired), **found}
        return [found.get(generation_id, TooMuchText()) for generation_id in ids]

    async def _begun_under(self, principal: Principal, request: GenerationRequest) -> Generation | None:
        async with self._database.reading() as session:
            return await begun_under(session, principal, request)

    async def _launch(self, principal: Principal, request: GenerationRequest, run: Run) -> None:
        """A caller who leaves meanwhile leaves either nothing or a generation that runs."""
        with anyio.CancelScope(shield=True):
            try:
                async with self._database.transaction() as tx:
                    tx.add(run.job.row)
                    await note_key(tx, principal, request, run.job.row)
                await self._runner.launch(run)
            except BaseException:
                self._runner.forget(run)
                raise

    async def _cancel_elsewhere(self, generation_id: UUID) -> None:
        """Ask the gateway that runs it, and wait for the end; one whose gateway is dead ends when that is noticed."""
        if not await self._log.cancel_elsewhere(generation_id):
            return
        with anyio.move_on_after(CANCEL_SECONDS) as scope:
            async for _ in self._log.follow(generation_id):
                pass
        if scope.cancelled_caught:
            raise StreamLogUnavailable

    def _viewer(self, generation: Generation, after: int) -> Viewer:
        """A viewer, counted where the generation runs here."""
        run = self._runner.get(generation.id)
        batches = self._batches(generation.id, after) if generation.finished_at else None
        if batches is None:
            batches = self._log.follow(generation.id, after)
        if run is None:
            return Viewer(generation.id, batches)
        run.viewer_came()
        return Viewer(generation.id, batches, run.viewer_left, self._event_interval)

    async def _batches(self, generation_id: UUID, after: int) -> AsyncGenerator[Sequence[Event], None]:
        """Of a generation that has ended: from the log, and after that from the database."""
        try:
            async for batch in self._log.follow(generation_id, after, ended=True):
                after = batch[-1].sequence
                yield batch
            return
        except StreamExpired:
            events = await self._transcript(generation_id)
        if events is None:
            raise StreamExpired
        yield [event for event in events if event.sequence > after] or events[-1:]

    async def _transcript(self, generation_id: UUID) -> list[Event] | None:
        async with self._database.reading() as session:
            data = await queries_transcript.find_transcript(session, generation_id, now())
        return None if data is None else decode_transcript(data)

    def _new_row(self, principal: Principal, request: GenerationRequest, route: Route) -> Generation:
        created_at = now()
        waits = route.ticket.position > 0
        return Generation(
            id=new_id(),
            user_id=principal.user_id,
            api_key_id=principal.api_key_id,
            model=request.model,
            backend=route.model.backend.name,
            state=State.QUEUED if waits else State.RUNNING,
            replica_id=self._runner.replica_id,
            fence=1,
            on_disconnect=request.on_disconnect,
            on_backend_loss=request.on_backend_loss,
            created_at=created_at,
            started_at=None if waits else created_at,
        )


def _text(events: Iterable[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


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
