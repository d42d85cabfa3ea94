"""What a user asks of a model, as the API takes it."""

from collections.abc import Mapping
from enum import Enum
from typing import Any, Literal, cast

import strawberry
from strawberry.scalars import JSON
from strawberry.types.arguments import InputContext

from gateway import generation
from gateway.errors import InvalidInput
from gateway.generation import GenerationRequest, Message, OnBackendLoss, OnDisconnect, Options, Tool
from gateway.generation import ToolCall as RequestedToolCall
from schema.catalog import MODEL_NAME


@strawberry.enum(name="MessageRole", description="Whose turn a message is.")
class Role(Enum):
    SYSTEM = strawberry.enum_value("system", description="Instructions for the model.")
    USER = strawberry.enum_value("user", description="What the user says.")
    ASSISTANT = strawberry.enum_value("assistant", description="What the model said.")
    TOOL = strawberry.enum_value("tool", description="What a tool answered.")


@strawberry.input(description="A tool call that the model asked for earlier in the conversation.")
class ToolCallInput:
    id: str = strawberry.field(description="The call's id.")
    name: str = strawberry.field(description="The tool's name.")
    arguments: JSON = strawberry.field(description="The arguments, an object.")

    def to_call(self, field: str) -> RequestedToolCall:
        """In the gateway's form."""
        return RequestedToolCall(self.id, self.name, _object(self.arguments, f"{field}.arguments"))


@strawberry.input(description="One turn of a conversation.")
class MessageInput:
    role: Role = strawberry.field(description="Whose turn it is.")
    content: str = strawberry.field(default="", description="What was said.")
    images: list[str] = strawberry.field(
        default_factory=list[str], description="Images, in base64 or as data URLs; for models with VISION."
    )
    tool_calls: list[ToolCallInput] = strawberry.field(
        default_factory=list[ToolCallInput], description="The tool calls that the model asked for in this turn."
    )
    tool_call_id: str | None = strawberry.field(default=None, description="Of a TOOL message: the call it answers.")
    tool_name: str | None = strawberry.field(default=None, description="Of a TOOL message: the tool that answers.")
    thinking: str | None = strawberry.field(default=None, description="What the model thought in this turn.")

    def to_message(self, field: str) -> Message:
        """In the gateway's form."""
        calls = [call.to_call(f"{field}.toolCalls[{index}]") for index, call in enumerate(self.tool_calls)]
        return Message(
            role=cast('Literal["system", "user", "assistant", "tool"]', self.role.value),
            content=self.content,
            images=self.images,
            tool_calls=calls,
            tool_call_id=self.tool_call_id,
            tool_name=self.tool_name,
            thinking=self.thinking,
        )


@strawberry.input(description="A function that the model may ask to have called.")
class ToolInput:
    name: str = strawberry.field(description="The function's name.")
    description: str = strawberry.field(default="", description="What it does, for the model to read.")
    parameters: JSON = strawberry.field(description="Its parameters, as a JSON Schema object.")

    def to_tool(self, field: str) -> Tool:
        """In the gateway's form."""
        return Tool(self.name, self.description, _object(self.parameters, f"{field}.parameters"))


@strawberry.input(description="The form that the answer must have.", one_of=True)
class OutputFormat:
    json: bool | None = strawberry.field(default=strawberry.UNSET, description="true: any JSON.")
    schema: JSON | None = strawberry.field(
        default=strawberry.UNSET, description="JSON that fits this JSON Schema, an object."
    )

    def to_format(self) -> Literal["json"] | dict[str, Any] | None:
        """In the gateway's form."""
        if isinstance(self.json, bool):
            return "json" if self.json else None
        return _object(self.schema, "format.schema")


