"""What stands between the gateway and every kind of model server.

A backend is anything with a name, a list of models and a stream of chunks for a chat request. What an
adapter gives and takes is defined here as plain values, so that the gateway never sees a wire format.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal, Protocol
from uuid import UUID

from backends.loading import OnLoading
from backends.logprobs import TokenLogprob
from backends.usage import NOT_TOLD
from backends.usage import Usage as Usage

Json = Any
"""A JSON value, as the standard decoder gives it."""


class Capability(StrEnum):
    """What a model can do, in Ollama's words (types/model/capability.go)."""

    COMPLETION = "completion"
    TOOLS = "tools"
    VISION = "vision"
    THINKING = "thinking"
    EMBEDDING = "embedding"
    AUDIO = "audio"
    FILES = "files"  # not Ollama's: it takes none


class BackendKind(StrEnum):
    """What a backend speaks, and who runs it."""

    OLLAMA = "OLLAMA"
    OPENAI = "OPENAI"
    EMBEDDED = "EMBEDDED"


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """One model a backend serves now. `capabilities` is None where the backend does not tell them."""

    name: str
    capabilities: frozenset[Capability] | None = None
    context_length: int | None = None
    size_bytes: int | None = None
    family: str | None = None
    parameter_size: str | None = None
    quantization: str | None = None
    digest: str | None = None
    modified_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model that its server holds in memory now. None is "not told"; `loaded_until` is when it will be unloaded."""

    size_vram_bytes: int | None = None
    loaded_until: datetime | None = None
    context_length: int | None = None


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call the model asks for.

    `arguments` is the decoded JSON object, None where an answer that was cut off ends in the middle of it;
    `arguments_text` is what the model wrote.
    """

    id: str
    name: str
    arguments: dict[str, Json] | None
    arguments_text: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class TextPart:
    """A piece of text in a message."""

    text: str


@dataclass(frozen=True, slots=True)
class ImagePart:
    """An image in a message, in base64 without the head of a data URL."""

    image: str


@dataclass(frozen=True, slots=True)
class AudioPart:
    """A sound in a message, in base64. `media_type` is what its bytes are, such as `audio/wav`."""

    audio: str
    media_type: str


@dataclass(frozen=True, slots=True)
class FilePart:
    """A document in a message, in base64. `media_type` is what its bytes are, such as `application/pdf`."""

    file: str
    media_type: str


class MediaKind(StrEnum):
    """What a part of a message is that is no text."""

    IMAGE = "image"
    AUDIO = "audio"
    FILE = "file"

    @property
    def capability(self) -> Capability:
        """What a model must have to be asked with such a part."""
        return _NEEDED[self]


_NEEDED = {
    MediaKind.IMAGE: Capability.VISION,
    MediaKind.AUDIO: Capability.AUDIO,
    MediaKind.FILE: Capability.FILES,
}


@dataclass(frozen=True, slots=True)
class BlobPart:
    """Stands for a part whose bytes are kept elsewhere. No backend gets one: the gateway fills it in before."""

    blob_id: UUID
    kind: MediaKind


Part = TextPart | ImagePart | AudioPart | FilePart | BlobPart

Role = Literal["system", "developer", "user", "assistant", "tool"]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation. `content` is its text, or its parts in their order."""

    role: Role
    content: str | Sequence[Part] = ""
    tool_calls: Sequence[ToolCall] = ()
    tool_call_id: str | None = None
    tool_name: str | None = None
    thinking: str | None = None

    @property
    def text(self) -> str:
        """All text, its parts on lines of their own as vLLM and llama.cpp put them."""
        if isinstance(self.content, str):
            return self.content
        return "\n".join(part.text for part in self.content if isinstance(part, TextPart))

    @property
    def images(self) -> list[str]:
        """All images, in their order."""
        if isinstance(self.content, str):
            return []
        return [part.image for part in self.content if isinstance(part, ImagePart)]

    @property
    def media(self) -> list[MediaKind]:
        """What its parts are that are no text, in their order."""
        if isinstance(self.content, str):
            return []
        return [kind for part in self.content if (kind := _kind(part)) is not None]


def _kind(part: Part) -> MediaKind | None:
    match part:
        case TextPart():
            return None
        case ImagePart():
            return MediaKind.IMAGE
        case AudioPart():
            return MediaKind.AUDIO
        case FilePart():
            return MediaKind.FILE
        case BlobPart():
            return part.kind


@dataclass(frozen=True, slots=True)
class Tool:
    """A function the model may call. `parameters` is a JSON Schema object."""

    name: str
    description: str
    parameters: dict[str, Json]


@dataclass(frozen=True, slots=True)
class Options:
    """Sampling options, already validated. None leaves the backend's own default."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    max_tokens: int | None = None
    seed: int | None = None
    stop: Sequence[str] = ()
    context_length: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repeat_penalty: float | None = None


