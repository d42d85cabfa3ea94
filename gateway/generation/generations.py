"""Generations: started by one call, run by the gateway itself, watched by any number of viewers."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from uuid import UUID

import anyio

from auth.principal import Principal
from auth.scopes import Scope
from db import queries
from db.clock import now
from db.engine import Database
from db.tables import Generation
from gateway.catalog import Catalog
from gateway.errors import (
    ErrorCode,
    Forbidden,
    GatewayError,
    NotFound,
    StreamExpired,
    StreamLogUnavailable,
    TooMuchText,
)
from gateway.generation.ledger import Ledger
from gateway.generation.output import Answer, Output, output_of
from gateway.generation.record import (
    Attempt,
    KeptInput,
    State,
    attempt_recorded,
    outcome_recorded,
    read_inputs,
    read_media,
    terminal_event,
)
from gateway.generation.removal import of_deleted_users
from gateway.generation.request import GenerationRequest
from gateway.generation.runner import Phase, Runner
from gateway.generation.starts import Starts
from gateway.limits import LimitsTold
from gateway.streams import (
    TERMINAL,
    CancelReason,
    Event,
    StreamLog,
    StreamOwnership,
    StreamWithoutEnd,
    Viewer,
    decode_transcript,
)

CANCEL_SECONDS = 10
"""How long another gateway may take to end a generation that it was asked to cancel."""

_LIMIT_REACHED = (ErrorCode.RATE_LIMITED, ErrorCode.QUOTA_EXCEEDED)
"""How a generation fails that has waited for a limit in vain, or that none had room for when it was to go on."""

BEHIND_ALL = 2**31
"""A cursor to which nothing but the end of a stream comes."""


@dataclass(frozen=True, slots=True)
class GenerationFilter:
    """Which of the caller's generations are wanted; None takes all."""

    states: Sequence[State] | None = None
    model: str | None = None


