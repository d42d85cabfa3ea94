"""What a user may ask of a model, and the checks that keep a bad request from ever reaching a backend."""

from base64 import b64decode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice

from auth.principal import ContentPolicy
from backends.protocol import (
    AudioPart,
    BlobPart,
    Capability,
    ChatRequest,
    FilePart,
    ImagePart,
    MediaKind,
    Message,
    NamedTool,
    Options,
    OutputFormat,
    Part,
    Role,
    ThinkingLevel,
    Tool,
    ToolChoice,
    ToolChoiceMode,
)
from backends.protocol import TextPart as TextPart
from backends.protocol import ToolCall as ToolCall
from gateway.catalog import Model
from gateway.errors import MOST_ISSUES, InputIssue, InvalidInput, Unsupported, cut
from gateway.generation.content import bare_base64, media_problem, object_problem, text_problem
from gateway.media import media_type

OPTION_RANGES: dict[str, tuple[str, float, float]] = {
    "temperature": ("temperature", 0, 2),
    "top_p": ("topP", 0, 1),
    "top_k": ("topK", 0, 1_000),
    "min_p": ("minP", 0, 1),
    "max_tokens": ("maxTokens", 1, 1_000_000),
    "seed": ("seed", 0, 2**31 - 1),
    "context_length": ("contextLength", 1, 10_000_000),
    "presence_penalty": ("presencePenalty", -2, 2),
    "frequency_penalty": ("frequencyPenalty", -2, 2),
    "repeat_penalty": ("repeatPenalty", 0.01, 2),  # it divides: 0 aborts Ollama's runner under all its users
}
"""Each option's name in the API and the smallest and largest value it may have (OpenAI's and Ollama's ranges)."""

NO_OPTIONS = Options()
"""Everything is left to the backend."""

MAX_STOP_SEQUENCES = 8
MAX_TOOLS = 128
MAX_CHOICES = 100
LONGEST_KEY = 255
MAX_TAGS = 16
LONGEST_TAG_NAME = 64
LONGEST_TAG_VALUE = 256
LONGEST_END_USER = 256


_MEDIA = {MediaKind.IMAGE: "images", MediaKind.AUDIO: "audio", MediaKind.FILE: "files"}

Problem = tuple[str, str]
"""The path of a value in the input, in GraphQL's names, and what is wrong with it."""


class OnDisconnect(StrEnum):
    """What becomes of a generation when its last viewer leaves."""

    CONTINUE = "CONTINUE"
    CANCEL = "CANCEL"


class OnBackendLoss(StrEnum):
    """What becomes of a generation when its model server, or the gateway that runs it, dies."""

    FAIL = "FAIL"
    CONTINUE = "CONTINUE"


class OnLimit(StrEnum):
    """What becomes of a generation for which a limit has no room now."""

    REFUSE = "REFUSE"
    WAIT = "WAIT"


@dataclass(frozen=True, slots=True)
class Turn:
    """One message as the user gave it: with a text, or with parts, whose media may be data URLs."""

    role: Role
    text: str | None = None
    parts: Sequence[Part] | None = None
    tool_calls: Sequence[ToolCall] = ()
    tool_call_id: str | None = None
    tool_name: str | None = None
    thinking: str | None = None

    def to_message(self) -> Message:
        """In the backends' form."""
        return Message(
            role=self.role,
            content=(self.text or "") if self.parts is None else [_bare(part) for part in self.parts],
            tool_calls=self.tool_calls,
            tool_call_id=self.tool_call_id,
            tool_name=self.tool_name,
            thinking=self.thinking,
        )


def _bare(part: Part) -> Part:
    """Leave base64 alone, and tell adapters of what is no image the type of its bytes."""
    match part:
        case ImagePart():
            return ImagePart(bare_base64(part.image))
        case AudioPart():
            return AudioPart(data := bare_base64(part.audio), media_type(b64decode(data)) or "")
        case FilePart():
            return FilePart(data := bare_base64(part.file), media_type(b64decode(data)) or "")
        case _:
            return part


@dataclass(frozen=True, slots=True)
class Tag:
    """A name and a value by which the caller's reports tell generations apart."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One request as the user made it, in Python types. `prompt` is a single question, or a conversation.

    `logprobs` is whether a viewer wants the probability of each token, which costs the model server work. There is no
    request with a value that is wrong whatever the model: making it raises InvalidInput with the field's path.
    """

    model: str
    prompt: str | Sequence[Turn]
    system: str | None = None
    options: Options = NO_OPTIONS
    format: OutputFormat | None = None
    thinking: ThinkingLevel | None = None
    tools: Sequence[Tool] = ()
    tool_choice: ToolChoice | None = None
    on_disconnect: OnDisconnect = OnDisconnect.CANCEL
    on_backend_loss: OnBackendLoss = OnBackendLoss.FAIL
    content_policy: ContentPolicy | None = None
    idempotency_key: str | None = None
    tags: Sequence[Tag] = ()
    end_user: str | None = None
    logprobs: bool = False
    on_limit: OnLimit = OnLimit.REFUSE

    def __post_init__(self) -> None:
        """Check whatever goes on to a model server or is kept, wherever it stands in the request."""
        issues = [InputIssue(path, message) for path, message in islice(problems_of(self), MOST_ISSUES)]
        if issues:
            raise InvalidInput.of(issues)


