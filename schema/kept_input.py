"""What a generation was asked, as the API shows it: the output side of `GenerateInput`."""

import binascii
import re
from collections.abc import Sequence
from functools import cache
from typing import Self, cast
from uuid import UUID

import orjson
import strawberry
from strawberry.scalars import JSON
from strawberry.types.nodes import SelectedField, Selection

from gateway import generation
from gateway.generation import OBJECT_SIZE, KeptBlob, KeptInput, KeptMessage, KeptPart, NamedTool, ThinkingLevel
from gateway.generation import ToolChoiceMode as ChoiceMode
from schema.context import Info
from schema.cost import FEW, WITHIN, list_of
from schema.node import global_id
from schema.prompt_input import MessageRole
from schema.scalars import SafeInt
from schema.tool_call import ToolCall


@strawberry.type(description="Binary data of a message that was sent.")
class ContentBlob:
    generation_id: strawberry.Private[UUID]
    offset: strawberry.Private[int | None]
    blob_id: strawberry.ID | None = strawberry.field(
        description="The id of the blob that the request used; null if it sent base64. The blob's owner can "
        "download it from `GET /blobs/{blobId}` until it expires."
    )
    media_type: str = strawberry.field(description="Its media type, detected from its bytes, such as `image/png`.")
    size_bytes: SafeInt = strawberry.field(description="Its size in bytes, without base64.")
    sha256: str = strawberry.field(description="Its SHA-256 digest, in hexadecimal digits.")

    @strawberry.field(
        description="The data in base64. Of each request, the first 2,000,000 bytes of media are kept, each file as "
        "a whole and once. Null for media beyond that, for blobs, and when the data is no longer kept."
    )
    async def base64(self, info: Info) -> str | None:
        """Those of a page are read together, and only where they are asked for."""
        if self.offset is None:
            return None
        data = await info.context.loaders.media.load(self.generation_id)
        if not isinstance(data, bytes):
            return None
        own = data[self.offset : self.offset + self.size_bytes]
        return info.context.answered(binascii.b2a_base64(own, newline=False).decode())

    @classmethod
    def of(cls, blob: KeptBlob, generation_id: UUID) -> Self:
        """Give the data of a kept part."""
        return cls(
            generation_id=generation_id,
            offset=blob.offset,
            blob_id=None if blob.blob_id is None else global_id("Blob", blob.blob_id),
            media_type=blob.media_type,
            size_bytes=SafeInt(blob.size),
            sha256=blob.sha256,
        )


@strawberry.type(description="A part of a message that was sent. Exactly one of its fields is not null.")
class ContentPart:
    text: str | None = strawberry.field(description="Text.")
    image: ContentBlob | None = strawberry.field(description="An image.", directives=[WITHIN])
    audio: ContentBlob | None = strawberry.field(description="Audio.", directives=[WITHIN])
    file: ContentBlob | None = strawberry.field(description="A document.", directives=[WITHIN])

    @classmethod
    def of(cls, part: KeptPart, generation_id: UUID) -> Self:
        """Give a kept part."""

        def media(blob: KeptBlob | None) -> ContentBlob | None:
            return None if blob is None else ContentBlob.of(blob, generation_id)

        return cls(text=part.text, image=media(part.image), audio=media(part.audio), file=media(part.file))


@strawberry.type(description="A message that was sent. It has `text` or `parts`, not both.")
class InputMessage:
    role: MessageRole = strawberry.field(description="Who wrote the message.")
    text: str | None = strawberry.field(description="The text; null if the message has `parts`, or neither.")
    parts: list[ContentPart] | None = strawberry.field(
        description="Text and media in order; null if the message has a `text`.",
        directives=[WITHIN, list_of(FEW)],
    )
    tool_calls: list[ToolCall] = strawberry.field(
        description="ASSISTANT messages: the tool calls that the model requested.",
        directives=[WITHIN, list_of(FEW)],
    )
    tool_call_id: str | None = strawberry.field(description="TOOL messages: the call that this message answers.")
    tool_name: str | None = strawberry.field(description="TOOL messages: the tool that answers.")
    thinking: str | None = strawberry.field(
        description="ASSISTANT messages: what the model thought before it answered."
    )

    @classmethod
    def of(cls, message: KeptMessage, generation_id: UUID) -> Self:
        """Give a kept message."""
        parts = message.parts
        return cls(
            role=MessageRole(message.role),
            text=message.text,
            parts=None if parts is None else [ContentPart.of(part, generation_id) for part in parts],
            tool_calls=[ToolCall.of(call) for call in message.tool_calls],
            tool_call_id=message.tool_call_id,
            tool_name=message.tool_name,
            thinking=message.thinking,
        )


