"""What a user may ask of a model, and the checks that keep a bad request from ever reaching a backend."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Literal

from backends.protocol import Capability, ChatRequest, Json, Message, Options, Tool
from backends.protocol import ToolCall as ToolCall
from gateway.catalog import Model
from gateway.errors import InputIssues, Unsupported, cut
from gateway.generation.content import check_json, check_text, picture

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


class OnDisconnect(StrEnum):
    """What becomes of a generation when its last viewer leaves."""

    CONTINUE = "CONTINUE"
    CANCEL = "CANCEL"


class OnBackendLoss(StrEnum):
    """What becomes of a generation when its model server, or the gateway that runs it, dies."""

    FAIL = "FAIL"
    CONTINUE = "CONTINUE"


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One request as the user made it, in Python types. Exactly one of `prompt` and `messages` is given.

    There is none with text or JSON that cannot be sent or kept: making it raises InvalidInput with the field's path.
    """

    model: str
    prompt: str | None = None
    messages: Sequence[Message] | None = None
    system: str | None = None
    images: Sequence[str] = ()
    options: Options = NO_OPTIONS
    format: Literal["json"] | dict[str, Json] | None = None
    think: bool | None = None
    tools: Sequence[Tool] = ()
    on_disconnect: OnDisconnect = OnDisconnect.CANCEL
    on_backend_loss: OnBackendLoss = OnBackendLoss.FAIL
    idempotency_key: str | None = None

    def __post_init__(self) -> None:
        """Check whatever goes on to a model server or is kept, wherever it stands in the request."""
        issues = InputIssues()
        for name in ("model", "prompt", "system"):
            issues.gather(check_text, getattr(self, name), name)
        for index, message in enumerate(self.messages or ()):
            _check_message(issues, message, f"messages[{index}]")
        for index, sequence in enumerate(self.options.stop):
            issues.gather(check_text, sequence, f"options.stop[{index}]")
        if self.format != "json":
            issues.gather(check_json, self.format, "format.schema")
        for index, tool in enumerate(self.tools):
            issues.gather(check_text, tool.name, f"tools[{index}].name")
            issues.gather(check_text, tool.description, f"tools[{index}].description")
            issues.gather(check_json, tool.parameters, f"tools[{index}].parameters")
        issues.check()


def _check_message(issues: InputIssues, message: Message, field: str) -> None:
    issues.gather(check_text, message.content, f"{field}.content")
    issues.gather(check_text, message.thinking, f"{field}.thinking")
    issues.gather(check_text, message.tool_call_id, f"{field}.toolCallId")
    issues.gather(check_text, message.tool_name, f"{field}.toolName")
    for index, call in enumerate(message.tool_calls):
        path = f"{field}.toolCalls[{index}]"
        issues.gather(check_text, call.id, f"{path}.id")
        issues.gather(check_text, call.name, f"{path}.name")
        issues.gather(check_json, call.arguments, f"{path}.arguments")


def chat_request(request: GenerationRequest, model: Model) -> ChatRequest:
    """Check the request against the API's ranges and the model's abilities, and put it in the backends' form.

    Raises InvalidInput with all that is wrong, or Unsupported where the model is known not to have the ability.
    """
    issues = InputIssues()
    messages = _messages(request, issues)
    _check_options(request.options, issues)
    _check_tools(request.tools, issues)
    issues.check()
    _check_abilities(request, messages, model)
    return ChatRequest(
        model=model.upstream_name,
        messages=messages,
        options=request.options,
        format=request.format,
        tools=request.tools,
        think=request.think,
        continues=messages[-1].role == "assistant" and bool(messages[-1].content) and not messages[-1].tool_calls,
    )


def _messages(request: GenerationRequest, issues: InputIssues) -> Sequence[Message]:
    """Give the conversation; what `issues` hold afterwards is missing in it."""
    if (request.prompt is None) == (request.messages is None):
        issues.add("prompt", "give either prompt or messages, not both and not neither.")
        return []
    messages = list(request.messages or ())
    if request.prompt is not None:
        if not request.prompt and not request.images:
            issues.add("prompt", "must not be empty.")
        messages = [Message("user", request.prompt, images=_pictures(request.images, "images", issues))]
    elif not messages:
        issues.add("messages", "must hold at least one message.")
    elif request.images:
        issues.add("images", "go with prompt; with messages, put them into the message they belong to.")
    for index, message in enumerate(messages):
        if message.role == "tool" and not message.tool_call_id and not message.tool_name:
            issues.add(f"messages[{index}]", "a TOOL message needs the toolCallId or toolName it answers.")
        if message.images and request.messages is not None:
            pictures = _pictures(message.images, f"messages[{index}].images", issues)
            messages[index] = replace(message, images=pictures)
    if request.system:
        messages.insert(0, Message("system", request.system))
    return messages


def _pictures(images: Sequence[str], field: str, issues: InputIssues) -> Sequence[str]:
    """The base64 of each, without what a data URL has before it: adapters that need a media type read it from that."""
    given = [issues.gather(picture, image, f"{field}[{index}]") for index, image in enumerate(images)]
    return [image for image in given if image is not None]


def _check_options(options: Options, issues: InputIssues) -> None:
    for attribute, (name, low, high) in OPTION_RANGES.items():
        value = getattr(options, attribute)
        # "not within" rather than "outside", so that NaN is refused too
        if value is not None and not low <= value <= high:
            issues.add(f"options.{name}", f"must be from {low:,} to {high:,}, not {value}.")
    if len(options.stop) > MAX_STOP_SEQUENCES:
        issues.add("options.stop", f"may hold at most {MAX_STOP_SEQUENCES} sequences, not {len(options.stop)}.")
    if not all(options.stop):
        issues.add("options.stop", "an empty stop sequence would end every answer before it begins.")


def _check_tools(tools: Sequence[Tool], issues: InputIssues) -> None:
    if len(tools) > MAX_TOOLS:
        issues.add("tools", f"may hold at most {MAX_TOOLS} tools, not {len(tools)}.")
        return
    names = [tool.name for tool in tools]
    for index, tool in enumerate(tools):
        if not tool.name:
            issues.add(f"tools[{index}].name", "must not be empty.")
        elif names.index(tool.name) != index:
            issues.add(f"tools[{index}].name", f"{cut(tool.name)!r} is there twice.")


def _check_abilities(request: GenerationRequest, messages: Sequence[Message], model: Model) -> None:
    """A model whose abilities are not told gets the benefit of the doubt: its backend decides."""
    capabilities = model.info.capabilities
    if capabilities is None:
        return
    wanted = {
        Capability.COMPLETION: True,
        Capability.TOOLS: bool(request.tools),
        Capability.THINKING: bool(request.think),
        Capability.VISION: any(message.images for message in messages),
    }
    for capability, is_wanted in wanted.items():
        if is_wanted and capability not in capabilities:
            raise Unsupported(f"The model {model.name!r} does not support {capability}.", capability)
