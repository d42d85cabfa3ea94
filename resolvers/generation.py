"""The root fields of generations."""

from collections.abc import AsyncIterator
from typing import Annotated, TypeAlias

import strawberry

from auth.scopes import Scope
from gateway.errors import InvalidInput, NotFound
from gateway.streams import Viewer
from resolvers.access import requires
from schema.context import Info
from schema.events import GenerationEvent, to_generation_event
from schema.generation import (
    CancelGenerationInput,
    CancelGenerationResult,
    CancelGenerationSuccess,
    GenerateResult,
    Generation,
    GenerationConnection,
    GenerationFilterInput,
    StartGenerationResult,
    StartGenerationSuccess,
    generate_result,
)
from schema.generation_input import GenerateInput
from schema.node import global_id, parse_uuid

MAX_PAGE = 100
DEFAULT_PAGE = 20

Request: TypeAlias = Annotated[GenerateInput, strawberry.argument(description="What to ask, and of which model.")]
GenerationId: TypeAlias = Annotated[strawberry.ID, strawberry.argument(description="The generation's id.")]


@strawberry.type
class GenerationQuery:
    @strawberry.field(description="One generation of the caller's; null when there is none of this id.")
    @requires(Scope.GENERATIONS_READ)
    async def generation(self, info: Info, id: GenerationId) -> Generation | None:
        try:
            row = await info.context.gateway.generations.get(info.context.caller, parse_uuid(id, "Generation"))
        except NotFound:
            return None
        return Generation.of(row)

    @strawberry.field(description="The caller's generations, newest first.")
    @requires(Scope.GENERATIONS_READ)
    async def generations(
        self,
        info: Info,
        first: Annotated[int | None, strawberry.argument(description="How many, 1 to 100; null: 20.")] = DEFAULT_PAGE,
        after: Annotated[str | None, strawberry.argument(description="The cursor to go on behind.")] = None,
        filter: Annotated[GenerationFilterInput | None, strawberry.argument(description="Which ones.")] = None,
    ) -> GenerationConnection:
        first = DEFAULT_PAGE if first is None else first
        if not 1 <= first <= MAX_PAGE:
            raise InvalidInput("first", f"must be from 1 to {MAX_PAGE}, not {first}.")
        before = None if after is None else parse_uuid(after, "Generation", "after")
        wanted = (filter or GenerationFilterInput()).to_filter()
        rows, has_more = await info.context.gateway.generations.page(info.context.caller, wanted, first, before)
        return GenerationConnection.of(rows, has_more=has_more, after=after)


@strawberry.type
class GenerationMutation:
    @strawberry.mutation(description="Ask a model and wait for the whole answer.")
    @requires(Scope.GENERATIONS_WRITE)
    async def generate(self, info: Info, input: Request) -> GenerateResult:
        answer = await info.context.gateway.generations.complete(info.context.caller, input.to_request())
        row = await info.context.gateway.generations.get(info.context.caller, answer.generation_id)
        return generate_result(answer, row)

    @strawberry.mutation(description="Ask a model and go on at once. Watch it with the subscription `generation`.")
    @requires(Scope.GENERATIONS_WRITE)
    async def start_generation(self, info: Info, input: Request) -> StartGenerationResult:
        row = await info.context.gateway.generations.start(info.context.caller, input.to_request())
        return StartGenerationSuccess(generation=Generation.of(row))

    @strawberry.mutation(description="End a generation and stop the model's work on it. One that has ended stays so.")
    @requires(Scope.GENERATIONS_WRITE)
    async def cancel_generation(
        self,
        info: Info,
        input: Annotated[CancelGenerationInput, strawberry.argument(description="Which generation to end.")],
    ) -> CancelGenerationResult:
        generation_id = parse_uuid(input.id, "Generation")
        row = await info.context.gateway.generations.cancel(info.context.caller, generation_id)
        return CancelGenerationSuccess(generation=Generation.of(row))


@strawberry.type
class GenerationSubscription:
    @strawberry.subscription(description="Ask a model and watch the answer come.")
    @requires(Scope.GENERATIONS_WRITE)
    async def generate(self, info: Info, input: Request) -> AsyncIterator[GenerationEvent]:
        viewer = await info.context.gateway.generations.start_and_watch(info.context.caller, input.to_request())
        return _Events(viewer)

    @strawberry.subscription(description="Watch a generation, from its beginning or after the last event seen.")
    @requires(Scope.GENERATIONS_READ)
    async def generation(
        self,
        info: Info,
        id: GenerationId,
        after: Annotated[
            int | None, strawberry.argument(description="The last sequence number seen; 0 or null: none.")
        ] = 0,
    ) -> AsyncIterator[GenerationEvent]:
        after = after or 0
        if after < 0:
            raise InvalidInput("after", "must be 0 or the sequence number of an event.")
        generation_id = parse_uuid(id, "Generation")
        return _Events(await info.context.gateway.generations.watch(info.context.caller, generation_id, after))


class _Events(AsyncIterator[GenerationEvent]):
    """A viewer's events in the API's types. Closing it ends the watching, also before the first event."""

    def __init__(self, viewer: Viewer) -> None:
        self._viewer = viewer
        self._id = global_id("Generation", viewer.generation_id)

    async def __anext__(self) -> GenerationEvent:
        event = await anext(self._viewer)
        return to_generation_event(self._id, self._viewer.generation_id, event)

    async def aclose(self) -> None:
        await self._viewer.aclose()
