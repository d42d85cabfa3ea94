"""What a generation's subscription sends."""

from collections.abc import Callable
from typing import Annotated, Any, Self
from uuid import UUID

import strawberry

from auth.scopes import Scope
from gateway import streams
from gateway.streams import CancelReason, Event, FinishReason, LossReason, QueueReason
from gateway.streams import TokenLogprob as GatewayTokenLogprob
from schema.access import requires
from schema.catalog import Model
from schema.context import Info
from schema.cost import FEW, list_of
from schema.errors import GenerationError, UserError
from schema.generation import Generation
from schema.limits import TokenUsage
from schema.tool_call import ToolCall


@strawberry.interface(description="Something that happened in a generation.")
class GenerationEvent:
    generation_id: strawberry.ID = strawberry.field(description="The generation's id.")
    sequence: int = strawberry.field(
        description="The position in the stream; it increases. To resume, pass the last one you received as `after`."
    )


@strawberry.type(
    description="The generation waits for a slot at its backend or, once it has one, for the model to be loaded."
)
class GenerationQueued(GenerationEvent):
    position: int = strawberry.field(description="Position in the queue; 1 is next. 0 means that it has a slot.")
    ahead: int = strawberry.field(description="How many generations are ahead of it in the queue.")
    estimated_start_ms: int | None = strawberry.field(
        default=None,
        description="Estimated milliseconds until it starts; null if unknown. Reserved; always null today.",
    )
    reason: QueueReason = strawberry.field(description="What it waits for.")


@strawberry.type(description="The backend started to work on it.")
class GenerationStarted(GenerationEvent):
    generation_key: strawberry.Private[UUID]
    queued_ms: int = strawberry.field(description="Milliseconds spent in the queue.")
    backend: str = strawberry.field(description="The model server that was asked.")

    @strawberry.field(description="The model; null when no backend serves it any more. Needs MODELS_READ.")
    @requires(Scope.MODELS_READ)
    async def model(self, info: Info) -> Model | None:
        """From the catalog as it is now."""
        row = await info.context.loaders.generations.load(self.generation_key)
        model = None if row is None else await info.context.loaders.models.load(row.model)
        return None if model is None else Model.of(model)


@strawberry.type(description="How likely the model found one token that it wrote.")
class TokenLogprob:
    token: str = strawberry.field(description="The token as text.")
    logprob: float = strawberry.field(description="The natural logarithm of its probability: 0 is certain.")
    bytes: list[int] | None = strawberry.field(
        description="The token in UTF-8, as numbers from 0 to 255: it may be a part of a character. Null if the model "
        "server does not report it."
    )

    @classmethod
    def of(cls, told: GatewayTokenLogprob) -> Self:
        """Give the logprob as the API shows it."""
        return cls(token=told.token, logprob=told.logprob, bytes=None if told.utf8 is None else list(told.utf8))


@strawberry.type(description="A piece of the answer.")
class TextDelta(GenerationEvent):
    text: str = strawberry.field(description="The text of this piece.")
    offset: int = strawberry.field(
        description="Where it starts in the whole text, in UTF-16 code units, so that applying a delta twice does "
        "no harm."
    )
    tokens: int = strawberry.field(description="How many tokens it contains.")
    logprobs: list[TokenLogprob] | None = strawberry.field(
        default=None,
        description="The probabilities of its tokens, as far as the model server reports them. They are requested from "
        "it only if the subscription `generate` that starts the generation selects this field: null for every other "
        "generation, and if the model server does not report them.",
        directives=[list_of(FEW)],
    )


@strawberry.type(description="A piece of the model's thinking, which is separate from the answer.")
class ThinkingDelta(GenerationEvent):
    text: str = strawberry.field(description="The text of this piece.")
    offset: int = strawberry.field(description="Where it starts in the whole thinking, in UTF-16 code units.")
    tokens: int = strawberry.field(description="How many tokens it contains.")


@strawberry.type(description="The model requests a tool call.")
class ToolCallRequested(GenerationEvent):
    call: ToolCall = strawberry.field(description="The call.")


@strawberry.type(description="The generation lost its model server or its gateway, and continues.")
class GenerationResumed(GenerationEvent):
    loss_reason: LossReason = strawberry.field(description="What was lost.")
    backend: str = strawberry.field(description="The model server that continues.")


@strawberry.type(description="The generation completed. The last event.")
class GenerationCompleted(GenerationEvent):
    generation_key: strawberry.Private[UUID]
    finish_reason: FinishReason = strawberry.field(description="Why it ended.")
    usage: TokenUsage = strawberry.field(description="What it used.")

    @strawberry.field(description="The generation as it ended.")
    async def generation(self, info: Info) -> Generation:
        """Read anew: the loader may have seen it while it ran."""
        return await _generation(info, self.generation_key)


