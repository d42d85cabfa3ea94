"""Whether an answer that lost its model server can be gone on with by another, and what to ask that."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import orjson
from pydantic import TypeAdapter

from backends import errors
from backends.errors import BackendError
from backends.protocol import ChatRequest, Message
from gateway.events import Event, TextDelta, ThinkingDelta, ToolCallRequested

_LOSSES = (
    errors.BackendUnavailable,
    errors.BackendTimeout,
    errors.BackendFailed,
    errors.BackendProtocolError,
    errors.BackendOverloaded,
)
"""What is the model server's fault and may not be the next one's. What it refuses, others refuse too."""

_REQUEST = TypeAdapter(ChatRequest)


@dataclass(slots=True)
class Said:
    """What an answer has said so far, as its continuation needs it."""

    texts: list[str] = field(default_factory=list[str])
    thoughts: list[str] = field(default_factory=list[str])
    tokens: int = 0
    called_tool: bool = False

    def add(self, events: Iterable[Event]) -> None:
        """Take what came next."""
        for event in events:
            if isinstance(event, TextDelta):
                self.texts.append(event.text)
                self.tokens += event.tokens
            elif isinstance(event, ThinkingDelta):
                self.thoughts.append(event.text)
                self.tokens += event.tokens
            elif isinstance(event, ToolCallRequested):
                self.called_tool = True

    def fills(self, request: ChatRequest) -> bool:
        """Whether there are as many tokens as were asked for."""
        most = request.options.max_tokens
        return most is not None and self.tokens >= most


def is_loss(error: BackendError) -> bool:
    """Whether the model server was lost, so that asking again makes sense."""
    return isinstance(error, _LOSSES)


def continuation(request: ChatRequest, said: Said) -> ChatRequest | None:
    """The request for the rest of the answer, what was said standing as the beginning of the assistant's turn.

    None where no model can go on: after a tool call, within a given format (its grammar would begin anew), in the
    middle of a thought, or where no tokens are left to say.
    """
    if not said.tokens and not said.called_tool:
        return request
    if said.called_tool or request.format is not None or not said.texts:
        return None
    begun = Message("assistant", "".join(said.texts), thinking="".join(said.thoughts) or None)
    options = request.options
    if said.fills(request):
        return None
    if options.max_tokens is not None:
        options = replace(options, max_tokens=options.max_tokens - said.tokens)
    return replace(request, messages=[*request.messages, begun], options=options, continues=True)


def encode_request(request: ChatRequest) -> bytes:
    """A request as another gateway can read it."""
    return orjson.dumps(request)


def decode_request(data: bytes) -> ChatRequest:
    """The request again. Raises ValueError for what `encode_request` did not make."""
    return _REQUEST.validate_json(data)
