"""Usage that nobody tells is guessed from what the same model told of other answers."""

from itertools import repeat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.estimates import estimated_tokens, is_one_token
from backends.protocol import (
    ChatRequest,
    FinishChunk,
    FinishReason,
    ImagePart,
    Message,
    TextChunk,
    TextPart,
    Tool,
    ToolCall,
    ToolCallChunk,
    Usage,
    UsageChunk,
)
from gateway.generation.estimates import TOKENS_PER_MESSAGE, Estimates, Pieces, Prompt, Rates
from gateway.generation.meter import Meter, prompt_of
from gateway.streams.events import UsageSource
from tests.support.fake_model_server import Ending, Raw
from tests.support.gateways import Json, RunningGateway
from tests.support.quirks import OLLAMA, OPENAI, ask, delta, end, said, usage

PROMPT = "What is it?"
EMOJI = "\N{GRINNING FACE}"


def answered(
    rates: Rates, told: tuple[int, int] | None, pieces: list[str], prompt: str = PROMPT, images: int = 0
) -> Meter:
    """An answer to its end, or cut off before the model told anything."""
    meter = Meter(ChatRequest("m", [Message("user", [TextPart(prompt), *[ImagePart("aGk=")] * images])]))
    meter.asked(rates)
    meter.add([TextChunk(piece) for piece in pieces])
    if told is not None:
        meter.add([FinishChunk(FinishReason.STOP, Usage(*told))])
    meter.end()
    return meter


def guessed(rates: Rates, pieces: list[str], prompt: str = PROMPT) -> tuple[int, int]:
    usage = answered(rates, None, pieces, prompt).usage()
    return usage.prompt_tokens, usage.completion_tokens


WORDS = ["a ", "word "] * 10


@pytest.mark.parametrize(
    ("text", "tokens"),
    [("", 0), ("word", 1), ("é", 1), (EMOJI, 2), ("世界", 3), ("word" + EMOJI, 3), ("\ud83d", 0.5)],
)
def test_a_text_is_guessed_by_its_bytes(text: str, tokens: float):
    assert estimated_tokens(text) == tokens


@pytest.mark.parametrize("text", ["", "a", " International", "世界", "é", "\n" * 16])
def test_a_short_piece_can_be_one_token(text: str):
    assert is_one_token(text)


@pytest.mark.parametrize("text", [EMOJI, "a" + EMOJI, "a" * 17, "世" * 17])
def test_an_emoji_or_a_long_piece_cannot(text: str):
    assert not is_one_token(text)


def test_an_answer_of_emoji_counts_two_tokens_for_each():
    assert guessed(Rates(), [EMOJI] * 16)[1] == 32


def test_what_the_template_adds_is_learnt():
    rates = Rates()
    answered(rates, (21, 21), WORDS)
    assert guessed(rates, WORDS[:5]) == (21, 5)
    assert 20 <= guessed(rates, [], "Who is it?")[0] <= 22


def test_more_messages_have_more_of_the_template():
    rates = Rates()
    rates.learn_prompt(Prompt(10, 1), 30)
    assert rates.prompt_tokens(Prompt(10, 3)) == 30 + 2 * TOKENS_PER_MESSAGE


def test_the_end_mark_makes_no_piece_more_than_one_token():
    rates = Rates()
    answered(rates, (21, 3), ["a", "b"])
    assert guessed(rates, WORDS)[1] == len(WORDS)


def test_a_server_that_sends_several_tokens_at_once_is_learnt():
    rates = Rates()
    answered(rates, (21, 60), WORDS)
    counts = answered(rates, None, WORDS[:5]).usage()
    assert (counts.completion_tokens, counts.source) == (15, UsageSource.ESTIMATED)


def test_how_many_tokens_an_emoji_is_to_the_model_is_learnt():
    rates = Rates()
    answered(rates, (21, 49), [EMOJI] * 16)
    assert guessed(rates, [EMOJI] * 10)[1] == pytest.approx(30, abs=1)
    assert guessed(rates, WORDS)[1] == len(WORDS)
    answered(rates, (21, 60), WORDS)
    assert guessed(rates, [*WORDS, *[EMOJI] * 10])[1] == pytest.approx(90, abs=1)


def test_tokens_of_thoughts_that_are_not_shown_are_no_tokens_of_the_text():
    rates = Rates()
    answered(rates, (21, 5000), WORDS)
    assert guessed(rates, WORDS[:5])[1] == 5


def test_an_answer_whose_usage_is_guessed_teaches_nothing():
    rates = Rates()
    answered(rates, None, WORDS)
    answered(rates, (0, 0), WORDS)
    assert guessed(rates, WORDS) == guessed(Rates(), WORDS)