@dataclass(frozen=True, slots=True)
class OutputFormat:
    """The form that an answer must have: exactly one of these. A grammar is in the server's own notation."""

    json_object: bool = False
    json_schema: dict[str, Json] | None = None
    regex: str | None = None
    grammar: str | None = None
    choice: Sequence[str] | None = None


class ThinkingLevel(StrEnum):
    """How much a model thinks before it answers. ON leaves how much to the model."""

    OFF = "off"
    ON = "on"
    MINIMAL = "minimal"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    MAX = "max"


class ToolChoiceMode(StrEnum):
    """Whether the model calls tools, in the words of the OpenAI API."""

    AUTO = "auto"
    NONE = "none"
    REQUIRED = "required"


@dataclass(frozen=True, slots=True)
class NamedTool:
    """The one tool that the model must call."""

    name: str


ToolChoice = ToolChoiceMode | NamedTool


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """Everything a backend needs for one answer.

    `continues`: the last message is the assistant's, and the answer goes on there. `logprobs`: tell those of tokens.
    """

    model: str
    messages: Sequence[Message]
    options: Options = Options()
    format: OutputFormat | None = None
    tools: Sequence[Tool] = ()
    tool_choice: ToolChoice | None = None
    thinking: ThinkingLevel | None = None
    continues: bool = False
    logprobs: bool = False


class FinishReason(StrEnum):
    """Why the model stopped, in the words of the OpenAI API.

    REPETITION is not OpenAI's: the server stopped a model that went on saying the same.
    """

    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"
    CONTENT_FILTER = "content_filter"
    REPETITION = "repetition"


@dataclass(slots=True)
class TextChunk:
    """A piece of the answer. `tokens` is how many tokens it stands for: 1 unless the backend says otherwise.

    Nobody changes one. There is one for each token, and frozen it would take twice as long to make.
    """

    text: str
    tokens: int = 1
    logprobs: Sequence[TokenLogprob] | None = None


@dataclass(frozen=True, slots=True)
class ThinkingChunk:
    """A piece of the model's reasoning, kept apart from the answer."""

    text: str
    tokens: int = 1


@dataclass(frozen=True, slots=True)
class ToolCallChunk:
    """One complete tool call."""

    call: ToolCall


@dataclass(frozen=True, slots=True)
class UsageChunk:
    """Counts and times so far, as a FinishChunk has them: they make the usage of a cancelled answer exact."""

    usage: Usage
    eval_ms: int | None = None
    prompt_ms: int | None = None


@dataclass(frozen=True, slots=True)
class FinishChunk:
    """The end of every answer that ended well: given once, as soon as it is known.

    Usage that the server tells later comes as a UsageChunk behind it. Where the server tells them, `load_ms` is what
    loading the model took, `prompt_ms` reading the prompt, and `eval_ms` generating the tokens of the completion.
    """

    reason: FinishReason
    usage: Usage = NOT_TOLD
    load_ms: int | None = None
    eval_ms: int | None = None
    prompt_ms: int | None = None


Chunk = TextChunk | ThinkingChunk | ToolCallChunk | UsageChunk | FinishChunk


class Backend(Protocol):
    """One model server.

    `generate` is entered for each answer: the iterator gives a non-empty list of all chunks that came in one
    read from the network, among them a FinishChunk when the answer is whole. Every other end raises a `BackendError`;
    one behind the FinishChunk is of no account. Leaving the context early closes the connection, which stops the
    model's work.
    """

    @property
    def name(self) -> str:
        """Short, stable and unique among the backends: "ollama", "openai", "embedded"."""
        ...

    @property
    def kind(self) -> BackendKind:
        """What it speaks."""
        ...

    @property
    def parallel(self) -> int:
        """How many answers it makes at once, as far as is known now; more requests would only wait for each other."""
        ...

    def takes(self, kind: MediaKind, model: str) -> bool:
        """Tell whether a request for this model can carry such a part at all, as far as is known now."""
        ...

    async def models(self) -> list[ModelInfo]:
        """List what can be asked now, in one request: a long list comes as fast as a short one. Raises BackendError."""
        ...

    async def describe(self, model: ModelInfo) -> ModelInfo:
        """Complete one listed model where that costs a request of its own. Raises BackendError."""
        ...

    async def loaded_models(self) -> Mapping[str, LoadedModel] | None:
        """Tell which models are in memory now, by name; None where the server does not tell. Raises BackendError."""
        ...

    async def ping(self) -> None:
        """Return when the server answers; raises BackendError otherwise."""
        ...

    def generate(
        self, request: ChatRequest, on_loading: OnLoading | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[Sequence[Chunk]]]:
        """Ask for one answer. `on_loading` is called only by a server that tells what it does. Raises BackendError."""
        ...
