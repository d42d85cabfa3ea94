"""Generations as the API shows them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Self

import strawberry
from strawberry import relay

from auth.principal import ContentPolicy
from auth.scopes import Scope
from db import tables
from gateway.errors import InvalidInput as GatewayInvalidInput
from gateway.generation import (
    Attempt,
    GenerationFilter,
    KeptInput,
    OnBackendLoss,
    OnDisconnect,
    Output,
    State,
    cancel_recorded,
    error_recorded,
    finish_recorded,
    first_attempt,
    usage_recorded,
)
from gateway.money import Money as GatewayMoney
from gateway.streams import CancelReason, FinishReason
from gateway.usage import tokens_per_second
from schema.access import requires
from schema.catalog import Model
from schema.context import Info
from schema.cost import FEW, Cost, list_of
from schema.errors import GenerationError
from schema.identity import ApiKey, User
from schema.kept_input import GenerationInput, answer_size
from schema.limits import ASSUMED_LIMITS_OF_EACH, WHO_MAY_SEE, LimitStatus, Money, TokenUsage
from schema.node import Node, global_id, page_info
from schema.tool_call import ToolCall

READ_FROM_THE_LOG = Cost(weight="10")
"""The cost of a scalar that is not small: a whole answer is read from the stream log."""

OWN_WORDS = Scope.GENERATIONS_READ, Scope.GENERATIONS_WRITE  # the latter for whoever just started it

READ_AS_A_WHOLE = Cost(weight="10")
"""The cost of a kept request, however much of it is selected: what it holds is bounded by its size."""


@strawberry.type(description="How long each stage took, in milliseconds; null if that stage was not reached.")
class Timings:
    queued_ms: int | None = strawberry.field(description="Time spent in the queue.")
    load_ms: int | None = strawberry.field(
        description=(
            "Time that the model server spent before it started, if it reports it: loading the model and, with "
            "Ollama, also waiting for other requests."
        )
    )
    prompt_ms: int | None = strawberry.field(
        description="Time that the model server spent reading the prompt; null if it does not report it."
    )
    time_to_first_token_ms: int | None = strawberry.field(description="From the request to the first token.")
    total_ms: int | None = strawberry.field(description="From the request to the end.")
    tokens_per_second: float | None = strawberry.field(
        description=(
            "Completion tokens per second: by the model server's own clock if it reports it, otherwise from the "
            "first to the last piece of the answer. Null if the answer came in one piece."
        )
    )
    prompt_tokens_per_second: float | None = strawberry.field(
        description=(
            "Prompt tokens per second of `promptMs`, without those that the backend reports as cached. Null if "
            "`promptMs` is null or 0, or if all of the prompt was cached."
        )
    )

    @classmethod
    def of(cls, row: tables.Generation) -> Self:
        """Give the timings of a row."""
        return cls(
            queued_ms=row.queued_ms,
            load_ms=row.load_ms,
            prompt_ms=row.prompt_ms,
            time_to_first_token_ms=row.time_to_first_token_ms,
            total_ms=row.total_ms,
            tokens_per_second=tokens_per_second(
                row.completion_tokens, row.eval_ms, row.time_to_first_token_ms, row.last_token_ms, row.total_ms
            ),
            prompt_tokens_per_second=_prompt_tokens_per_second(row),
        )


def _prompt_tokens_per_second(row: tables.Generation) -> float | None:
    """Divide the tokens that were not in the cache by the time that the model server tells."""
    if row.prompt_tokens is None or not row.prompt_ms:
        return None
    tokens = row.prompt_tokens - (row.cached_tokens or 0)
    return round(tokens * 1000 / row.prompt_ms, 2) if tokens > 0 else None


@strawberry.type(description="A name and a value that a request gave a generation.")
class Tag:
    name: str = strawberry.field(description="The name.")
    value: str = strawberry.field(description="The value.")


@strawberry.type(description="One request to a model server for a generation.")
class GenerationAttempt:
    backend: str = strawberry.field(description="The name of the model server.")
    started_at: datetime = strawberry.field(description="When the request was sent.")
    finished_at: datetime | None = strawberry.field(description="When it ended; null while it is running.")
    usage: TokenUsage | None = strawberry.field(description="What it used; null while it is running.")
    error: GenerationError | None = strawberry.field(
        description="Why it failed; null if it did not fail or was cancelled."
    )

    @classmethod
    def of(cls, attempt: Attempt) -> Self:
        """Give the attempt of the gateway."""
        return cls(
            backend=attempt.backend,
            started_at=attempt.started_at,
            finished_at=attempt.finished_at,
            usage=None if attempt.usage is None else TokenUsage.of(attempt.usage),
            error=None if attempt.error is None else GenerationError.of(attempt.error),
        )


@strawberry.type(description="One answer of a model, running or ended.")
class Generation(Node):
    row: strawberry.Private[tables.Generation]
    model_name: str = strawberry.field(description="The name of the model, as `models` lists it.")
    state: State = strawberry.field(description="Its state.")
    created_at: datetime = strawberry.field(description="When it was requested.")
    started_at: datetime | None = strawberry.field(description="When its backend started; null until then.")
    finished_at: datetime | None = strawberry.field(description="When it ended; null until then.")
    finish_reason: FinishReason | None = strawberry.field(
        description="Why it completed; null until then, and if it was cancelled or failed."
    )
    cancel_reason: CancelReason | None = strawberry.field(description="Why it was cancelled; null if it was not.")
    error: GenerationError | None = strawberry.field(description="Why it failed; null if it did not.")
    usage: TokenUsage | None = strawberry.field(description="What it used; null until it ends.")
    cost: Money | None = strawberry.field(
        description="What it cost, at the price at its end; null until then, and if its model had no price."
    )
    timings: Timings = strawberry.field(description="How long each part took.")
    on_disconnect: OnDisconnect = strawberry.field(description="What happens when its last viewer leaves.")
    on_backend_loss: OnBackendLoss = strawberry.field(
        description="What happens when the model server, or the gateway that runs the generation, is lost before "
        "the end."
    )
    content_policy: ContentPolicy = strawberry.field(
        description="What the database keeps of it: the least of what the setting, the API key and the request allow."
    )
    tags: list[Tag] = strawberry.field(
        description="The names and values that the request gave.", directives=[list_of(FEW)]
    )
    end_user: str | None = strawberry.field(
        description="The caller's own user, as the request gave it; null if it gave none."
    )

    @strawberry.field(
        description="What the model has written so far; null when the text is no longer kept.",
        directives=[READ_FROM_THE_LOG],
    )
    @requires(*OWN_WORDS)
    async def text(self, info: Info) -> str | None:
        """Those of a page are read together, each once, however often the answer holds it."""
        output = await self._output(info)
        return None if output is None else info.context.answered(output.text)

    @strawberry.field(
        description="What the model has thought so far, empty if nothing; null when the text is no longer kept.",
        directives=[READ_FROM_THE_LOG],
    )
    @requires(*OWN_WORDS)
    async def thinking(self, info: Info) -> str | None:
        """Read together with the text."""
        output = await self._output(info)
        return None if output is None else info.context.answered(output.thinking)

    @strawberry.field(
        description="The tool calls requested so far; null when the text is no longer kept.", directives=[list_of(FEW)]
    )
    @requires(*OWN_WORDS)
    async def tool_calls(self, info: Info) -> list[ToolCall] | None:
        """Read together with the text."""
        output = await self._output(info)
        if output is None:
            return None
        calls = [ToolCall.of(call) for call in output.tool_calls]
        info.context.answered("".join(call.arguments_text for call in calls))
        return calls

    @strawberry.field(
        description="The sequence number of the last event so far. `text`, `thinking` and `toolCalls` of the same "
        "response include that event: pass the number as `after` to watch what follows. Null when the text is "
        "no longer kept.",
        directives=[READ_FROM_THE_LOG],
    )
    async def last_sequence(self, info: Info) -> int | None:
        """Read together with the text, so that both are of one moment."""
        output = await self._output(info)
        return None if output is None else output.last_sequence

    @strawberry.field(
        description="What the model was asked, available from the start until `textExpiresAt`. Null when it is not "
        "kept: it is kept only if the operator sets OLLAGRAPH_TEXT_RETENTION, and only if the request without "
        "its media has at most 4,000,000 bytes.",
        directives=[READ_AS_A_WHOLE],
    )
    @requires(*OWN_WORDS)
    async def input(self, info: Info) -> GenerationInput | None:
        """Those of a page are read together, and count by what the answer holds of them."""
        kept = await info.context.loaders.inputs.load(self.row.id)
        if not isinstance(kept, KeptInput):
            return None
        asked = GenerationInput.of(kept, self.row.id)
        for selected in info.selected_fields:
            info.context.count(answer_size(asked, selected.selections))
        return asked

    @strawberry.field(
        description="Until when the database keeps the text (because of OLLAGRAPH_TEXT_RETENTION or an idempotency "
        "key) and, if kept, the `input`; both are deleted together. Null while the generation runs, and if "
        "only the stream log has the text, which drops it by age and size."
    )
    async def text_expires_at(self, info: Info) -> datetime | None:
        """Those of a page are looked up in one statement."""
        return await info.context.loaders.text_expiries.load(self.row.id)

    @strawberry.field(
        description=f"How the limits stand now that count the generation, whether it runs or has ended. {WHO_MAY_SEE}",
        directives=[list_of(ASSUMED_LIMITS_OF_EACH)],
    )
    @requires(Scope.USAGE_READ)
    async def limits(self, info: Info) -> list[LimitStatus] | None:
        """Those of a page are read together."""
        return LimitStatus.all(await info.context.loaders.limits_of_generation.load(self.row.id))

    @strawberry.field(
        description="The model servers that were asked, in order; more than one if it continued after a loss. While "
        "another replica runs it, only the first.",
        directives=[list_of(FEW)],
    )
    async def attempts(self, info: Info) -> list[GenerationAttempt]:
        """Those of a page are looked up in one statement."""
        attempts = await info.context.loaders.attempts.load(self.row.id)
        if not attempts and self.row.finished_at is None:
            attempts = first_attempt(self.row)
        return [GenerationAttempt.of(attempt) for attempt in attempts]

    async def _output(self, info: Info) -> Output | None:
        output = await info.context.loaders.outputs.load(self.row.id)
        return output if isinstance(output, Output) else None

    @strawberry.field(description="The model; null when no backend serves it any more. Needs MODELS_READ.")
    @requires(Scope.MODELS_READ)
    async def model(self, info: Info) -> Model | None:
        """From the catalog as it is now."""
        model = await info.context.loaders.models.load(self.row.model)
        return None if model is None else Model.of(model)

    @strawberry.field(
        description="The user who requested it; null if the caller may not see that user. Needs PROFILE_READ."
    )
    @requires(Scope.PROFILE_READ)
    async def user(self, info: Info) -> User | None:
        """All users of a page are fetched in one statement."""
        row = await info.context.loaders.visible_users.load(self.row.user_id)
        return None if row is None else User.of(row)

    @strawberry.field(description="The API key that was used; null if an access token was used. Needs KEYS_READ.")
    @requires(Scope.KEYS_READ)
    async def api_key(self, info: Info) -> ApiKey | None:
        """All keys of a page are fetched in one statement."""
        if self.row.api_key_id is None:
            return None
        row = await info.context.loaders.visible_api_keys.load(self.row.api_key_id)
        return None if row is None else ApiKey.of(row)

    @classmethod
    def of(cls, row: tables.Generation) -> Self:
        """Give the generation of a row."""
        return cls(
            id=global_id("Generation", row.id),
            row=row,
            model_name=row.model,
            on_disconnect=OnDisconnect(row.on_disconnect),
            on_backend_loss=OnBackendLoss(row.on_backend_loss),
            content_policy=ContentPolicy.read(row.content_policy),
            state=State(row.state),
            created_at=row.created_at,
            started_at=row.started_at,
            finished_at=row.finished_at,
            finish_reason=finish_recorded(row),
            cancel_reason=cancel_recorded(row),
            error=None if (error := error_recorded(row)) is None else GenerationError.of(error),
            usage=_usage(row),
            cost=_cost(row),
            timings=Timings.of(row),
            tags=[Tag(name=name, value=value) for name, value in (row.tags or {}).items()],
            end_user=row.end_user,
        )


def _usage(row: tables.Generation) -> TokenUsage | None:
    usage = None if row.finished_at is None else usage_recorded(row)
    return None if usage is None else TokenUsage.of(usage)


def _cost(row: tables.Generation) -> Money | None:
    if row.cost_nano is None or row.currency is None:
        return None
    return Money.of(GatewayMoney.of_nano(row.cost_nano, row.currency))


@strawberry.input(
    description="Which generations to list. A generation has to match every field that is set.", name="GenerationFilter"
)
class GenerationFilterInput:
    states: list[State] | None = strawberry.field(default=None, description="Generations in one of these states.")
    model: str | None = strawberry.field(default=None, description="Generations of the model with this name.")

    def to_filter(self) -> GenerationFilter:
        """In the gateway's form. Raises InvalidInput for what PostgreSQL cannot even compare with."""
        if self.model is not None and "\0" in self.model:
            raise GatewayInvalidInput("filter.model", "may not hold the character U+0000.")
        return GenerationFilter(states=self.states, model=self.model)


@strawberry.type(description="A generation in a page.")
class GenerationEdge:
    cursor: str = strawberry.field(description="Pass as `after` to get the items after this one.")
    node: Generation = strawberry.field(description="The generation.")


@strawberry.type(description="A page of generations, newest first.")
class GenerationConnection:
    edges: list[GenerationEdge] = strawberry.field(description="The generations of this page with their cursors.")
    page_info: relay.PageInfo = strawberry.field(description="How to get the next page.")

    @strawberry.field(description="The generations of this page.")
    def nodes(self) -> list[Generation]:
        """For those who need no cursors."""
        return [edge.node for edge in self.edges]

    @classmethod
    def of(cls, rows: Sequence[tables.Generation], *, has_more: bool, after: str | None) -> Self:
        """Give a page of rows. A cursor is the generation's id: UUIDv7 sort by time."""
        edges = [GenerationEdge(cursor=global_id("Generation", row.id), node=Generation.of(row)) for row in rows]
        return cls(
            edges=edges,
            page_info=page_info([edge.cursor for edge in edges], has_more=has_more, after=after),
        )