def test_neither_images_nor_tool_calls_teach_anything_about_text():
    rates = Rates()
    answered(rates, (5000, 20), WORDS, images=1)
    assert guessed(rates, [])[0] < 10
    meter = Meter(ChatRequest("m", [Message("user", PROMPT)]))
    meter.asked(rates)
    meter.add([TextChunk("a"), ToolCallChunk(ToolCall("", "f", {"x": 1})), FinishChunk(FinishReason.STOP, Usage(9, 3))])
    meter.end()
    assert guessed(rates, WORDS)[1] == len(WORDS)


def test_a_cancelled_answer_whose_model_tells_as_it_goes_teaches_too():
    rates = Rates()
    meter = Meter(ChatRequest("m", [Message("user", PROMPT)]))
    meter.asked(rates)
    meter.add([TextChunk("a"), UsageChunk(Usage(21, 1))])
    meter.end()
    assert guessed(rates, [])[0] == 21


@given(
    st.integers(0, 300),
    st.floats(0.5, 2),
    st.lists(st.integers(1, 2000), min_size=2, max_size=10),
    st.integers(1, 2000),
)
def test_two_prompts_tell_of_all_others(template: int, factor: float, seen: list[int], asked: int):
    def told(tokens: int) -> int:
        return round(template + tokens * factor)

    rates = Rates()
    for tokens in sorted(seen):
        rates.learn_prompt(Prompt(tokens, 1), told(tokens))
        assert abs(rates.prompt_tokens(Prompt(tokens, 1)) - told(tokens)) <= max(2, tokens)
    if max(seen) > 50 + 10 * min(seen):
        error = abs(rates.prompt_tokens(Prompt(asked, 1)) - told(asked))
        assert error <= 5 + 0.1 * max(asked, max(seen))


@given(st.lists(st.tuples(st.floats(0, 1e6), st.integers(1, 50), st.integers(1, 2**31 - 1))), st.floats(0, 1e6))
def test_no_telling_makes_a_guess_that_is_none(told: list[tuple[float, int, int]], asked: float):
    rates = Rates()
    for estimated, messages, tokens in told:
        rates.learn_prompt(Prompt(estimated, messages), tokens)
        rates.learn_answer(Pieces(estimated, float(messages), estimated), tokens)
    assert rates.prompt_tokens(Prompt(asked, 1)) >= (asked > 1)
    assert rates.answer_tokens(Pieces(asked, asked, asked)) >= 0


def test_tools_and_calls_are_part_of_a_prompt():
    tool = Tool("weather", "Tells the weather", {"type": "object"})
    call = ToolCall("1", "weather", {"city": "Köln"})
    plain = ChatRequest("m", [Message("user", PROMPT)])
    assert prompt_of(ChatRequest("m", plain.messages, tools=[tool])).estimated > prompt_of(plain).estimated + 5
    called = Message("assistant", tool_calls=[call])
    assert prompt_of(ChatRequest("m", [*plain.messages, called])).estimated > prompt_of(plain).estimated + 4


def test_the_models_asked_last_are_remembered():
    estimates = Estimates(most=2)
    first = estimates.of("a", "m")
    estimates.of("b", "m")
    assert estimates.of("a", "m") is first
    estimates.of("c", "m")
    assert estimates.of("a", "m") is first
    other = estimates.of("b", "m")
    other.learn_prompt(Prompt(1, 1), 9)
    for name in "xy":
        estimates.of(name, "m")
    assert estimates.of("b", "m").prompt_tokens(Prompt(1, 1)) == 1


TOLD: dict[str, Json] = {
    OLLAMA: {"prompt_eval_count": 33, "eval_count": 3},
    OPENAI: {"prompt_tokens": 33, "completion_tokens": 3},
}


@pytest.mark.parametrize("path", [OLLAMA, OPENAI])
async def test_an_answer_cut_off_costs_what_the_model_told_of_the_same_prompt(double: RunningGateway, path: str):
    def piece(text: str) -> bytes:
        return said(text) if path == OLLAMA else delta(content=text)

    last = [end(**TOLD[path])] if path == OLLAMA else [delta("stop"), usage(**TOLD[path])]
    await ask(double, path, Raw([piece("a"), piece("b"), *last]))
    events = await ask(double, path, Raw([*repeat(piece(EMOJI), 4), piece("!")], Ending.CUT))
    assert events[-1]["usage"] == {"promptTokens": 33, "completionTokens": 9, "source": "ESTIMATED"}


@given(st.lists(st.tuples(st.integers(1, 500), st.integers(1, 500), st.integers(1, 40)), min_size=1, max_size=6))
def test_the_numbers_of_an_ended_answer_stay_whatever_its_model_tells_of_others(others: list[tuple[int, int, int]]):
    rates = Rates()
    ended = answered(rates, None, WORDS)
    before = ended.usage()
    for prompt, completion, words in others:
        answered(rates, (prompt, completion), ["word "] * words, "what " * words)
    assert ended.usage() == before
