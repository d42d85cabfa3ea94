"""What a user asks of a model, as the API takes it."""

from collections.abc import Mapping
from enum import Enum
from typing import Any, TypeVar, cast
from uuid import UUID

import strawberry
from strawberry.scalars import JSON
from strawberry.types.arguments import InputContext

from gateway import generation
from gateway.errors import InvalidInput
from gateway.generation import (
    AudioPart,
    BlobPart,
    FilePart,
    GenerationRequest,
    ImagePart,
    MediaKind,
    NamedTool,
    OnBackendLoss,
    OnDisconnect,
    Options,
    OutputFormat,
    Part,
    Role,
    Tag,
    TextPart,
    ThinkingLevel,
    Tool,
    ToolChoice,
    ToolChoiceMode,
    Turn,
)
from gateway.generation import ToolCall as RequestedToolCall
from schema.catalog import MODEL_NAME
from schema.node import parse_uuid

_Value = TypeVar("_Value")


@strawberry.enum(description="Whose message it is.")
class MessageRole(Enum):
    SYSTEM = strawberry.enum_value("system", description="Instructions for the model.")
    DEVELOPER = strawberry.enum_value(
        "developer",
        description="Instructions of the application's developer. OpenAI-compatible servers get them as such; to "
        "Ollama, llama.cpp and the embedded model, which have no such role, they go as SYSTEM.",
    )
    USER = strawberry.enum_value("user", description="What the user says.")
    ASSISTANT = strawberry.enum_value("assistant", description="What the model said.")
    TOOL = strawberry.enum_value("tool", description="The result of a tool call.")


@strawberry.input(description="Binary data. Exactly one of its fields.", one_of=True)
class BlobInput:
    base64: str | None = strawberry.field(
        default=strawberry.UNSET,
        description="The data in base64, or as a data URL in base64; for small files, since it is part of the request.",
    )
    blob_id: strawberry.ID | None = strawberry.field(
        default=strawberry.UNSET,
        description="The id that `POST /blobs` gave for the file. It must be the caller's own and not have expired; "
        "its use here extends its expiry.",
    )

    def to_part(self, kind: MediaKind) -> Part:
        """In the gateway's form."""
        if isinstance(self.blob_id, str):
            return BlobPart(_blob_key(self.blob_id), kind)
        data = self.base64 or ""
        match kind:
            case MediaKind.IMAGE:
                return ImagePart(data)
            case MediaKind.AUDIO:
                return AudioPart(data, "")
            case MediaKind.FILE:
                return FilePart(data, "")


def _blob_key(blob_id: str) -> UUID:
    """Give the key in an id; for what is no id of a blob, one that no blob has: it is refused like an unknown one."""
    try:
        return parse_uuid(blob_id, "Blob")
    except InvalidInput:
        return UUID(int=0)


@strawberry.input(description="A part of a message. Exactly one of its fields.", one_of=True)
class ContentPartInput:
    text: str | None = strawberry.field(default=strawberry.UNSET, description="A text.")
    image: BlobInput | None = strawberry.field(
        default=strawberry.UNSET,
        description="An image, for models with VISION: PNG, JPEG, GIF, WebP, BMP, TIFF or AVIF.",
    )

    audio: BlobInput | None = strawberry.field(
        default=strawberry.UNSET,
        description="A sound, for models with AUDIO: WAV, MP3, Ogg or FLAC. Ollama takes none (UNSUPPORTED).",
    )
    file: BlobInput | None = strawberry.field(
        default=strawberry.UNSET,
        description="A document, for models with FILES: PDF, or text in UTF-8. OpenAI's API has a place for it; "
        "Ollama, llama.cpp and vLLM take none (UNSUPPORTED).",
    )

    def to_part(self) -> Part:
        """In the gateway's form."""
        for blob, kind in ((self.image, MediaKind.IMAGE), (self.audio, MediaKind.AUDIO), (self.file, MediaKind.FILE)):
            if blob:
                return blob.to_part(kind)
        return TextPart(self.text or "")


@strawberry.input(description="A tool call that the model asked for earlier in the conversation.")
class ToolCallInput:
    call_id: str = strawberry.field(description="The call's id, as its ToolCall told it.")
    name: str = strawberry.field(description="The tool's name.")
    arguments: JSON = strawberry.field(description="The arguments, an object.")

    def to_call(self) -> RequestedToolCall:
        """In the gateway's form, which checks that the arguments are an object."""
        return RequestedToolCall(self.call_id, self.name, cast("dict[str, Any]", self.arguments))


