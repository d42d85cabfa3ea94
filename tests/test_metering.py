"""Tokens are counted exactly, by the best source there is."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.protocol import (
    ChatRequest,
    Chunk,
    FinishChunk,
    FinishReason,
    ImagePart,
    Message,
    TextChunk,
    TextPart,
    ThinkingChunk,
    ToolCall,
    ToolCallChunk,
    Usage,
    UsageChunk,
)
from gateway.generation.estimates import Rates
from gateway.generation.meter import Meter, added, prompt_of
from gateway.streams.events import TokenUsage, UsageSource, UsageSources

REQUEST = ChatRequest("m", [Message("user", "12345678")])

TOLD = UsageSources(UsageSource.BACKEND, UsageSource.BACKEND)
COUNTED = UsageSources(UsageSource.BACKEND, UsageSource.COUNTED)
ESTIMATED_PROMPT = 2
CALL = ToolCallChunk(ToolCall("call_0", "look", {"at": "it"}))


def metered(*chunks: Chunk) -> TokenUsage:
    meter = Meter(REQUEST)
    meter.asked()
    meter.add(chunks)
    return meter.usage()


def finish(
    prompt: int | None, completion: int | None, cached: int | None = None, thinking: int | None = None
) -> FinishChunk:
    return FinishChunk(FinishReason.STOP, Usage(prompt, completion, cached, thinking))


def test_a_backend_that_was_never_asked_cost_nothing():
    assert Meter(REQUEST).usage() == TokenUsage()


def test_a_backend_that_refused_cost_nothing():
    meter = Meter(REQUEST)
    meter.asked()
    meter.refused()
    assert meter.usage() == TokenUsage()


def test_the_backends_last_word_counts():
    assert metered(TextChunk("a"), finish(7, 9, 3)) == TokenUsage(7, 9, 3, TOLD._replace(cached=UsageSource.BACKEND))


def test_what_was_told_mid_stream_counts_for_an_answer_that_was_cut_off():
    told = UsageChunk(Usage(7, 2))
    assert metered(TextChunk("a"), TextChunk("b"), told) == TokenUsage(7, 2, None, TOLD)


def test_tokens_that_came_after_the_last_word_of_the_backend_are_counted():
    told = UsageChunk(Usage(7, 1))
    assert metered(TextChunk("a"), told, TextChunk("b")) == TokenUsage(7, 2, None, COUNTED)


def test_a_later_word_takes_nothing_back_that_it_leaves_out():
    assert metered(UsageChunk(Usage(7, 1, 3)), finish(None, 4)) == TokenUsage(
        7, 4, 3, TOLD._replace(cached=UsageSource.BACKEND)
    )


@pytest.mark.parametrize(
    ("chunks", "thinking"),
    [
        ([finish(7, 9, None, 4)], 4),
        ([finish(7, 9, None, 9)], 9),
        ([finish(7, 9, None, 0)], 0),
        ([finish(7, 9)], None),
        ([ThinkingChunk("a"), finish(7, 9)], None),  # it is not counted here
        ([finish(7, 9, None, 10)], None),  # no part of the completion
        ([ThinkingChunk("a"), finish(7, 9, None, 0)], None),  # a zero beside thinking
        ([UsageChunk(Usage(7, 3, None, 2)), finish(7, 9)], 2),  # a later word takes nothing back
        ([UsageChunk(Usage(7, 3, None, 2)), finish(7, 9, None, 5)], 5),
        ([TextChunk("a"), TextChunk("b"), finish(7, None, None, 1)], 1),  # of a completion that was counted
    ],
)
def test_thinking_tokens_are_those_that_the_backend_told_as_part_of_the_completion(
    chunks: list[Chunk], thinking: int | None
):
    assert metered(*chunks).thinking_tokens == thinking


@pytest.mark.parametrize(
    ("first", "second", "thinking"),
    [(2, 3, 5), (2, None, 2), (None, 3, 3), (None, None, None), (2**31 - 1, 1, 2**31 - 1)],
)
def test_the_thinking_of_two_parts_adds_up_as_far_as_it_was_told(
    first: int | None, second: int | None, thinking: int | None
):
    parts = [
        TokenUsage(1, 9, None, UsageSources.of_weakest(UsageSource.BACKEND, 1, None, told), told)
        for told in (first, second)
    ]
    both = added(*parts)
    assert both.thinking_tokens == thinking
    partly = (first is None) != (second is None)
    expected = None if thinking is None else UsageSource.ESTIMATED if partly else UsageSource.BACKEND
    assert both.sources == TOLD._replace(thinking=expected)


def test_of_a_sum_each_number_has_the_weaker_source_of_its_parts():
    parts = (
        TokenUsage(1, 1, None, COUNTED),
        TokenUsage(1, 1, None, UsageSources(UsageSource.ESTIMATED, UsageSource.BACKEND)),
    )
    assert added(*parts).sources == UsageSources(UsageSource.ESTIMATED, UsageSource.COUNTED)
    assert added(*parts).source is UsageSource.ESTIMATED


def test_an_answer_of_a_backend_that_tells_no_completion_is_counted():
    assert metered(TextChunk("a"), TextChunk("b"), finish(7, None)) == TokenUsage(7, 2, None, COUNTED)


def test_a_prompt_that_nobody_told_is_estimated():
    usage = metered(TextChunk("a"), finish(None, None))
    assert usage == TokenUsage(ESTIMATED_PROMPT, 1, None, UsageSources(UsageSource.ESTIMATED, UsageSource.COUNTED))


def test_thinking_counts_like_text():
    assert metered(ThinkingChunk("a"), TextChunk("b"), finish(7, None)).completion_tokens == 2


def test_a_tool_call_that_nobody_counted_is_estimated():
    usage = metered(CALL, finish(7, None))
    assert (usage.completion_tokens > 0, usage.source) == (True, UsageSource.ESTIMATED)


@given(st.lists(st.integers(0, 9), min_size=1))
def test_the_tokens_of_all_pieces_add_up(tokens: Sequence[int]):
    chunks = [TextChunk("x", count) for count in tokens]
    assert metered(*chunks, finish(7, None)).completion_tokens == sum(tokens)


@pytest.mark.parametrize(
    ("messages", "tokens"),
    [
        ([Message("user", "")], 0),
        ([Message("user", "1")], 1),
        ([Message("user", "1234"), Message("user", "5678")], 2),
        ([Message("assistant", "1234", thinking="5678")], 2),
        ([Message("user", [TextPart("1234"), ImagePart("aGk=")])], 257),
    ],
)
def test_a_prompt_is_estimated_from_all_that_is_in_it(messages: list[Message], tokens: int):
    assert Rates().prompt_tokens(prompt_of(ChatRequest("m", messages))) == tokens
