"""The line and NDJSON decoders, fed with bytes as a network might cut them."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.errors import BackendProtocolError
from backends.wire.json import read_json
from backends.wire.lines import LineDecoder
from backends.wire.ndjson import NdjsonDecoder

LINES = st.lists(st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=5), max_size=6)
ENDS = st.sampled_from(["\n", "\r", "\r\n"])


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """Cut bytes at the places given, wherever they fall."""
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:stop] for start, stop in pairwise(edges)]


def decode(decoder: LineDecoder | NdjsonDecoder, pieces: list[bytes]) -> list[bytes]:
    return [line for piece in pieces for line in decoder.feed(piece)] + decoder.end()


@given(LINES, st.lists(ENDS, min_size=6, max_size=6), st.lists(st.integers(0, 100), max_size=8))
def test_lines_are_the_same_wherever_the_network_cuts_them(lines: list[str], ends: list[str], places: list[int]):
    data = "".join(line + end for line, end in zip(lines, ends, strict=False)).encode()
    whole = decode(LineDecoder(), [data])
    assert decode(LineDecoder(), cut(data, places)) == whole


@given(LINES, ENDS, st.lists(st.integers(0, 100), max_size=8))
def test_every_line_comes_out_as_it_went_in(lines: list[str], end: str, places: list[int]):
    data = "".join(line + end for line in lines).encode()
    assert [line.decode() for line in decode(LineDecoder(), cut(data, places))] == lines


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c"])
def test_a_line_is_not_cut_at_a_separator_that_json_may_hold(separator: str):
    line = f'{{"content":"a{separator}b"}}'.encode()
    assert decode(LineDecoder(), [line + b"\n"]) == [line]


def test_a_crlf_cut_between_two_reads_ends_one_line():
    assert decode(LineDecoder(), [b"a\r", b"\nb\r", b"\n"]) == [b"a", b"b"]


def test_a_line_that_ends_with_cr_does_not_wait_for_the_next_read():
    assert LineDecoder().feed(b"a\r") == [b"a"]


def test_a_cr_and_then_an_empty_line_are_told_apart_from_a_crlf():
    assert decode(LineDecoder(), [b"a\r", b"\n", b"\n"]) == [b"a", b""]


def test_an_empty_read_between_cr_and_lf_changes_nothing():
    assert decode(LineDecoder(), [b"a\r", b"", b"\nb\n"]) == [b"a", b"b"]


def test_a_character_cut_between_two_reads_comes_out_whole():
    euro = "€".encode()
    assert decode(LineDecoder(), [b"a" + euro[:1], euro[1:2], euro[2:] + b"\n"]) == ["a€".encode()]


@pytest.mark.parametrize("size", [1, 3, 100])
def test_a_line_over_the_bound_is_an_error_however_it_is_cut(size: int):
    data = b"x" * 11 + b"\n"
    decoder = LineDecoder(max_line_bytes=10)
    with pytest.raises(BackendProtocolError, match="longer than 10 bytes"):
        decode(decoder, [data[start : start + size] for start in range(0, len(data), size)])


@pytest.mark.parametrize("size", [1, 3, 100])
def test_a_line_of_exactly_the_bound_is_taken(size: int):
    data = b"x" * 10 + b"\n"
    decoder = LineDecoder(max_line_bytes=10)
    assert decode(decoder, [data[start : start + size] for start in range(0, len(data), size)]) == [b"x" * 10]


def test_the_bound_counts_one_line_and_not_all_of_them():
    assert len(decode(LineDecoder(max_line_bytes=4), [b"abcd\n" * 100])) == 100


def test_ndjson_skips_empty_lines():
    assert decode(NdjsonDecoder(), [b'\n{"a":1}\r\n\r\n\n{"a":2}\n']) == [b'{"a":1}', b'{"a":2}']


def test_ndjson_gives_a_last_line_that_has_no_end():
    assert decode(NdjsonDecoder(), [b'{"a":1}\n{"a":', b"2}"]) == [b'{"a":1}', b'{"a":2}']


@pytest.mark.parametrize("data", [b"{", b"", b"\xff", b"nothing", b"[" * 5000, b"1" * 5000])
def test_what_is_no_json_is_a_protocol_error(data: bytes):
    with pytest.raises(BackendProtocolError):
        read_json(data)
