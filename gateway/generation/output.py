"""What a generation has said, put together from its events."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from backends.protocol import ToolCall
from db.tables import Generation
from gateway.streams import Event, Failed, TextDelta, ThinkingDelta, ToolCallRequested


@dataclass(frozen=True, slots=True)
class Output:
    """Everything a generation has said so far; `failure` is there when it ended with an error."""

    text: str
    thinking: str
    tool_calls: Sequence[ToolCall]
    last_sequence: int
    failure: Failed | None

    @property
    def size(self) -> int:
        """Characters of text, thinking and the arguments of tool calls."""
        return len(self.text) + len(self.thinking) + sum(len(call.arguments_text or "") for call in self.tool_calls)


@dataclass(frozen=True, slots=True)
class Answer:
    """A generation that has ended, and all it said."""

    generation: Generation
    output: Output


def output_of(events: Iterable[Event]) -> Output:
    """Put the events of a stream together."""
    text: list[str] = []
    thinking: list[str] = []
    tool_calls: list[ToolCall] = []
    failure, last = None, 0
    for event in events:
        last = event.sequence
        match event:
            case TextDelta():
                text.append(event.text)
            case ThinkingDelta():
                thinking.append(event.text)
            case ToolCallRequested():
                tool_calls.append(event.call)
            case Failed():
                failure = event
            case _:
                pass
    return Output("".join(text), "".join(thinking), tool_calls, last, failure)
