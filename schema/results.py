"""What the mutations of generations and of limits give."""

from typing import Annotated

import strawberry

from gateway.generation import Answer, Output
from schema.context import Info
from schema.cost import FEW, list_of
from schema.errors import (
    GenerationError,
    InvalidInput,
    ModelNotFound,
    NotFound,
    Overloaded,
    RequestRefused,
    ShuttingDown,
    Unsupported,
    UserError,
)
from schema.generation import Generation
from schema.limits import Limit, QuotaExceeded, RateLimited
from schema.tool_call import ToolCall


@strawberry.type(description="The whole answer. If the generation was cancelled, what the model wrote until then.")
class GenerateSuccess:
    output: strawberry.Private[Output]
    generation: Generation = strawberry.field(description="The generation after its end.")

    @strawberry.field(description="What the model wrote.")
    def text(self, info: Info) -> str:
        """Give the deltas together."""
        return info.context.answered(self.output.text)

    @strawberry.field(description="What the model thought before it answered, if it was asked to think.")
    def thinking(self, info: Info) -> str | None:
        """Null and not empty where there is none."""
        return info.context.answered(self.output.thinking) or None

    @strawberry.field(description="The tool calls that the model requests.", directives=[list_of(FEW)])
    def tool_calls(self) -> list[ToolCall]:
        """In the model's order."""
        return [ToolCall.of(call) for call in self.output.tool_calls]


@strawberry.type(
    description="The generation started and failed. `text` has what the model wrote before; it is counted in `usage`."
)
class GenerateFailure(UserError):
    output: strawberry.Private[Output]
    error: GenerationError = strawberry.field(description="Why it failed; `message` and `code` repeat it.")
    generation: Generation = strawberry.field(description="The failed generation.")

    @strawberry.field(description="What the model wrote before it failed.")
    def text(self, info: Info) -> str:
        """Give the deltas together."""
        return info.context.answered(self.output.text)


def generate_result(answer: Answer) -> GenerateSuccess | GenerateFailure:
    """Give the member of GenerateResult for an answer."""
    generation, failure = Generation.of(answer.generation), answer.output.failure
    if failure is None:
        return GenerateSuccess(output=answer.output, generation=generation)
    return GenerateFailure(
        message=failure.message,
        code=failure.code,
        error=GenerationError.of(failure),
        output=answer.output,
        generation=generation,
    )


GenerateResult = Annotated[
    GenerateSuccess
    | GenerateFailure
    | InvalidInput
    | ModelNotFound
    | Unsupported
    | RateLimited
    | QuotaExceeded
    | RequestRefused
    | Overloaded
    | ShuttingDown,
    strawberry.union("GenerateResult", description="The result of `generate`."),
]


@strawberry.type(description="The generation was started. Watch it with the subscription `generation`.")
class StartGenerationSuccess:
    generation: Generation = strawberry.field(description="The generation, queued or running.")


StartGenerationResult = Annotated[
    StartGenerationSuccess
    | InvalidInput
    | ModelNotFound
    | Unsupported
    | RateLimited
    | QuotaExceeded
    | RequestRefused
    | Overloaded
    | ShuttingDown,
    strawberry.union("StartGenerationResult", description="The result of `startGeneration`."),
]


@strawberry.input(description="A generation to cancel.")
class CancelGenerationInput:
    id: strawberry.ID = strawberry.field(description="The generation's id.")


@strawberry.type(description="The generation has ended, now or earlier; its state says how.")
class CancelGenerationSuccess:
    generation: Generation = strawberry.field(description="The generation as it ended.")


CancelGenerationResult = Annotated[
    CancelGenerationSuccess | NotFound | InvalidInput,
    strawberry.union("CancelGenerationResult", description="The result of `cancelGeneration`."),
]


@strawberry.type(description="The limit holds, here at once and at other gateways within a moment.")
class SetLimitSuccess:
    limit: Limit = strawberry.field(description="The limit as it is now.")


SetLimitResult = Annotated[
    SetLimitSuccess | InvalidInput,
    strawberry.union("SetLimitResult", description="The result of `setLimit`."),
]


@strawberry.type(description="The limit was removed, with all that was counted for it.")
class RemoveLimitSuccess:
    name: str = strawberry.field(description="The name that the limit had.")


RemoveLimitResult = Annotated[
    RemoveLimitSuccess | NotFound | InvalidInput,
    strawberry.union("RemoveLimitResult", description="The result of `removeLimit`."),
]