@strawberry.type(
    description="The generation was cancelled. What the model wrote before remains and is counted. The last event."
)
class GenerationCancelled(GenerationEvent):
    generation_key: strawberry.Private[UUID]
    cancel_reason: CancelReason = strawberry.field(description="Why it was cancelled.")
    usage: TokenUsage = strawberry.field(description="What it used.")

    @strawberry.field(description="The generation as it ended.")
    async def generation(self, info: Info) -> Generation:
        """Read anew: the loader may have seen it while it ran."""
        return await _generation(info, self.generation_key)


@strawberry.type(
    description="The generation failed. What the model wrote before remains and is counted. The last event."
)
class GenerationFailed(GenerationEvent):
    generation_key: strawberry.Private[UUID]
    error: GenerationError = strawberry.field(description="Why it failed.")
    usage: TokenUsage = strawberry.field(description="What it used.")

    @strawberry.field(description="The generation as it ended.")
    async def generation(self, info: Info) -> Generation:
        """Read anew: the loader may have seen it while it ran."""
        return await _generation(info, self.generation_key)


async def _generation(info: Info, key: UUID) -> Generation:
    loader = info.context.loaders.generations
    loader.clear(key)
    row = await loader.load(key)
    if row is None:
        raise LookupError(f"generation {key} is gone")
    return Generation.of(row)


@strawberry.type(
    description="`generate` was refused, and no generation was created. The first and only event. Unlike an error "
    "of the operation, it does not disturb other operations on the same connection, whatever the client."
)
class GenerationRefused:
    error: UserError = strawberry.field(description="Why it was refused.")


GenerateEvent = Annotated[
    GenerationQueued
    | GenerationStarted
    | TextDelta
    | ThinkingDelta
    | ToolCallRequested
    | GenerationResumed
    | GenerationCompleted
    | GenerationCancelled
    | GenerationFailed
    | GenerationRefused,
    strawberry.union(
        "GenerateEvent",
        description="The events of `generate`: those of the generation, or the reason why it was refused. All "
        "except GenerationRefused implement GenerationEvent, so a fragment on GenerationEvent works here and "
        "in `generation`.",
    ),
]

EVENT_TYPES = (
    GenerationQueued,
    GenerationStarted,
    TextDelta,
    ThinkingDelta,
    ToolCallRequested,
    GenerationResumed,
    GenerationCompleted,
    GenerationCancelled,
    GenerationFailed,
)

_Convert = Callable[[strawberry.ID, UUID, Any], GenerationEvent]

_CONVERSIONS: dict[type[Event], _Convert] = {
    streams.Queued: lambda id, key, event: GenerationQueued(
        generation_id=id,
        sequence=event.sequence,
        position=event.position,
        ahead=max(0, event.position - 1),
        reason=event.reason,
    ),
    streams.Started: lambda id, key, event: GenerationStarted(
        generation_id=id, sequence=event.sequence, generation_key=key, queued_ms=event.queued_ms, backend=event.backend
    ),
    streams.TextDelta: lambda id, key, event: TextDelta(
        generation_id=id,
        sequence=event.sequence,
        text=event.text,
        offset=event.offset,
        tokens=event.tokens,
        logprobs=None if event.logprobs is None else [TokenLogprob.of(logprob) for logprob in event.logprobs],
    ),
    streams.ThinkingDelta: lambda id, key, event: ThinkingDelta(
        generation_id=id, sequence=event.sequence, text=event.text, offset=event.offset, tokens=event.tokens
    ),
    streams.ToolCallRequested: lambda id, key, event: ToolCallRequested(
        generation_id=id, sequence=event.sequence, call=ToolCall.of(event.call)
    ),
    streams.Resumed: lambda id, key, event: GenerationResumed(
        generation_id=id, sequence=event.sequence, loss_reason=event.reason, backend=event.backend
    ),
    streams.Completed: lambda id, key, event: GenerationCompleted(
        generation_id=id,
        sequence=event.sequence,
        generation_key=key,
        finish_reason=event.finish_reason,
        usage=TokenUsage.of(event.usage),
    ),
    streams.Cancelled: lambda id, key, event: GenerationCancelled(
        generation_id=id,
        sequence=event.sequence,
        generation_key=key,
        cancel_reason=event.reason,
        usage=TokenUsage.of(event.usage),
    ),
    streams.Failed: lambda id, key, event: GenerationFailed(
        generation_id=id,
        sequence=event.sequence,
        generation_key=key,
        error=GenerationError.of(event),
        usage=TokenUsage.of(event.usage),
    ),
}


def to_generation_event(generation_id: strawberry.ID, key: UUID, event: Event) -> GenerationEvent:
    """Give the event of the log as the API shows it."""
    return _CONVERSIONS[type(event)](generation_id, key, event)