@strawberry.type(
    description="The sampling options of a request. A field is null if the request left it to the model server. "
    "They can be sent again as `GenerationOptions`."
)
class SamplingOptions:
    temperature: float | None = strawberry.field(description="Randomness, 0 to 2.")
    top_p: float | None = strawberry.field(
        description="Nucleus sampling: the total probability of the tokens to sample from, 0 to 1."
    )
    top_k: int | None = strawberry.field(description="Sample from this many of the likeliest tokens.")
    min_p: float | None = strawberry.field(description="Minimum probability relative to the likeliest token, 0 to 1.")
    max_tokens: int | None = strawberry.field(description="The most tokens to generate.")
    seed: int | None = strawberry.field(description="The seed of the random numbers.")
    stop: list[str] = strawberry.field(description="Strings before which the answer ends; empty if none were set.")
    context_length: int | None = strawberry.field(description="How many tokens prompt and answer may have together.")
    presence_penalty: float | None = strawberry.field(description="Penalty for tokens that already occurred, -2 to 2.")
    frequency_penalty: float | None = strawberry.field(
        description="Penalty that grows with how often a token occurred, -2 to 2."
    )
    repeat_penalty: float | None = strawberry.field(
        description="Factor against repetition, 0.01 to 2; 1 has no effect."
    )

    @classmethod
    def of(cls, options: generation.Options) -> Self:
        """Give kept options; the names are the same."""
        names = [name for name in generation.Options.__dataclass_fields__ if name != "stop"]
        return cls(stop=list(options.stop), **{name: getattr(options, name) for name in names})


@strawberry.type(
    description="The form that the answer must have. Either `jsonObject` is true, or exactly one other field is not "
    "null."
)
class OutputFormat:
    json_object: bool = strawberry.field(description="Whether the answer must be a JSON object.")
    json_schema: JSON | None = strawberry.field(description="The JSON Schema that the answer must be valid against.")
    regex: str | None = strawberry.field(description="The regular expression that must match the whole text.")
    grammar: str | None = strawberry.field(
        description="The grammar that the text must follow, in the model server's notation."
    )
    choice: list[str] | None = strawberry.field(description="The texts of which the answer must be one.")

    @classmethod
    def of(cls, wanted: generation.OutputFormat) -> Self:
        """Give a kept format."""
        return cls(
            json_object=wanted.json_object,
            json_schema=None if wanted.json_schema is None else JSON(wanted.json_schema),
            regex=wanted.regex,
            grammar=wanted.grammar,
            choice=None if wanted.choice is None else list(wanted.choice),
        )


@strawberry.type(description="A function that the model could call.")
class Tool:
    name: str = strawberry.field(description="The function's name.")
    description: str = strawberry.field(description="What it does, for the model; may be empty.")
    parameters: JSON = strawberry.field(description="Its parameters, as a JSON Schema object.")

    @classmethod
    def of(cls, tool: generation.Tool) -> Self:
        """Give a kept tool."""
        return cls(name=tool.name, description=tool.description, parameters=JSON(tool.parameters))


@strawberry.type(description="Which tool the model had to call. Exactly one of its fields is not null.")
class ToolChoice:
    mode: ChoiceMode | None = strawberry.field(description="Whether the model calls tools.")
    name: str | None = strawberry.field(description="The tool that the model must call.")

    @classmethod
    def of(cls, choice: generation.ToolChoice) -> Self:
        """Give a kept choice."""
        named = isinstance(choice, NamedTool)
        return cls(mode=None if named else choice, name=choice.name if named else None)


@strawberry.type(
    description="What a generation was asked: the request as it was sent, for showing it and for follow-up "
    "questions. To ask the next question, send `messages` again, then an ASSISTANT message with the "
    "generation's `text`, then a USER message."
)
class GenerationInput:
    model: str = strawberry.field(description="The model's name, as the request gave it.")
    messages: list[InputMessage] = strawberry.field(
        description="All messages, oldest first. The request's `system` is the first one, a SYSTEM message; a "
        "prompt with a single `text` is one USER message.",
        directives=[WITHIN, list_of(FEW)],
    )
    options: SamplingOptions = strawberry.field(description="The sampling options of the request.", directives=[WITHIN])
    format: OutputFormat | None = strawberry.field(
        description="The form that the answer had to have; null if the request set none.", directives=[WITHIN]
    )
    tools: list[Tool] = strawberry.field(
        description="The tools that the model could call.", directives=[WITHIN, list_of(FEW)]
    )
    tool_choice: ToolChoice | None = strawberry.field(
        description="Which tool the model had to call; null if that was left to the model.",
        directives=[WITHIN],
    )
    thinking: ThinkingLevel | None = strawberry.field(
        description="How much the model was asked to think; null if that was left to the model."
    )

    @classmethod
    def of(cls, kept: KeptInput, generation_id: UUID) -> Self:
        """Give a kept request."""
        return cls(
            model=kept.model,
            messages=[InputMessage.of(message, generation_id) for message in kept.messages],
            options=SamplingOptions.of(kept.options),
            format=None if kept.format is None else OutputFormat.of(kept.format),
            tools=[Tool.of(tool) for tool in kept.tools],
            tool_choice=None if kept.tool_choice is None else ToolChoice.of(kept.tool_choice),
            thinking=kept.thinking,
        )


def answer_size(value: object, selections: Sequence[Selection]) -> int:
    """Count the characters that an answer holds of a value under these selections, each as often as it is selected.

    Each object counts OBJECT_SIZE besides: many small messages are work, too.
    """
    if isinstance(value, list):
        return sum(answer_size(item, selections) for item in cast("list[object]", value))
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return len(orjson.dumps(value))
    if value is None or not selections:
        return 0
    return OBJECT_SIZE + sum(_selected_size(value, selection) for selection in selections)


def _selected_size(value: object, selection: Selection) -> int:
    if isinstance(selection, SelectedField):
        return answer_size(getattr(value, _python_name(selection.name), None), selection.selections)
    return sum(_selected_size(value, inner) for inner in selection.selections)


@cache
def _python_name(name: str) -> str:
    return re.sub("[A-Z]", lambda capital: f"_{capital[0].lower()}", name)
