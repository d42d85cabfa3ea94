"""What is learnt from the models that tell their usage, for guesses at that of answers that are cut off.

A chat template adds tokens that stand in no message, and every vocabulary cuts text in its own way. Both are the same
for all requests to one model, so what it told of earlier ones says more than any rule of thumb.
"""

import math
from collections import OrderedDict
from dataclasses import dataclass

from backends.estimates import BYTES_PER_TOKEN, LONGEST_TOKEN, estimated_tokens, is_one_token

MOST_MODELS = 1000

TOKENS_PER_MESSAGE = 4
"""What a chat template adds to each further message."""

SHORTEST_TEXT = 8.0
"""Of a text with fewer tokens than these, the mark of its end would count for too much."""

LARGEST_FACTOR = 4.0
"""What is further off counts something else than the text, such as thoughts that are not shown."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """What is known of a prompt without its model: the tokens of its text by rule of thumb, and its messages."""

    estimated: float
    messages: int


@dataclass(slots=True)
class Pieces:
    """An answer as it came, in tokens: by rule of thumb, and by its pieces, ASCII or `wide`, that cannot be fewer."""

    estimated: float = 0.0
    narrow: float = 0.0
    wide: float = 0.0

    def add(self, text: str, tokens: int) -> None:
        """Count one piece, which its server or rule takes for so many tokens."""
        if text.isascii():  # nearly every piece, and there is one for each token: worked out in place
            estimated = len(text) / BYTES_PER_TOKEN
            self.narrow += tokens if len(text) <= LONGEST_TOKEN else max(tokens, estimated)
        else:
            estimated = estimated_tokens(text)
            self.wide += tokens if is_one_token(text) else max(tokens, estimated)
        self.estimated += estimated


class _Factor:
    """Tokens told by tokens guessed. Each answer weighs by its length, and half as much after the next."""

    def __init__(self) -> None:
        self._told = self._guessed = 0.0
        self.value: float | None = None  # an attribute, since it is asked for at each token

    def learn(self, told: float, guessed: float) -> None:
        if guessed > 0 and 1 / LARGEST_FACTOR <= told / guessed <= LARGEST_FACTOR:
            self._told, self._guessed = self._told / 2 + told, self._guessed / 2 + guessed
            self.value = self._told / self._guessed


class Rates:
    """How one model counts, as far as it has told."""

    def __init__(self) -> None:
        self._shortest: tuple[Prompt, int] | None = None
        self._least = math.inf
        self._prompts, self._texts, self._narrow, self._wide = _Factor(), _Factor(), _Factor(), _Factor()

    def learn_prompt(self, prompt: Prompt, told: int) -> None:
        """Take what a model told of a prompt: a short one tells of the template, a longer one of its text."""
        self._least = min(self._least, prompt.estimated)
        if self._shortest is None or prompt.estimated <= 2 * self._least:
            self._shortest = prompt, told
            return
        shortest, base = self._shortest
        more = told - base - TOKENS_PER_MESSAGE * (prompt.messages - shortest.messages)
        self._prompts.learn(more, prompt.estimated - shortest.estimated)

    def learn_answer(self, answer: Pieces, told: int) -> None:
        """Take what it told of an answer."""
        if answer.estimated >= SHORTEST_TEXT:
            self._texts.learn(told, answer.estimated)
        all_pieces = answer.narrow + answer.wide
        tokens = all_pieces if told - 1 <= all_pieces <= told else told  # the mark of the end is one without a piece
        if answer.wide:
            self._wide.learn(tokens - answer.narrow * (self._narrow.value or 1.0), answer.wide)
        else:
            self._narrow.learn(tokens, answer.narrow)

    def prompt_tokens(self, prompt: Prompt) -> int:
        """Guess at the tokens of a prompt."""
        factor = self._prompts.value or self._texts.value or 1.0
        guess = prompt.estimated * factor
        if self._shortest is not None:
            shortest, told = self._shortest
            more = (prompt.estimated - shortest.estimated) * factor
            guess = max(guess, told + more + TOKENS_PER_MESSAGE * (prompt.messages - shortest.messages))
        return rounded_up(guess)

    def answer_tokens(self, answer: Pieces) -> int:
        """Guess at the tokens of an answer."""
        return round(answer.narrow * (self._narrow.value or 1.0) + answer.wide * (self._wide.value or 1.0))


class Estimates:
    """The rates of the models asked last, at most `most` of them, by backend and model."""

    def __init__(self, most: int = MOST_MODELS) -> None:
        self._most = most
        self._rates: OrderedDict[tuple[str, str], Rates] = OrderedDict()

    def of(self, backend: str, model: str) -> Rates:
        """Give the rates of a model, to be learnt from and asked."""
        rates = self._rates.setdefault((backend, model), Rates())
        self._rates.move_to_end((backend, model))
        if len(self._rates) > self._most:
            self._rates.popitem(last=False)
        return rates


def rounded_up(tokens: float) -> int:
    """Give whole tokens: what is a little more than none is one. What only floats make a little more is not."""
    return math.ceil(tokens - 1e-6)
