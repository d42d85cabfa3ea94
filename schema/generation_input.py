"""A request to a model, as the API takes it."""

from typing import Any, TypeVar, cast

import strawberry
from strawberry.scalars import JSON

from auth.principal import ContentPolicy
from gateway import generation
from gateway.generation import (
    GenerationRequest,
    NamedTool,
    OnBackendLoss,
    OnDisconnect,
    OnLimit,
    Options,
    OutputFormat,
    Tag,
    ThinkingLevel,
    Tool,
    ToolChoice,
    ToolChoiceMode,
)
from schema.catalog import MODEL_NAME
from schema.prompt_input import PromptInput, make_quickly

_Value = TypeVar("_Value")


@strawberry.input(description="A function that the model may call.")
class ToolInput:
    name: str = strawberry.field(description="The function's name.")
    description: str | None = strawberry.field(default="", description="What it does, for the model.")
    parameters: JSON = strawberry.field(description="Its parameters, as a JSON Schema object.")

    def to_tool(self) -> Tool:
        """In the gateway's form, which checks that the parameters are an object."""
        return Tool(self.name, self.description or "", cast("dict[str, Any]", self.parameters))


@strawberry.input(description="Which tool the model calls. Exactly one of its fields must be set.", one_of=True)
class ToolChoiceInput:
    mode: ToolChoiceMode | None = strawberry.field(
        default=strawberry.UNSET, description="Whether the model calls tools."
    )
    name: str | None = strawberry.field(
        default=strawberry.UNSET,
        description="The tool that the model must call. Not supported by Ollama (UNSUPPORTED).",
    )

    def to_choice(self) -> ToolChoice | None:
        """In the gateway's form."""
        return NamedTool(self.name) if isinstance(self.name, str) else self.mode or None


def _given(value: _Value | None) -> _Value | None:
    """None for a field of a @oneOf input that was not given."""
    return None if value is strawberry.UNSET else value


@strawberry.input(
    description="The form that the answer must have. Exactly one of its fields must be set. A form that the model "
    "server does not support is refused with UNSUPPORTED.",
    one_of=True,
)
class OutputFormatInput:
    json_object: bool | None = strawberry.field(
        default=strawberry.UNSET, description="true: any JSON object. false: any text."
    )
    json_schema: JSON | None = strawberry.field(
        default=strawberry.UNSET, description="JSON that is valid against this JSON Schema (an object)."
    )
    regex: str | None = strawberry.field(
        default=strawberry.UNSET, description="Text that matches this regular expression as a whole. vLLM only."
    )
    grammar: str | None = strawberry.field(
        default=strawberry.UNSET,
        description="Text that follows this grammar, in the server's notation: GBNF for llama.cpp and the embedded "
        "model, EBNF for vLLM. Not supported by other servers.",
    )
    choice: list[str] | None = strawberry.field(
        default=strawberry.UNSET,
        description="Exactly one of these 1 to 100 texts. vLLM, llama.cpp and the embedded model only.",
    )

    def to_format(self) -> OutputFormat | None:
        """In the gateway's form, which checks that a schema is an object."""
        if self.json_object is False:
            return None
        return OutputFormat(
            json_object=self.json_object is True,
            json_schema=cast("dict[str, Any] | None", _given(self.json_schema)),
            regex=_given(self.regex),
            grammar=_given(self.grammar),
            choice=_given(self.choice),
        )


@strawberry.input(description="Sampling options. Those that are not set are left to the model server.")
class GenerationOptions:
    temperature: float | None = strawberry.field(default=None, description="Randomness, 0 to 2.")
    top_p: float | None = strawberry.field(
        default=None, description="Nucleus sampling: the total probability of the tokens to sample from, 0 to 1."
    )
    top_k: int | None = strawberry.field(
        default=None, description="Sample from this many of the likeliest tokens, 0 to 1,000."
    )
    min_p: float | None = strawberry.field(
        default=None, description="Minimum probability relative to the likeliest token, 0 to 1."
    )
    max_tokens: int | None = strawberry.field(default=None, description="The most tokens to generate, 1 to 1,000,000.")
    seed: int | None = strawberry.field(
        default=None, description="The seed of the random numbers, 0 or more. The same seed gives the same answer."
    )
    stop: list[str] | None = strawberry.field(
        default_factory=list[str], description="Strings before which the answer ends; at most 8."
    )
    context_length: int | None = strawberry.field(
        default=None,
        description="How many tokens prompt and answer may have together. A longer prompt is refused; an answer "
        "that reaches it ends with LENGTH. A change may make Ollama reload the model.",
    )
    presence_penalty: float | None = strawberry.field(
        default=None, description="Penalty for tokens that already occurred, -2 to 2."
    )
    frequency_penalty: float | None = strawberry.field(
        default=None, description="Penalty that grows with how often a token occurred, -2 to 2."
    )
    repeat_penalty: float | None = strawberry.field(
        default=None, description="Factor against repetition, 0.01 to 2; 1 has no effect."
    )

    def to_options(self) -> Options:
        """In the gateway's form; the names are the same."""
        return Options(
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            min_p=self.min_p,
            max_tokens=self.max_tokens,
            seed=self.seed,
            stop=tuple(self.stop or ()),
            context_length=self.context_length,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            repeat_penalty=self.repeat_penalty,
        )


