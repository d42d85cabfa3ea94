"""Merging events loses nothing, whatever the stream."""

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.protocol import ToolCall
from gateway.errors import ErrorCode
from gateway.streams.codec import decode, decode_usage, encode
from gateway.streams.events import (
    LONGEST_MERGED,
    Cancelled,
    CancelReason,
    Completed,
    Delta,
    Event,
    Failed,
    FinishReason,
    Queued,
    Started,
    TextDelta,
    ThinkingDelta,
    TokenUsage,
    ToolCallRequested,
    UsageSource,
    UsageSources,
    merged,
    utf16_length,
)

CALL = ToolCall("call_0", "look", {})


@st.composite
def streams(draw: st.DrawFn) -> list[Event]:
    """Streams as a run writes them: numbered from 1 without gaps, each delta at the offset where the last ended."""
    kinds = draw(st.lists(st.sampled_from([Queued, Started, TextDelta, ThinkingDelta, ToolCallRequested, Completed])))
    events: list[Event] = []
    offsets = {TextDelta: 0, ThinkingDelta: 0}
    for sequence, kind in enumerate(kinds, start=1):
        if kind is TextDelta or kind is ThinkingDelta:
            text = draw(st.text(max_size=5))
            events.append(kind(sequence, text, offsets[kind], draw(st.integers(0, 5))))
            offsets[kind] += utf16_length(text)
        elif kind is ToolCallRequested:
            events.append(ToolCallRequested(sequence, CALL))
        elif kind is Completed:
            events.append(Completed(sequence, FinishReason.STOP, TokenUsage()))
        else:
            events.append(kind(sequence, 0))
    return events


def deltas(events: Sequence[Event], kind: type[Delta]) -> list[Delta]:
    return [event for event in events if isinstance(event, kind)]


@given(streams())
def test_merging_keeps_every_text(events: list[Event]):
    for kind in (TextDelta, ThinkingDelta):
        texts = ["".join(delta.text for delta in deltas(stream, kind)) for stream in (events, merged(events))]
        assert texts[0] == texts[1]


@given(streams())
def test_merging_keeps_the_sum_of_the_tokens(events: list[Event]):
    for kind in (TextDelta, ThinkingDelta):
        sums = [sum(delta.tokens for delta in deltas(stream, kind)) for stream in (events, merged(events))]
        assert sums[0] == sums[1]


@given(streams())
def test_each_merged_delta_begins_where_the_one_before_ended(events: list[Event]):
    for kind in (TextDelta, ThinkingDelta):
        offset = 0
        for delta in deltas(merged(events), kind):
            assert delta.offset == offset
            offset += utf16_length(delta.text)


@given(streams())
def test_merging_keeps_the_last_sequence(events: list[Event]):
    assert [event.sequence for event in merged(events)[-1:]] == [event.sequence for event in events[-1:]]


@given(streams(), st.data())
def test_a_cursor_from_a_merged_event_continues_without_loss_or_repetition(events: list[Event], data: st.DataObject):
    cut = data.draw(st.sampled_from([0, *(event.sequence for event in merged(events))]))
    parts = merged(events[:cut]) + merged(events[cut:])
    assert "".join(delta.text for delta in deltas(parts, TextDelta)) == "".join(
        delta.text for delta in deltas(events, TextDelta)
    )


@given(streams())
def test_no_two_neighbours_of_a_merged_stream_are_of_one_kind_of_delta(events: list[Event]):
    result = merged(events)
    assert not any(
        type(left) is type(right) and isinstance(left, TextDelta | ThinkingDelta) for left, right in pairwise(result)
    )


@given(streams())
def test_everything_but_deltas_stays_as_it_is(events: list[Event]):
    streams = (events, merged(events))
    others = [[event for event in stream if not isinstance(event, TextDelta | ThinkingDelta)] for stream in streams]
    assert others[0] == others[1]


def test_deltas_are_not_merged_beyond_what_a_client_takes():
    half = "x" * (LONGEST_MERGED // 2)
    events: list[Event] = [TextDelta(number, half, (number - 1) * len(half), 1) for number in (1, 2, 3)]
    assert [len(event.text) for event in deltas(merged(events), TextDelta)] == [LONGEST_MERGED, LONGEST_MERGED // 2]


def test_a_single_delta_is_not_made_anew():
    delta = TextDelta(1, "a", 0, 1)
    assert merged([delta])[0] is delta


@given(st.text())
def test_lengths_are_what_javascript_counts(text: str):
    assert utf16_length(text) == len(text.encode("utf-16-le", "surrogatepass")) // 2


def test_an_emoji_is_two_units():
    assert utf16_length("🙂") == 2


USAGE = b'{"prompt_tokens":1,"completion_tokens":2,"cached_tokens":null,"source":"COUNTED"}'
USED = TokenUsage(1, 2, None, UsageSources(UsageSource.BACKEND, UsageSource.COUNTED))
EARLIER: dict[bytes, Cancelled | Failed] = {
    b'[["e",3,"cancelled",' + USAGE + b"]]": Cancelled(3, CancelReason.REQUESTED, USED),
    b'[["f",3,"OVERLOADED","Full.",true,' + USAGE + b"]]": Failed(3, ErrorCode.OVERLOADED, "Full.", True, USED),
}


def test_counts_that_older_gateways_did_not_write_are_not_told():
    assert decode_usage(USAGE) == USED


def test_counts_that_only_newer_gateways_write_are_passed_over():
    assert decode_usage(USAGE[:-1] + b',"a_later_count":7}') == USED


@pytest.mark.parametrize("odd", [b"-1", b"1.5", b'"1"', b"true", b"2147483648"])
def test_a_count_of_thinking_that_no_gateway_writes_is_refused(odd: bytes):
    with pytest.raises(ValueError, match="not counts"):
        decode_usage(USAGE[:-1] + b',"thinking_tokens":%s}' % odd)


@pytest.mark.parametrize("written", EARLIER)
def test_the_ends_that_older_gateways_wrote_are_read(written: bytes):
    assert decode(written) == [EARLIER[written]]


@pytest.mark.parametrize(
    "end",
    [
        *(Cancelled(1, reason, TokenUsage(1, 2, 1)) for reason in CancelReason),
        Cancelled(
            1,
            CancelReason.REQUESTED,
            TokenUsage(1, 4, None, UsageSources.of_weakest(UsageSource.BACKEND, 1, None, 3), 3),
        ),
        Failed(1, ErrorCode.OVERLOADED, "Full.", True, TokenUsage(), 1_000),
    ],
)
def test_an_end_is_read_as_it_was_written(end: Cancelled | Failed):
    assert decode(encode([end])) == [end]
