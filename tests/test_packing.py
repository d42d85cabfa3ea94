"""Packing loses nothing, and takes less memory."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.streams.events import Event, TextDelta
from gateway.streams.packing import pack, packed_size, size, unpack
from tests.test_events import streams


@given(streams(), st.integers(0, 60))
def test_what_was_packed_comes_out_as_it_was_behind_any_cursor(events: list[Event], after: int):
    assert unpack(pack(events), after) == events[after:]


def test_a_packed_answer_takes_a_tenth():
    answer = [TextDelta(number, "word ", (number - 1) * 5, 1) for number in range(1, 1001)]
    assert packed_size(pack(answer)) * 10 < sum(size(event) for event in answer)