def chat_request(request: GenerationRequest, model: Model) -> ChatRequest:
    """Put the request in the backends' form. Raises Unsupported where the model is known not to have an ability."""
    turns = [Turn("user", request.prompt)] if isinstance(request.prompt, str) else request.prompt
    messages = [turn.to_message() for turn in turns]
    last = messages[-1]
    if request.system:
        messages.insert(0, Message("system", request.system))
    _check_abilities(request, messages, model)
    return ChatRequest(
        model=model.upstream_name,
        messages=messages,
        options=request.options,
        format=request.format,
        tools=request.tools,
        tool_choice=request.tool_choice,
        thinking=request.thinking,
        continues=last.role == "assistant" and bool(last.text) and not last.tool_calls,
        logprobs=request.logprobs,
    )


def blob_references(request: GenerationRequest) -> list[tuple[str, BlobPart]]:
    """Give the references to blobs, each with its path in the input."""
    if isinstance(request.prompt, str):
        return []
    return [
        (f"prompt.messages[{index}].parts[{number}].{part.kind}.blobId", part)
        for index, turn in enumerate(request.prompt)
        for number, part in enumerate(turn.parts or ())
        if isinstance(part, BlobPart)
    ]


def _check_abilities(request: GenerationRequest, messages: Sequence[Message], model: Model) -> None:
    """Raise Unsupported for what the server has no words for, and for what the model is known not to do.

    A model whose abilities are not told gets the benefit of the doubt: its backend decides.
    """
    media = {kind for message in messages for kind in message.media}
    for kind in sorted(media):
        if not model.backend.takes(kind, model.upstream_name):
            raise Unsupported(f"The model server of {model.name!r} does not accept {_MEDIA[kind]}.", kind.capability)
    capabilities = model.info.capabilities
    if capabilities is None:
        return
    wanted = {
        Capability.COMPLETION: True,
        Capability.TOOLS: bool(request.tools),
        Capability.THINKING: request.thinking not in {None, ThinkingLevel.OFF},
    } | dict.fromkeys((kind.capability for kind in media), True)
    for capability, is_wanted in wanted.items():
        if is_wanted and capability not in capabilities:
            raise Unsupported(f"The model {model.name!r} does not support {capability}.", capability)


def problems_of(request: GenerationRequest) -> Iterator[Problem]:
    """Give what is wrong with a request whatever the model, in the order of its fields."""
    yield from _texts(("model", request.model))
    if isinstance(request.prompt, str):
        yield from _texts(("prompt.text", request.prompt))
        if not request.prompt:
            yield "prompt.text", "must not be empty."
    else:
        if not request.prompt:
            yield "prompt.messages", "must hold at least one message."
        for index, turn in enumerate(request.prompt):
            yield from _in_turn(turn, f"prompt.messages[{index}]")
    yield from _texts(("system", request.system))
    yield from _in_options(request.options)
    if request.format is not None:
        yield from _in_format(request.format)
    yield from _in_tools(request.tools)
    yield from _in_tool_choice(request.tool_choice, request.tools)
    yield from _short_text("idempotencyKey", request.idempotency_key, 1, LONGEST_KEY)
    yield from _in_tags(request.tags)
    yield from _short_text("endUser", request.end_user, 1, LONGEST_END_USER)


def _in_turn(turn: Turn, path: str) -> Iterator[Problem]:
    if turn.text is not None and turn.parts is not None:
        yield path, "has text or parts, not both."
    if turn.parts is not None and not turn.parts:
        yield f"{path}.parts", "must hold at least one part."
    if turn.role == "tool" and not turn.tool_call_id and not turn.tool_name:
        yield path, "a TOOL message needs the toolCallId or toolName it answers."
    yield from _texts((f"{path}.text", turn.text))
    for index, part in enumerate(turn.parts or ()):
        yield from _in_part(part, f"{path}.parts[{index}]")
    for index, call in enumerate(turn.tool_calls):
        of_call = f"{path}.toolCalls[{index}]"
        yield from _texts((f"{of_call}.callId", call.id), (f"{of_call}.name", call.name))
        yield from _objects((f"{of_call}.arguments", call.arguments))
    yield from _texts(
        (f"{path}.toolCallId", turn.tool_call_id),
        (f"{path}.toolName", turn.tool_name),
        (f"{path}.thinking", turn.thinking),
    )


