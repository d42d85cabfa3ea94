"""Ended streams in little memory: a token in its own event takes 160 bytes beside its text, packed it takes 8."""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby

from gateway.streams.events import Delta, Event, TextDelta, ThinkingDelta, ToolCallRequested, utf16_length

EVENT_BYTES = 160
"""What an event takes in memory beside its text (CPython 3.11, 64 bits)."""

BLOCK_BYTES = 500
"""What a block takes beside its text and its numbers."""


@dataclass(frozen=True, slots=True)
class DeltaBlock:
    """Neighbouring deltas of one kind: their texts together, and for each where it ends there and its tokens."""

    kind: type[Delta]
    sequence: int
    offset: int
    text: str
    ends: "array[int]"
    tokens: "array[int]"

    def __iter__(self) -> Iterator[Delta]:
        begin, offset = 0, self.offset
        for index, end in enumerate(self.ends):
            text = self.text[begin:end]
            yield self.kind(self.sequence + index, text, offset, self.tokens[index])
            begin, offset = end, offset + utf16_length(text)


Packed = Sequence[Event | DeltaBlock]


def pack(events: Iterable[Event]) -> Packed:
    """Give the same events in less memory."""
    packed: list[Event | DeltaBlock] = []
    for kind, group in groupby(events, key=type):
        if kind is TextDelta or kind is ThinkingDelta:
            packed.append(_block([event for event in group if isinstance(event, TextDelta | ThinkingDelta)]))
        else:
            packed += group
    return packed


def unpack(packed: Packed, after: int = 0) -> list[Event]:
    """Give the events as they were, behind the sequence number `after`."""
    events: list[Event] = []
    for part in packed:
        if not isinstance(part, DeltaBlock):
            events.append(part)
        elif part.sequence + len(part.ends) > after + 1:
            events += part
    return [event for event in events if event.sequence > after]


def packed_size(packed: Packed) -> int:
    """About how many bytes they take."""
    return sum(
        BLOCK_BYTES + len(part.text) + 8 * len(part.ends) if isinstance(part, DeltaBlock) else size(part)
        for part in packed
    )


def size(event: Event) -> int:
    """About how many bytes an event takes by itself."""
    if isinstance(event, TextDelta | ThinkingDelta):
        return EVENT_BYTES + len(event.text)
    return EVENT_BYTES + (2 * len(event.call.arguments_text) if isinstance(event, ToolCallRequested) else 0)


def _block(deltas: Sequence[Delta]) -> DeltaBlock:
    first = deltas[0]
    return DeltaBlock(
        kind=type(first),
        sequence=first.sequence,
        offset=first.offset,
        text="".join([delta.text for delta in deltas]),
        ends=array("I", accumulate(len(delta.text) for delta in deltas)),
        tokens=array("I", [delta.tokens for delta in deltas]),
    )
