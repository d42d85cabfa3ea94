"""What the model is asked: a text, or messages with their parts."""

from collections.abc import Mapping
from enum import Enum
from typing import Any, cast
from uuid import UUID

import strawberry
from strawberry.scalars import JSON
from strawberry.types.arguments import InputContext

from gateway.errors import InvalidInput
from gateway.generation import (
    AudioPart,
    BlobPart,
    FilePart,
    ImagePart,
    MediaKind,
    Part,
    Role,
    TextPart,
    Turn,
)
from gateway.generation import ToolCall as RequestedToolCall
from schema.node import parse_uuid


def make_quickly(kind: Any, **inner: Any) -> None:
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


@strawberry.enum(description="Who wrote the message.")
class MessageRole(Enum):
    SYSTEM = strawberry.enum_value("system", description="Instructions for the model.")
    DEVELOPER = strawberry.enum_value(
        "developer",
        description="Instructions of the application's developer. Ollama, llama.cpp and the embedded model do not "
        "have this role and receive SYSTEM instead.",
    )
    USER = strawberry.enum_value("user", description="A message of the user.")
    ASSISTANT = strawberry.enum_value("assistant", description="What the model wrote.")
    TOOL = strawberry.enum_value("tool", description="The result of a tool call.")


@strawberry.input(description="Binary data. Exactly one of its fields must be set.", one_of=True)
class BlobInput:
    base64: str | None = strawberry.field(
        default=strawberry.UNSET,
        description="The data in base64, or as a base64 data URL. For small files, since it is part of the request.",
    )
    blob_id: strawberry.ID | None = strawberry.field(
        default=strawberry.UNSET,
        description="The id that `POST /blobs` returned. The blob must belong to the caller and must not have "
        "expired; using it extends its expiry.",
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


@strawberry.input(description="A part of a message. Exactly one of its fields must be set.", one_of=True)
class ContentPartInput:
    text: str | None = strawberry.field(default=strawberry.UNSET, description="Text.")
    image: BlobInput | None = strawberry.field(
        default=strawberry.UNSET,
        description="An image, for models with VISION: PNG, JPEG, GIF, WebP, BMP, TIFF or AVIF.",
    )

    audio: BlobInput | None = strawberry.field(
        default=strawberry.UNSET,
        description="Audio, for models with AUDIO: WAV, MP3, Ogg or FLAC. Not supported by Ollama (UNSUPPORTED).",
    )
    file: BlobInput | None = strawberry.field(
        default=strawberry.UNSET,
        description="A document, for models with FILES: PDF, or text in UTF-8. Supported by OpenAI's own API; not "
        "by Ollama, llama.cpp and vLLM (UNSUPPORTED).",
    )

    def to_part(self) -> Part:
        """In the gateway's form."""
        for blob, kind in ((self.image, MediaKind.IMAGE), (self.audio, MediaKind.AUDIO), (self.file, MediaKind.FILE)):
            if blob:
                return blob.to_part(kind)
        return TextPart(self.text or "")


@strawberry.input(description="A tool call that the model requested earlier in the conversation.")
class ToolCallInput:
    call_id: str = strawberry.field(description="The call's id, as in `ToolCall.callId`.")
    name: str = strawberry.field(description="The tool's name.")
    arguments: JSON = strawberry.field(description="The arguments, an object.")

    def to_call(self) -> RequestedToolCall:
        """In the gateway's form, which checks that the arguments are an object."""
        return RequestedToolCall(self.call_id, self.name, cast("dict[str, Any]", self.arguments))


@strawberry.input(description="One message of a conversation. Set `text` or `parts`, not both.")
class MessageInput:
    role: MessageRole = strawberry.field(description="Who wrote the message.")
    text: str | None = strawberry.field(default=None, description="The text of the message.")
    parts: list[ContentPartInput] | None = strawberry.field(
        default=None,
        description="Text, images, audio and files, in the order in which the model receives them. Ollama receives "
        "text and images separately: the texts joined by line breaks, and the images in order.",
    )
    tool_calls: list[ToolCallInput] | None = strawberry.field(
        default_factory=list[ToolCallInput],
        description="ASSISTANT messages: the tool calls that the model requested.",
    )
    tool_call_id: str | None = strawberry.field(
        default=None, description="TOOL messages: the call that this message answers."
    )
    tool_name: str | None = strawberry.field(default=None, description="TOOL messages: the tool that answers.")
    thinking: str | None = strawberry.field(
        default=None, description="ASSISTANT messages: what the model thought before it answered."
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


@strawberry.input(description="What the model is asked. Exactly one of its fields must be set.", one_of=True)
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


make_quickly(BlobInput)
make_quickly(ContentPartInput, image=BlobInput, audio=BlobInput, file=BlobInput)
make_quickly(ToolCallInput)
make_quickly(MessageInput, parts=ContentPartInput, tool_calls=ToolCallInput)
make_quickly(PromptInput, messages=MessageInput)