def _in_part(part: Part, path: str) -> Iterator[Problem]:
    """Give what is wrong with a part, as far as it shows without the database, where blobs are."""
    match part:
        case TextPart():
            yield from _texts((f"{path}.text", part.text))
        case ImagePart():
            yield from _media(f"{path}.image.base64", part.image, MediaKind.IMAGE)
        case AudioPart():
            yield from _media(f"{path}.audio.base64", part.audio, MediaKind.AUDIO)
        case FilePart():
            yield from _media(f"{path}.file.base64", part.file, MediaKind.FILE)
        case BlobPart():
            pass


def _media(path: str, data: str, kind: MediaKind) -> Iterator[Problem]:
    if reason := media_problem(data, kind):
        yield path, reason


def _in_options(options: Options) -> Iterator[Problem]:
    for attribute, (name, low, high) in OPTION_RANGES.items():
        value = getattr(options, attribute)
        # "not within" rather than "outside", so that NaN is refused too
        if value is not None and not low <= value <= high:
            yield f"options.{name}", f"must be from {low:,} to {high:,}, not {value}."
    if len(options.stop) > MAX_STOP_SEQUENCES:
        yield "options.stop", f"may hold at most {MAX_STOP_SEQUENCES} sequences, not {len(options.stop)}."
    if not all(options.stop):
        yield "options.stop", "an empty stop sequence would end every answer before it begins."
    yield from _texts(*((f"options.stop[{index}]", sequence) for index, sequence in enumerate(options.stop)))


def _in_format(wanted: OutputFormat) -> Iterator[Problem]:
    if wanted.json_schema is not None:
        yield from _objects(("format.jsonSchema", wanted.json_schema))
    for path, text in (("format.regex", wanted.regex), ("format.grammar", wanted.grammar)):
        if text == "":
            yield path, "must not be empty."
        yield from _texts((path, text))
    if wanted.choice is not None:
        if not 1 <= len(wanted.choice) <= MAX_CHOICES:
            yield "format.choice", f"must hold from 1 to {MAX_CHOICES} texts, not {len(wanted.choice)}."
        if not all(wanted.choice) or len(set(wanted.choice)) < len(wanted.choice):
            yield "format.choice", "must hold texts that are not empty and not equal."
        yield from _texts(*((f"format.choice[{index}]", text) for index, text in enumerate(wanted.choice)))


def _in_tools(tools: Sequence[Tool]) -> Iterator[Problem]:
    if len(tools) > MAX_TOOLS:
        yield "tools", f"may hold at most {MAX_TOOLS} tools, not {len(tools)}."
    names = [tool.name for tool in tools]
    for index, tool in enumerate(tools):
        path = f"tools[{index}]"
        if not tool.name:
            yield f"{path}.name", "must not be empty."
        elif names.index(tool.name) != index:
            yield f"{path}.name", f"{cut(tool.name)!r} occurs twice."
        yield from _texts((f"{path}.name", tool.name), (f"{path}.description", tool.description))
        yield from _objects((f"{path}.parameters", tool.parameters))


def _in_tool_choice(choice: ToolChoice | None, tools: Sequence[Tool]) -> Iterator[Problem]:
    if isinstance(choice, NamedTool):
        yield from _texts(("toolChoice.name", choice.name))
        if all(tool.name != choice.name for tool in tools):
            yield "toolChoice.name", f"{cut(choice.name)!r} is none of the tools."
    elif choice is ToolChoiceMode.REQUIRED and not tools:
        yield "toolChoice.mode", "REQUIRED needs tools to choose from."


def _in_tags(tags: Sequence[Tag]) -> Iterator[Problem]:
    if len(tags) > MAX_TAGS:
        yield "tags", f"may hold at most {MAX_TAGS} tags, not {len(tags)}."
    names = [tag.name for tag in tags]
    for index, tag in enumerate(tags):
        if names.index(tag.name) != index:
            yield f"tags[{index}].name", f"{cut(tag.name)!r} occurs twice."
        yield from _short_text(f"tags[{index}].name", tag.name, 1, LONGEST_TAG_NAME)
        yield from _short_text(f"tags[{index}].value", tag.value, 0, LONGEST_TAG_VALUE)


def _short_text(path: str, text: str | None, least: int, most: int) -> Iterator[Problem]:
    if text is not None and not least <= len(text) <= most:
        yield path, f"must have from {least} to {most} characters, not {len(text)}."
    yield from _texts((path, text))


def _texts(*texts: tuple[str, str | None]) -> Iterator[Problem]:
    for path, text in texts:
        if text is not None and (reason := text_problem(text)):
            yield path, reason


def _objects(*objects: tuple[str, object]) -> Iterator[Problem]:
    for path, value in objects:
        if reason := object_problem(value):
            yield path, reason