@strawberry.input(description="One message of a conversation. It has a text or parts, not both.")
class MessageInput:
    role: MessageRole = strawberry.field(description="Whose message it is.")
    text: str | None = strawberry.field(default=None, description="The text.")
    parts: list[ContentPartInput] | None = strawberry.field(
        default=None,
        description="Texts, images, sounds and files, in the order in which the model gets them. Ollama takes texts "
        "and images apart: it gets the texts one below the other, and the images in their order.",
    )
    tool_calls: list[ToolCallInput] | None = strawberry.field(
        default_factory=list[ToolCallInput],
        description="Of an ASSISTANT message: the tool calls that the model asked for.",
    )
    tool_call_id: str | None = strawberry.field(default=None, description="Of a TOOL message: the call it answers.")
    tool_name: str | None = strawberry.field(default=None, description="Of a TOOL message: the tool that answers.")
    thinking: str | None = strawberry.field(
        default=None, description="Of an ASSISTANT message: what the model thought before it answered."
    )

    def to_turn(self) -> Turn:
        """In the gateway's form."""
        return Turn(
            role=cast("Role", self.role.value),
            text=self.text,
            parts=None if self.parts is None else [part.to_part() for part in self.parts],
            tool_calls=[call.to_call() for call in self.tool_calls or ()],
            tool_call_id=self.tool_call_id,
            tool_name=self.tool_name,
            thinking=self.thinking,
        )


@strawberry.input(description="What the model is asked. Exactly one of its fields.", one_of=True)
class PromptInput:
    text: str | None = strawberry.field(default=strawberry.UNSET, description="A single question; not empty.")
    messages: list[MessageInput] | None = strawberry.field(
        default=strawberry.UNSET,
        description="A conversation, oldest message first. If the last one is an ASSISTANT message with text, the "
        "model continues that text.",
    )

    def to_prompt(self) -> str | list[Turn]:
        """In the gateway's form."""
        return self.text if isinstance(self.text, str) else [message.to_turn() for message in self.messages or ()]


@strawberry.input(description="A function that the model may ask to have called.")
class ToolInput:
    name: str = strawberry.field(description="The function's name.")
    description: str | None = strawberry.field(default="", description="What it does, for the model to read.")
    parameters: JSON = strawberry.field(description="Its parameters, as a JSON Schema object.")

    def to_tool(self) -> Tool:
        """In the gateway's form, which checks that the parameters are an object."""
        return Tool(self.name, self.description or "", cast("dict[str, Any]", self.parameters))


@strawberry.input(description="Which tool the model calls. Exactly one of its fields.", one_of=True)
class ToolChoiceInput:
    mode: ToolChoiceMode | None = strawberry.field(
        default=strawberry.UNSET, description="Whether the model calls tools."
    )
    name: str | None = strawberry.field(
        default=strawberry.UNSET,
        description="The one of the tools that the model must call. Ollama cannot do this (UNSUPPORTED).",
    )

    def to_choice(self) -> ToolChoice | None:
        """In the gateway's form."""
        return NamedTool(self.name) if isinstance(self.name, str) else self.mode or None


def _given(value: _Value | None) -> _Value | None:
    """None for a field of a @oneOf input that was not given."""
    return None if value is strawberry.UNSET else value