class Generations:
    """The generations of all users.

    `starts` begins them, `runner` runs them, and `log` holds what they say. `event_interval` is the least time in
    seconds between two events with text that a viewer gets.
    """

    def __init__(
        self,
        *,
        database: Database,
        catalog: Catalog,
        log: StreamLog,
        ownership: StreamOwnership,
        starts: Starts,
        runner: Runner,
        ledger: Ledger,
        event_interval: float = 0,
    ) -> None:
        self._database = database
        self._catalog = catalog
        self._log = log
        self._ownership = ownership
        self._starts = starts
        self._runner = runner
        self._ledger = ledger
        self._event_interval = event_interval

    @property
    def stopping(self) -> bool:
        """Whether new work is refused."""
        return self._runner.phase is Phase.STOPPING

    async def start(
        self, principal: Principal, request: GenerationRequest, told: LimitsTold | None = None
    ) -> Generation:
        """Begin, and return at once; under an idempotency key that was used before, what that began.

        `told` learns how the limits stand. Raises InvalidInput, ModelNotFound, Unsupported, LimitReached, Overloaded,
        ShuttingDown.
        """
        return await self._starts.start(principal, request, told or LimitsTold())

    async def start_and_watch(
        self, principal: Principal, request: GenerationRequest, after: int = 0, told: LimitsTold | None = None
    ) -> Viewer:
        """Begin, and watch after the sequence number `after`, which only an idempotency key makes more than 0.

        Raises what `start` raises; close the viewer in any case.
        """
        return self._viewer(await self.start(principal, request, told), after)

    async def complete(
        self, principal: Principal, request: GenerationRequest, told: LimitsTold | None = None
    ) -> Answer:
        """Begin, and wait for the whole answer. Raises what `start` raises.

        A caller who is cancelled meanwhile counts as a viewer who left.
        """
        viewer = await self.start_and_watch(principal, request, told=told)
        try:
            output = output_of([event async for event in viewer])
        finally:
            await viewer.aclose()
        generation = await self.get(principal, viewer.generation_id)
        if told is not None and generation.error_code in _LIMIT_REACHED:
            told.retry_after(generation.error_retry_after_ms)
        return Answer(generation, output)

    async def watch(self, principal: Principal, generation_id: UUID, after: int) -> Viewer:
        """Watch a generation after the sequence number `after`. Raises NotFound; the viewer raises StreamExpired."""
        generation = await self.get(principal, generation_id)
        if generation.user_id != principal.user_id and await of_deleted_users(self._database, [generation_id]):
            raise StreamExpired
        return self._viewer(generation, after)

    async def cancel(self, principal: Principal, generation_id: UUID) -> Generation:
        """End a generation and return it as it ended; one that has ended stays as it is.

        Somebody else's only with FLEET_WRITE. Raises NotFound; Forbidden; and StreamLogUnavailable where the gateway
        that runs it cannot be told now.
        """
        run = self._runner.get(generation_id)  # looked up first: what is not there by now has its end elsewhere
        generation = await self.get(principal, generation_id)
        if not principal.may_see_of(generation.user_id, Scope.FLEET_WRITE):
            raise Forbidden("Cancelling a generation of another user needs the scope FLEET_WRITE.")
        if run is not None:
            run.cancel(CancelReason.REQUESTED)
            await run.finished.wait()
        elif generation.finished_at is None:
            await self._cancel_elsewhere(generation)
        else:
            return generation
        return await self.get(principal, generation_id)

    async def get(self, principal: Principal, generation_id: UUID) -> Generation:
        """Give one generation of the caller's; an admin may see anyone's. Raises NotFound."""
        [generation] = await self.visible(principal, [generation_id])
        if generation is None:
            raise NotFound("You have no generation with this id.", "Generation", generation_id)
        return generation

    async def visible(self, principal: Principal, ids: Sequence[UUID]) -> list[Generation | None]:
        """Give those of these generations that the caller may see, in the order of the ids; None for the others."""
        may_see = partial(principal.may_see_of, everybodys=Scope.GENERATIONS_READ_ALL)
        return [row if row and may_see(row.user_id) else None for row in await self.by_id(ids)]

    async def by_id(self, ids: Sequence[UUID]) -> list[Generation | None]:
        """Give many generations at once, in the order of the ids; whoever asks has checked whose they are."""
        ended = [self._ledger.waiting(generation_id) for generation_id in ids]
        if all(ended):
            return ended
        async with self._database.reading() as session:
            found = await queries.generation.generations_by_id(session, ids)
        return [found.get(generation_id) for generation_id in ids]

    async def page(
        self, principal: Principal, wanted: GenerationFilter, first: int, before: UUID | None
    ) -> tuple[Sequence[Generation], bool]:
        """Give the caller's generations, newest first, older than `before`; and whether there are more."""
        async with self._database.reading() as session:
            rows = await queries.generation.generations_page(
                session,
                principal.user_id,
                limit=first + 1,
                before=before,
                states=wanted.states,
                models=None if wanted.model is None else {wanted.model, self._catalog.listed_name(wanted.model)},
            )
        return rows[:first], len(rows) > first

    async def outputs(
        self, ids: Sequence[UUID], most: int, principal: Principal | None = None
    ) -> list[Output | GatewayError | None]:
        """Give what each of these generations has said so far, in the order of the ids; None when it is no longer kept.

        Whoever sees what others said sees nothing of deleted users. No more is read once there are more than `most`
        characters: the rest is LimitExceeded, as what the log cannot give now is StreamLogUnavailable. The database is
        asked once for all that the log has no more.
        """
        sees_others = principal is not None and principal.has(Scope.GENERATIONS_READ_ALL)
        written = [it for it in ids if sees_others and self._ledger.waiting(it) is None]
        removed = await of_deleted_users(self._database, written) if written else ()
        found: dict[UUID, Output | GatewayError | None] = dict.fromkeys(removed)
        expired: list[UUID] = []
        for generation_id in dict.fromkeys(ids):
            if most < 0:
                break
            if generation_id in found:
                continue
            try:
                events = await self._logged(generation_id)
            except StreamLogUnavailable as error:
                found[generation_id] = error
                continue
            if events is None:
                expired.append(generation_id)
            else:
                found[generation_id] = said = output_of(events)
                most -= said.size
        if expired:
            async with self._database.reading() as session:
                async for generation_id, data in queries.transcript.transcripts(session, expired, now()):
                    if most >= 0:
                        found[generation_id] = said = output_of(decode_transcript(data))
                        most -= said.size
        if most >= 0:
            found |= await self._why_gone([generation_id for generation_id in expired if generation_id not in found])
        return [found.get(generation_id, TooMuchText()) for generation_id in ids]

    async def attempts(self, ids: Sequence[UUID]) -> list[list[Attempt]]:
        """Give the backends that were asked for each of these generations, in the order of the ids.

        Of one that another gateway runs they are known only when it has ended.
        """
        found: dict[UUID, list[Attempt]] = {}
        for generation_id in ids:
            if run := self._runner.get(generation_id):
                found[generation_id] = run.attempts()
            elif entry := self._ledger.waiting_entry(generation_id):
                found[generation_id] = list(entry.attempts)
        if ended := [generation_id for generation_id in ids if generation_id not in found]:
            async with self._database.reading() as session:
                for row in await queries.generation.attempts_of(session, ended):
                    found.setdefault(row.generation_id, []).append(attempt_recorded(row))
        return [found.get(generation_id, []) for generation_id in ids]

    async def text_expiries(self, ids: Sequence[UUID]) -> list[datetime | None]:
        """Until when the database keeps what each of these ended generations said; None where it does not."""
        async with self._database.reading() as session:
            found = await queries.transcript.expiries(session, ids, now())
        return [found.get(generation_id) for generation_id in ids]

    async def inputs(self, ids: Sequence[UUID], most: int) -> list[KeptInput | GatewayError | None]:
        """Give what each of these generations was asked, in the order of the ids; None where it is not kept.

        No more is read once there are more than `most` characters: the rest is LimitExceeded.
        """
        async with self._database.reading() as session:
            return await read_inputs(session, ids, most)

    async def media(self, ids: Sequence[UUID], most: int) -> list[bytes | GatewayError | None]:
        """Give the media that were sent with each of these, one behind the other; bounded like `inputs`, in bytes."""
        async with self._database.reading() as session:
            return await read_media(session, ids, most)

    async def _logged(self, generation_id: UUID) -> Sequence[Event] | None:
        """Give what the log has; None where that is not all. Raises StreamLogUnavailable."""
        try:
            events = await self._log.read(generation_id)
        except StreamExpired:
            return None
        return None if await self._is_cut_off(generation_id, events) else events

    async def _why_gone(self, ids: Sequence[UUID]) -> dict[UUID, GatewayError | None]:
        """Tell for each text that is not here whether it cannot be reached; None: it is no longer kept."""
        reasons: dict[UUID, GatewayError | None] = dict.fromkeys(ids)
        for generation in await self.by_id(ids) if ids and not self._ownership.is_shared else ():
            if generation is not None:
                try:
                    await self._check_reachable(generation)
                except StreamLogUnavailable as error:
                    reasons[generation.id] = error
        return reasons

    async def _cancel_elsewhere(self, generation: Generation) -> None:
        """Ask the gateway that runs it, and wait for the end; one whose gateway is dead ends when that is noticed.

        Raises StreamLogUnavailable where it may go on: nobody must be told of an end that has not come.
        """
        if not self._ownership.is_shared:
            raise StreamLogUnavailable(shared=False)
        await self._ownership.cancel_elsewhere(generation.id)
        with anyio.move_on_after(CANCEL_SECONDS), suppress(StreamExpired, StreamWithoutEnd):
            async for _ in self._log.follow(generation.id, BEHIND_ALL):
                pass
            return
        raise StreamLogUnavailable

    def _viewer(self, generation: Generation, after: int) -> Viewer:
        """Give a viewer, counted where the generation runs here."""
        run = self._runner.get(generation.id)
        batches = self._batches(generation, after)
        if run is None:
            return Viewer(generation.id, batches, interval=self._event_interval)
        run.viewer_came()
        return Viewer(generation.id, batches, run.viewer_left, self._event_interval)

    async def _batches(self, generation: Generation, after: int) -> AsyncGenerator[Sequence[Event], None]:
        """From the log, and what that lacks of an ended generation from the database."""
        batches = self._log.follow(generation.id, after, finished=generation.finished_at is not None)
        try:
            async for batch in batches:
                after = batch[-1].sequence
                yield batch
            return
        except (StreamExpired, StreamWithoutEnd) as error:
            end_alone = isinstance(error, StreamWithoutEnd)
        finally:
            await batches.aclose()
        yield await self._rest(generation.id, after, end_alone=end_alone)

    async def _rest(self, generation_id: UUID, after: int, *, end_alone: bool) -> Sequence[Event]:
        """Give what the log lacks, which may be the `end_alone`. Raises StreamExpired, and StreamLogUnavailable."""
        (generation,) = await self.by_id([generation_id])
        if generation is None:
            raise StreamExpired
        if events := await self._transcript(generation_id):
            return [event for event in events if event.sequence > after] or events[-1:]
        interrupted = generation.error_code == ErrorCode.INTERRUPTED
        if not interrupted:
            await self._check_reachable(generation)
        if generation.finished_at is None:
            raise StreamLogUnavailable if end_alone else StreamExpired
        if (end_alone or interrupted or not generation.completion_tokens) and generation.detached_at is None:
            return [terminal_event(after + 1, outcome_recorded(generation))]
        raise StreamExpired

    async def _check_reachable(self, generation: Generation) -> None:
        """Raise StreamLogUnavailable where another gateway, which is alive, has what is not here."""
        shared = self._ownership.is_shared
        if generation.replica_id == self._runner.replica_id or (shared and generation.detached_at is None):
            return
        async with self._database.reading() as session:
            if await queries.replica.is_alive(session, generation.replica_id):
                raise StreamLogUnavailable(shared=shared)

    async def _is_cut_off(self, generation_id: UUID, events: Sequence[Event]) -> bool:
        """Tell whether more was said than these, which will not come any more."""
        if (events and isinstance(events[-1], TERMINAL)) or self._runner.get(generation_id) is not None:
            return False
        (generation,) = await self.by_id([generation_id])
        return generation is not None and None not in (generation.finished_at, generation.detached_at)

    async def _transcript(self, generation_id: UUID) -> list[Event] | None:
        async with self._database.reading() as session:
            data = await queries.transcript.find_transcript(session, generation_id, now())
        return None if data is None else decode_transcript(data)
