"""Whether an answer that lost its model server can be gone on with by another, and what to ask that."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from time import monotonic

import orjson
from pydantic import TypeAdapter

from backends import errors
from backends.errors import BackendError
from backends.protocol import ChatRequest, Json, Message
from backends.wire import as_list, as_object
from gateway.streams import Event, TextDelta, ThinkingDelta, ToolCallRequested

MOST_LOSSES = 10
"""After so many model servers lost under one generation it fails: it may be what kills them."""

FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 8.0

_VARYING = re.compile(r"\w*\d[\w.:-]*")
"""Ids, times and numbers: in them two words of one error differ."""

_REQUEST = TypeAdapter(ChatRequest)


@dataclass(slots=True)
class PartialAnswer:
    """What an answer has said so far, as its continuation needs it."""

    texts: list[str] = field(default_factory=list[str])
    thoughts: list[str] = field(default_factory=list[str])
    tokens: int = 0
    called_tool: bool = False

    @property
    def text(self) -> str:
        """The answer so far, without its thinking."""
        return "".join(self.texts)

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
        """Tell whether there are as many tokens as were asked for."""
        most = request.options.max_tokens
        return most is not None and self.tokens >= most


def is_refusal(error: BackendError, *, answered: bool, said: bool) -> bool:
    """Tell whether an error came instead of an answer, so that no work was done. One that is late may have done some.

    `answered` is whether the server had begun a response, which some do before they say that they refuse.
    """
    if isinstance(error, errors.BackendTimeout):
        return not answered and error.phase is errors.TimeoutPhase.CONNECT
    return not said and (not answered or isinstance(error, _TOLD))


_TOLD = (
    errors.BackendFailed,
    errors.BackendRejected,
    errors.BackendContextTooLong,
    errors.BackendModelNotFound,
    errors.BackendOverloaded,
)
"""What a server says of itself, beside what befalls it."""


class Losses:
    """The model servers that one generation has lost, and how long each is left alone.

    A server that fails fast would otherwise be asked as often as it can say no.
    """

    def __init__(self) -> None:
        self._count = 0
        self._by_backend: Counter[str] = Counter()
        self._until: dict[str, float] = {}
        self._refused = ""

    def add(self, backend: str, error: BackendError, *, said: bool) -> bool:
        """Note how an attempt ended; False where asking again makes no sense.

        `said` is whether it had said something. A server's own words that come instead of an answer twice are about the
        request, whatever their status and the ids in them: a schema that it cannot read is a 500 in Ollama.
        """
        refused = "" if said or not isinstance(error, errors.BackendFailed) else _VARYING.sub("", str(error))
        again = refused and refused == self._refused
        self._refused = refused
        if not error.servers_fault or again or self._count == MOST_LOSSES:
            return False
        self._count += 1
        self._by_backend[backend] = 1 if said else self._by_backend[backend] + 1
        pause = min(FIRST_PAUSE_SECONDS * 2 ** (self._by_backend[backend] - 1), LONGEST_PAUSE_SECONDS)
        self._until[backend] = monotonic() + max(pause, error.retry_after or 0)
        return True

    def pause(self, backend: str) -> float:
        """For how many seconds a backend is to be left alone."""
        return max(0.0, self._until.get(backend, 0.0) - monotonic())


def continuation(request: ChatRequest, said: PartialAnswer) -> ChatRequest | None:
    """Give the request for the rest of the answer, what was said standing as the beginning of the assistant's turn.

    None where no model can go on: after a tool call, within a given format (its grammar would begin anew), in the
    middle of a thought, or where no tokens are left to say.
    """
    if not said.tokens and not said.called_tool:
        return request
    if said.called_tool or request.format is not None or not said.texts:
        return None
    messages, text, thought = list(request.messages), "".join(said.texts), "".join(said.thoughts)
    if request.continues:  # the caller had begun the answer
        begun = messages.pop()
        text, thought = begun.text + text, (begun.thinking or "") + thought
    messages.append(Message("assistant", text, thinking=thought or None))
    options = request.options
    if said.fills(request):
        return None
    if options.max_tokens is not None:
        options = replace(options, max_tokens=options.max_tokens - said.tokens)
    return replace(request, messages=messages, options=options, continues=True)


def continuable(data: bytes, events: Iterable[Event]) -> ChatRequest | None:
    """Give the request that `encode_request` wrote, where a model can go on behind these events; None where not."""
    try:
        request, said = decode_request(data), PartialAnswer()
    except ValueError:
        return None
    said.add(events)
    return None if continuation(request, said) is None else request


def encode_request(request: ChatRequest) -> bytes:
    """Give a request as another gateway can read it."""
    return orjson.dumps(request)


def decode_request(data: bytes) -> ChatRequest:
    """Give the request again, as this gateway or one of before 1.0 wrote it. Raises ValueError for anything else."""
    return _REQUEST.validate_python(_renewed(as_object(orjson.loads(data))))


def _renewed(request: dict[str, Json]) -> dict[str, Json]:
    """Put a request of before 1.0 into today's form."""
    if "think" in request:
        think = request.pop("think")
        request["thinking"] = None if think is None else "on" if think else "off"
        if (wanted := request.get("format")) is not None:
            request["format"] = {"json_object": True} if wanted == "json" else {"json_schema": wanted}
    for message in map(as_object, as_list(request.get("messages"))):
        if images := as_list(message.get("images")):
            text = [{"text": message["content"]}] if message.get("content") else []
            message["content"] = [*text, *({"image": image} for image in images)]
    return request