@strawberry.input(
    description="The form that the answer must have. Exactly one of its fields. What the model server cannot do is "
    "UNSUPPORTED.",
    one_of=True,
)
class OutputFormatInput:
    json_object: bool | None = strawberry.field(
        default=strawberry.UNSET, description="true: any JSON object. false: any text."
    )
    json_schema: JSON | None = strawberry.field(
        default=strawberry.UNSET, description="JSON that is valid under this JSON Schema, an object."
    )
    regex: str | None = strawberry.field(
        default=strawberry.UNSET, description="A text that this regular expression matches as a whole. vLLM only."
    )
    grammar: str | None = strawberry.field(
        default=strawberry.UNSET,
        description="A text of this grammar, in the server's own notation: GBNF for llama.cpp and the embedded model, "
        "EBNF for vLLM. Other servers take none.",
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


@strawberry.input(description="How the model chooses its words. What is not given is left to the backend.")
class GenerationOptions:
    temperature: float | None = strawberry.field(default=None, description="Randomness, 0 to 2.")
    top_p: float | None = strawberry.field(default=None, description="Nucleus sampling, 0 to 1.")
    top_k: int | None = strawberry.field(default=None, description="Choose among this many tokens, 0 to 1,000.")
    min_p: float | None = strawberry.field(default=None, description="Least probability beside the best, 0 to 1.")
    max_tokens: int | None = strawberry.field(default=None, description="End after this many tokens, 1 to 1,000,000.")
    seed: int | None = strawberry.field(default=None, description="The same seed gives the same answer, 0 or more.")
    stop: list[str] | None = strawberry.field(
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
            stop=tuple(self.stop or ()),
            context_length=self.context_length,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            repeat_penalty=self.repeat_penalty,
        )


def _make_quickly(kind: Any, **inner: Any) -> None:
    """Let many inputs of this type be made at once: Strawberry takes 50 microseconds for each, and this a few.

    `inner` are the fields that are such a type, or lists of one; the others hold scalars, enums, or lists of these.
    graphql-core has checked and coerced the values by then.
    """
    definition = kind.__strawberry_definition__
    names = {"".join(_capitals(field.python_name)): field.python_name for field in definition.fields}

    def make(kind: Any, value: Mapping[str, Any], context: InputContext) -> Any:
        given = {names[name]: item for name, item in value.items()}
        for name, element in inner.items():
            make_inner = element.__strawberry_definition__.from_input
            items = given.get(name)
            if isinstance(items, list):
                given[name] = [make_inner(element, item, context) for item in cast("list[Any]", items)]
            elif items is not None:
                given[name] = make_inner(element, items, context)
        return kind(**given)

    definition.from_input = make


def _capitals(name: str) -> list[str]:
    """Give the words of a Python name, as they stand in a name of GraphQL's."""
    first, *others = name.split("_")
    return [first, *(word.capitalize() for word in others)]


@strawberry.input(description="A name and a value by which reports tell generations apart.")
class TagInput:
    name: str = strawberry.field(description="The name, 1 to 64 characters; each name once.")
    value: str = strawberry.field(description="The value, up to 256 characters.")

    def to_tag(self) -> Tag:
        """In the gateway's form."""
        return Tag(self.name, self.value)


_make_quickly(BlobInput)
_make_quickly(ContentPartInput, image=BlobInput, audio=BlobInput, file=BlobInput)
_make_quickly(ToolCallInput)
_make_quickly(MessageInput, parts=ContentPartInput, tool_calls=ToolCallInput)
_make_quickly(ToolInput)
_make_quickly(TagInput)


@strawberry.input(description="A request to a model. Where a field has a default, null means the default.")
class GenerateInput:
    model: str = strawberry.field(description=MODEL_NAME)
    prompt: PromptInput = strawberry.field(description="What the model is asked.")
    system: str | None = strawberry.field(
        default=None, description="Instructions for the model, put before everything else as a SYSTEM message."
    )
    options: GenerationOptions | None = strawberry.field(default=None, description="How the model chooses its words.")
    format: OutputFormatInput | None = strawberry.field(default=None, description="The form that the answer must have.")
    thinking: ThinkingLevel | None = strawberry.field(
        default=None,
        description="How much the model thinks before it answers, for models with THINKING; null leaves it to the "
        "model. A server that does not have a level takes the nearest one it has.",
    )
    tools: list[ToolInput] | None = strawberry.field(
        default_factory=list[ToolInput], description="The tools it may ask for; for models with TOOLS."
    )
    tool_choice: ToolChoiceInput | None = strawberry.field(
        default=None, description="Which of the tools the model calls; null leaves it to the model."
    )
    on_disconnect: OnDisconnect | None = strawberry.field(
        default=OnDisconnect.CANCEL, description="What happens when the last viewer leaves."
    )

    on_backend_loss: OnBackendLoss | None = strawberry.field(
        default=OnBackendLoss.FAIL,
        description="What happens when the model server, or the gateway that asks it, dies in the middle.",
    )
    idempotency_key: str | None = strawberry.field(
        default=None,
        description="A key of your own, 1 to 255 characters: for a day, the same request under it starts nothing new "
        "and gives what it started before.",
    )

    tags: list[TagInput] | None = strawberry.field(
        default_factory=list[TagInput],
        description="Names and values by which reports tell generations apart, such as a team or a feature; at most "
        "16. They are stored with the generation and its usage, and no model server gets them.",
    )
    end_user: str | None = strawberry.field(
        default=None,
        description="For whom of the caller's own users this is, 1 to 256 characters: for reports, never for rights. "
        "It is stored with the generation and its usage, and no model server gets it.",
    )

    def to_request(self) -> GenerationRequest:
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
            idempotency_key=self.idempotency_key,
            tags=tuple(tag.to_tag() for tag in self.tags or ()),
            end_user=self.end_user,
        )