@strawberry.input(description="A name and a value to group reports by.")
class TagInput:
    name: str = strawberry.field(description="The name, 1 to 64 characters.")
    value: str = strawberry.field(description="The value, up to 256 characters.")

    def to_tag(self) -> Tag:
        """In the gateway's form."""
        return Tag(self.name, self.value)


make_quickly(ToolInput)
make_quickly(TagInput)


@strawberry.input(description="A request to a model. For a field with a default, null means the default.")
class GenerateInput:
    model: str = strawberry.field(description=MODEL_NAME)
    prompt: PromptInput = strawberry.field(description="What the model is asked.")
    system: str | None = strawberry.field(
        default=None, description="Instructions for the model. They become the first message, a SYSTEM message."
    )
    options: GenerationOptions | None = strawberry.field(default=None, description="Sampling options.")
    format: OutputFormatInput | None = strawberry.field(default=None, description="The form that the answer must have.")
    thinking: ThinkingLevel | None = strawberry.field(
        default=None,
        description="How much the model thinks before it answers, for models with THINKING; null leaves it to the "
        "model. If the model server does not know a level, the nearest one it knows is used.",
    )
    tools: list[ToolInput] | None = strawberry.field(
        default_factory=list[ToolInput], description="The tools that the model may call, for models with TOOLS."
    )
    tool_choice: ToolChoiceInput | None = strawberry.field(
        default=None, description="Which of the tools the model calls; null leaves it to the model."
    )
    on_disconnect: OnDisconnect | None = strawberry.field(
        default=OnDisconnect.CANCEL, description="What happens when the last viewer disconnects."
    )

    on_backend_loss: OnBackendLoss | None = strawberry.field(
        default=OnBackendLoss.FAIL,
        description="What happens when the model server, or the gateway that runs the generation, is lost before "
        "the end.",
    )
    content_policy: ContentPolicy | None = strawberry.field(
        default=None,
        description="What the database keeps at most of the prompt and the answer; null for what the setting "
        "OLLAGRAPH_CONTENT_POLICY and the API key allow. It can only be less than that.",
    )
    on_limit: OnLimit | None = strawberry.field(
        default=OnLimit.REFUSE, description="What happens when a limit has no room for the generation now."
    )
    idempotency_key: str | None = strawberry.field(
        default=None,
        description="A key of your choice, 1 to 255 characters. For a day, repeating the request with the same key "
        "returns the generation that it started the first time.",
    )

    tags: list[TagInput] | None = strawberry.field(
        default_factory=list[TagInput],
        description="Names and values to group reports by, such as a team or a feature; at most 16, each name once. "
        "They are stored with the generation and its usage, and never sent to a model server.",
    )
    end_user: str | None = strawberry.field(
        default=None,
        description="The caller's own user on whose behalf this is asked, 1 to 256 characters. For reports only, "
        "never for permissions. It is stored with the generation and its usage, and never sent to a model "
        "server.",
    )

    def to_request(self, *, logprobs: bool = False) -> GenerationRequest:
        """In the gateway's form. Raises InvalidInput."""
        return GenerationRequest(
            model=self.model,
            prompt=self.prompt.to_prompt(),
            system=self.system,
            options=generation.NO_OPTIONS if self.options is None else self.options.to_options(),
            format=None if self.format is None else self.format.to_format(),
            thinking=self.thinking,
            tools=[tool.to_tool() for tool in self.tools or ()],
            tool_choice=None if self.tool_choice is None else self.tool_choice.to_choice(),
            on_disconnect=self.on_disconnect or OnDisconnect.CANCEL,
            on_backend_loss=self.on_backend_loss or OnBackendLoss.FAIL,
            content_policy=self.content_policy,
            on_limit=self.on_limit or OnLimit.REFUSE,
            idempotency_key=self.idempotency_key,
            tags=tuple(tag.to_tag() for tag in self.tags or ()),
            end_user=self.end_user,
            logprobs=logprobs,
        )
