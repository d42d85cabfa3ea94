"""The root fields of generations."""

from collections.abc import AsyncGenerator, AsyncIterator
from typing import Annotated, TypeAlias, cast

import strawberry

from auth.scopes import Scope
from gateway.errors import GatewayError, InvalidInput, NotFound
from gateway.streams import Viewer
from resolvers.expected import refusal
from schema.access import requires
from schema.context import Context, Info
from schema.cost import Cost, page_of
from schema.events import GenerateEvent, GenerationEvent, GenerationRefused, to_generation_event
from schema.generation import Generation, GenerationConnection, GenerationFilterInput
from schema.generation_input import GenerateInput
from schema.node import DEFAULT_PAGE, MAX_PAGE, global_id, page_size, parse_uuid
from schema.results import (
    CancelGenerationInput,
    CancelGenerationResult,
    CancelGenerationSuccess,
    GenerateResult,
    StartGenerationResult,
    StartGenerationSuccess,
    generate_result,
)
from schema.selection import selects

RESUMED_WITHOUT_KEY = (
    "is needed to resume this stream (Last-Event-ID): without it, a second generation would start. To resume, "
    "subscribe to `generation` with its id, or start with an idempotencyKey."
)

ASKS_A_MODEL = Cost(weight="100")

Request: TypeAlias = Annotated[GenerateInput, strawberry.argument(description="The model and what to ask it.")]
GenerationId: TypeAlias = Annotated[strawberry.ID, strawberry.argument(description="The generation's id.")]


@strawberry.type
class GenerationQuery:
    @strawberry.field(description="One of the caller's generations; null if there is none with this id.")
    @requires(Scope.GENERATIONS_READ)
    async def generation(self, info: Info, id: GenerationId) -> Generation | None:
        try:
            row = await info.context.gateway.generations.get(info.context.caller, parse_uuid(id, "Generation"))
        except NotFound:
            return None
        return Generation.of(row)

    @strawberry.field(description="The caller's generations, newest first.", directives=[page_of(DEFAULT_PAGE)])
    @requires(Scope.GENERATIONS_READ)
    async def generations(
        self,
        info: Info,
        first: Annotated[
            int | None, strawberry.argument(description=f"How many, 1 to {MAX_PAGE}; null means {DEFAULT_PAGE}.")
        ] = DEFAULT_PAGE,
        after: Annotated[
            str | None, strawberry.argument(description="A cursor, to get the generations after it.")
        ] = None,
        filter: Annotated[
            GenerationFilterInput | None, strawberry.argument(description="Which generations to list; null for all.")
        ] = None,
    ) -> GenerationConnection | None:
        size = page_size(first, DEFAULT_PAGE)
        before = None if after is None else parse_uuid(after, "Generation", "after")
        wanted = (filter or GenerationFilterInput()).to_filter()
        rows, has_more = await info.context.gateway.generations.page(info.context.caller, wanted, size, before)
        return GenerationConnection.of(rows, has_more=has_more, after=after)


@strawberry.type
class GenerationMutation:
    @strawberry.mutation(description="Ask a model and wait for the whole answer.", directives=[ASKS_A_MODEL])
    @requires(Scope.GENERATIONS_WRITE)
    async def generate(self, info: Info, input: Request) -> GenerateResult | None:
        context = info.context
        return generate_result(
            await context.gateway.generations.complete(context.caller, input.to_request(), context.limits_told)
        )

    @strawberry.mutation(
        description="Ask a model and return at once. Watch the generation with the subscription `generation`.",
        directives=[ASKS_A_MODEL],
    )
    @requires(Scope.GENERATIONS_WRITE)
    async def start_generation(self, info: Info, input: Request) -> StartGenerationResult | None:
        context = info.context
        row = await context.gateway.generations.start(context.caller, input.to_request(), context.limits_told)
        return StartGenerationSuccess(generation=Generation.of(row))

    @strawberry.mutation(
        description="Cancel a generation; the model server stops working on it. A generation that "
        "has ended stays as it is."
    )
    @requires(Scope.GENERATIONS_WRITE)
    async def cancel_generation(
        self,
        info: Info,
        input: Annotated[CancelGenerationInput, strawberry.argument(description="The generation to cancel.")],
    ) -> CancelGenerationResult | None:
        generation_id = parse_uuid(input.id, "Generation")
        row = await info.context.gateway.generations.cancel(info.context.caller, generation_id)
        return CancelGenerationSuccess(generation=Generation.of(row))


@strawberry.type
class GenerationSubscription:
    @strawberry.subscription(
        description="Ask a model and receive the answer as it is generated. A refused request gets one event, "
        "GenerationRefused.",
        directives=[ASKS_A_MODEL],
    )
    @requires(Scope.GENERATIONS_WRITE)
    async def generate(self, info: Info, input: Request) -> AsyncIterator[GenerateEvent]:
        context, seen = info.context, info.context.last_event_id
        try:
            if seen is not None and input.idempotency_key is None:
                raise InvalidInput("idempotencyKey", RESUMED_WITHOUT_KEY)
            request = input.to_request(logprobs=selects(info, "logprobs"))
            viewer = await context.gateway.generations.start_and_watch(
                context.caller, request, seen or 0, context.limits_told
            )
        except GatewayError as error:
            if (refused := refusal(error)) is None:
                raise
            return _only(GenerationRefused(error=refused))
        return cast("AsyncIterator[GenerateEvent]", _Events(viewer, context))

    @strawberry.subscription(
        description="Watch a generation, from its beginning or after the last event you received. The last event is "
        "always the terminal one: you receive it again where you already have."
    )
    @requires(Scope.GENERATIONS_READ)
    async def generation(
        self,
        info: Info,
        id: GenerationId,
        after: Annotated[
            int | None, strawberry.argument(description="The last sequence number you received; 0 or null for none.")
        ] = 0,
    ) -> AsyncIterator[GenerationEvent]:
        after = after or 0
        if after < 0:
            raise InvalidInput("after", "must be 0 or the sequence number of an event.")
        context = info.context
        after = max(after, context.last_event_id or 0)
        viewer = await context.gateway.generations.watch(context.caller, parse_uuid(id, "Generation"), after)
        return _Events(viewer, context)


async def _only(event: GenerationRefused) -> AsyncGenerator[GenerationRefused]:
    """Give the one event of a stream that has no generation."""
    yield event


class _Events(AsyncIterator[GenerationEvent]):
    """A viewer's events in the API's types. Closing it ends the watching, also before the first event."""

    def __init__(self, viewer: Viewer, context: Context) -> None:
        self._viewer = viewer
        self._context = context
        self._id = global_id("Generation", viewer.generation_id)

    async def __anext__(self) -> GenerationEvent:
        event = await anext(self._viewer)
        self._context.sequence = event.sequence
        return to_generation_event(self._id, self._viewer.generation_id, event)

    async def aclose(self) -> None:
        await self._viewer.aclose()
