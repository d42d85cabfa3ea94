"""Ended streams in little memory: a token in its own event takes 160 bytes beside its text, packed it takes 8."""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby

from backends.logprobs import TokenLogprob
from gateway.streams.events import Delta, Event, TextDelta, ThinkingDelta, ToolCallRequested, utf16_length

EVENT_BYTES = 160
"""What an event takes in memory beside its text (CPython 3.11, 64 bits)."""

LOGPROB_BYTES = 200
"""What the logprob of one token takes: the object, its text, its number and its bytes."""

BLOCK_BYTES = 500
"""What a block takes beside its text and its numbers."""


@dataclass(frozen=True, slots=True)
class DeltaBlock:
    """Neighbouring deltas of one kind: their texts together, and for each where it ends there and its tokens.

    These are bytes of machine integers: of arrays, garbage collection would look at each.
    """

    kind: type[Delta]
    sequence: int
    offset: int
    text: str
    ends: bytes
    tokens: bytes
    logprobs: Sequence[Sequence[TokenLogprob] | None] | None = None
    """Those of each delta; None where none has any."""

    def __iter__(self) -> Iterator[Delta]:
        begin, offset = 0, self.offset
        for index, (end, tokens) in enumerate(zip(_numbers(self.ends), _numbers(self.tokens), strict=True)):
            text = self.text[begin:end]
            if self.logprobs is None:
                yield self.kind(self.sequence + index, text, offset, tokens)
            else:
                yield TextDelta(self.sequence + index, text, offset, tokens, self.logprobs[index])
            begin, offset = end, offset + utf16_length(text)

    def __len__(self) -> int:
        return len(_numbers(self.ends))


def _numbers(packed: bytes) -> "memoryview[int]":
    return memoryview(packed).cast("I")


Packed = Sequence[Event | DeltaBlock]


def pack(events: Iterable[Event]) -> Packed:
    """Give the same events in less memory."""
    packed: list[Event | DeltaBlock] = []
    for kind, group in groupby(events, key=type):
        if kind is TextDelta or kind is ThinkingDelta:
            packed.append(_block([event for event in group if isinstance(event, TextDelta | ThinkingDelta)]))
        else:
            packed += group
    return tuple(packed)


def unpack(packed: Packed, after: int = 0) -> list[Event]:
    """Give the events as they were, behind the sequence number `after`."""
    events: list[Event] = []
    for part in packed:
        if not isinstance(part, DeltaBlock):
            events.append(part)
        elif part.sequence + len(part) > after + 1:
            events += part
    return [event for event in events if event.sequence > after]


def packed_size(packed: Packed) -> int:
    """About how many bytes they take."""
    return sum(
        BLOCK_BYTES + len(part.text) + 8 * len(part) + sum(map(_logprobs_size, part.logprobs or ()))
        if isinstance(part, DeltaBlock)
        else size(part)
        for part in packed
    )


def size(event: Event) -> int:
    """About how many bytes an event takes by itself."""
    if isinstance(event, TextDelta):
        return EVENT_BYTES + len(event.text) + (0 if event.logprobs is None else _logprobs_size(event.logprobs))
    if isinstance(event, ThinkingDelta):
        return EVENT_BYTES + len(event.text)
    return EVENT_BYTES + (2 * len(event.call.arguments_text) if isinstance(event, ToolCallRequested) else 0)


def _logprobs_size(logprobs: Sequence[TokenLogprob] | None) -> int:
    return LOGPROB_BYTES * len(logprobs or ())


def _block(deltas: Sequence[Delta]) -> DeltaBlock:
    first = deltas[0]
    logprobs = [delta.logprobs if isinstance(delta, TextDelta) else None for delta in deltas]
    return DeltaBlock(
        kind=type(first),
        sequence=first.sequence,
        offset=first.offset,
        text="".join([delta.text for delta in deltas]),
        ends=array("I", accumulate(len(delta.text) for delta in deltas)).tobytes(),
        tokens=array("I", [delta.tokens for delta in deltas]).tobytes(),
        logprobs=None if logprobs.count(None) == len(logprobs) else logprobs,
    )
