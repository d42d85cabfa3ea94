"""The decoder for server-sent events, held against the HTML standard's own examples."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.errors import BackendProtocolError
from backends.wire.sse import ServerSentEvent, SseDecoder
from tests.test_ndjson import cut


def decode(*pieces: bytes) -> list[ServerSentEvent]:
    decoder = SseDecoder()
    return [event for piece in pieces for event in decoder.feed(piece)]


def data_of(*pieces: bytes) -> list[bytes]:
    return [event.data for event in decode(*pieces)]


def test_an_event_is_given_at_its_empty_line():
    decoder = SseDecoder()
    assert (decoder.feed(b"data: a\n"), decoder.feed(b"\n")) == ([], [ServerSentEvent(b"a")])


def test_several_events_of_one_read_are_given_together():
    assert data_of(b"data: a\n\ndata: b\n\ndata: c\n\n") == [b"a", b"b", b"c"]


def test_data_of_several_lines_is_joined_by_line_feeds():
    assert data_of(b"data: YHOO\ndata: +2\ndata: 10\n\n") == [b"YHOO\n+2\n10"]


def test_a_comment_is_no_event():
    assert data_of(b": keep-alive\n\n:\n\ndata: a\n: between\n\n") == [b"a"]


def test_only_one_space_after_the_colon_is_dropped():
    assert data_of(b"data:a\n\ndata: a\n\ndata:  a\n\n") == [b"a", b"a", b" a"]


def test_a_field_without_a_colon_has_an_empty_value():
    assert data_of(b"data\n\ndata\ndata\n\n") == [b"", b"\n"]


def test_an_event_without_data_is_not_given():
    assert data_of(b"event: ping\n\nid: 1\n\ndata: a\n\n") == [b"a"]


def test_the_name_of_an_event_holds_for_that_event_alone():
    events = decode(b"event: error\ndata: a\n\ndata: b\n\n")
    assert [event.event for event in events] == ["error", "message"]


def test_the_name_of_an_event_without_data_does_not_pass_to_the_next():
    assert [event.event for event in decode(b"event: ping\n\ndata: a\n\n")] == ["message"]


def test_unknown_fields_are_ignored():
    assert data_of(b"retry: 10\nid: 7\nfoo: bar\ndata: a\n\n") == [b"a"]


def test_a_byte_order_mark_at_the_start_is_dropped():
    assert data_of(b"\xef\xbb", b"\xbfdata: a\n\n") == [b"a"]


def test_an_event_that_the_end_cuts_off_is_dropped():
    assert data_of(b"data: a\n\ndata: b\n") == [b"a"]


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
def test_every_kind_of_line_end_is_understood(end: bytes):
    assert data_of(end.join([b"data: a", b"", b"data: b", b"", b""])) == [b"a", b"b"]


EVENT = st.lists(st.sampled_from(["data: ü€😀", "data:", "event: e", ": c", "id: 1"]), max_size=4)


@given(st.lists(EVENT, max_size=4), st.sampled_from(["\n", "\r", "\r\n"]), st.lists(st.integers(0, 200), max_size=9))
def test_events_are_the_same_wherever_the_network_cuts_them(events: list[list[str]], end: str, places: list[int]):
    data = "".join(line + end for event in events for line in [*event, ""]).encode()
    assert decode(*cut(data, places)) == decode(data)


def test_an_event_of_many_lines_is_bounded_as_a_whole():
    decoder = SseDecoder(max_event_bytes=10)
    with pytest.raises(BackendProtocolError, match="longer than 10 bytes"):
        decoder.feed(b"data: abcd\n" * 3)


def test_the_bound_counts_one_event_and_not_all_of_them():
    decoder = SseDecoder(max_event_bytes=10)
    assert len(decoder.feed(b"data: abcd\n\n" * 50)) == 50