@strawberry.input(description="How the model chooses its words. What is not given is left to the backend.")
class GenerationOptions:
    temperature: float | None = strawberry.field(default=None, description="Randomness, 0 to 2.")
    top_p: float | None = strawberry.field(default=None, description="Nucleus sampling, 0 to 1.")
    top_k: int | None = strawberry.field(default=None, description="Choose among this many tokens, 0 to 1,000.")
    min_p: float | None = strawberry.field(default=None, description="Least probability beside the best, 0 to 1.")
    max_tokens: int | None = strawberry.field(default=None, description="End after this many tokens, 1 to 1,000,000.")
    seed: int | None = strawberry.field(default=None, description="The same seed gives the same answer, 0 or more.")
    stop: list[str] = strawberry.field(
        default_factory=list[str], description="End before any of these strings; at most 8."
    )
    context_length: int | None = strawberry.field(
        default=None,
        description="Tokens that prompt and answer may have together: a longer prompt is refused, and an answer "
        "ends there with LENGTH. Ollama may load the model anew.",
    )
    presence_penalty: float | None = strawberry.field(default=None, description="Against repeated topics, -2 to 2.")
    frequency_penalty: float | None = strawberry.field(default=None, description="Against frequent words, -2 to 2.")
    repeat_penalty: float | None = strawberry.field(
        default=None, description="Against repetition, 0.01 to 2; 1 is none."
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
            stop=tuple(self.stop),
            context_length=self.context_length,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            repeat_penalty=self.repeat_penalty,
        )


def _make_quickly(kind: Any, **lists: Any) -> None:
    """Let many inputs of this type be made at once: Strawberry takes 50 microseconds for each, and this a few.

    `lists` are the fields that are lists of another such type; the others hold scalars, enums, or lists of these.
    graphql-core has checked and coerced the values by then.
    """
    definition = kind.__strawberry_definition__
    names = {"".join(_capitals(field.python_name)): field.python_name for field in definition.fields}

    def make(kind: Any, value: Mapping[str, Any], context: InputContext) -> Any:
        given = {names[name]: item for name, item in value.items()}
        for name, element in lists.items():
            if name in given:
                given[name] = [
                    element.__strawberry_definition__.from_input(element, item, context) for item in given[name]
                ]
        return kind(**given)

    definition.from_input = make


def _capitals(name: str) -> list[str]:
    """The words of a Python name, as they stand in a name of GraphQL's."""
    first, *others = name.split("_")
    return [first, *(word.capitalize() for word in others)]


_make_quickly(ToolCallInput)
_make_quickly(MessageInput, tool_calls=ToolCallInput)
_make_quickly(ToolInput)


@strawberry.input(description="A request to a model. Exactly one of prompt and messages is given.")
class GenerateInput:
    model: str = strawberry.field(description=MODEL_NAME)
    prompt: str | None = strawberry.field(default=None, description="A single question.")
    messages: list[MessageInput] | None = strawberry.field(default=None, description="A conversation, oldest first.")
    system: str | None = strawberry.field(default=None, description="Instructions put before everything else.")
    images: list[str] = strawberry.field(
        default_factory=list[str], description="With prompt: images, in base64 or as data URLs; for models with VISION."
    )
    options: GenerationOptions | None = strawberry.field(default=None, description="How the model chooses its words.")
    format: OutputFormat | None = strawberry.field(default=None, description="The form that the answer must have.")
    think: bool | None = strawberry.field(
        default=None, description="Whether to think first, for models with THINKING; null leaves it to the model."
    )
    tools: list[ToolInput] = strawberry.field(
        default_factory=list[ToolInput], description="The tools it may ask for; for models with TOOLS."
    )
    on_disconnect: OnDisconnect = strawberry.field(
        default=OnDisconnect.CANCEL, description="What happens when the last viewer leaves."
    )

    on_backend_loss: OnBackendLoss = strawberry.field(
        default=OnBackendLoss.FAIL,
        description="What happens when the model server, or the gateway that asks it, dies in the middle.",
    )
    idempotency_key: str | None = strawberry.field(
        default=None,
        description="A key of your own, 1 to 255 characters: for a day, the same request under it starts nothing new "
        "and gives what it started before.",
    )

    def to_request(self) -> GenerationRequest:
        """In the gateway's form. Raises InvalidInput where a JSON value is not an object."""
        messages = self.messages
        return GenerationRequest(
            model=self.model,
            prompt=self.prompt,
            messages=None
            if messages is None
            else [message.to_message(f"messages[{index}]") for index, message in enumerate(messages)],
            system=self.system,
            images=self.images,
            options=generation.NO_OPTIONS if self.options is None else self.options.to_options(),
            format=None if self.format is None else self.format.to_format(),
            think=self.think,
            tools=[tool.to_tool(f"tools[{index}]") for index, tool in enumerate(self.tools)],
            on_disconnect=self.on_disconnect,
            on_backend_loss=self.on_backend_loss,
            idempotency_key=self.idempotency_key,
        )


def _object(value: object, field: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidInput(field, "must be a JSON object.")
    return cast("dict[str, Any]", value)
