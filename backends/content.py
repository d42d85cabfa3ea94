"""What a model says, in the many forms in which servers write it, as chunks of text and of thinking."""

from collections.abc import Iterator, Sequence

from backends.logprobs import TokenLogprob
from backends.protocol import Chunk, Json, TextChunk, ThinkingChunk
from backends.wire import Joiner, as_list, as_number, as_object, repaired

_REASONING = ("reasoning_content", "reasoning", "thinking", "reasoning_text", "reasoning_details", "thinking_blocks")
"""Names for one thing: llama.cpp's, DeepSeek's and older vLLM's; newer vLLM's and Ollama's; Ollama's own API's; further
ones, of which OpenRouter's and LiteLLM's are lists of parts."""

_PLAIN_FIELDS = {"content", "role"}

_THOUGHTS = {"thinking", "reasoning", "reasoning_text", "reasoning.text", "reasoning.summary", "summary_text"}
_PART_FIELDS = ("text", "thinking", "reasoning", "refusal", "content", "summary", "value", "parts")


def plain_text(message: Json) -> str | None:
    """Give the text of a message that has nothing else; None for every other."""
    fields: dict[str, Json] = message if type(message) is dict else {}  # pyright: ignore[reportUnknownVariableType] - a cast takes time
    content = fields.get("content")
    return content if type(content) is str and fields.keys() <= _PLAIN_FIELDS else None


def pieces(message: dict[str, Json]) -> list[tuple[bool, str]]:
    """Give the texts of a message, or of a part of one, each with whether it is a thought."""
    content = plain_text(message)  # nearly every token comes so
    if content is None:
        return list(_all_pieces(message))
    return [(False, content)] if content else []


def _all_pieces(message: dict[str, Json]) -> Iterator[tuple[bool, str]]:
    reasoning = next((message[name] for name in _REASONING if message.get(name)), None)
    yield from ((True, text) for _, text in _parts(reasoning))
    yield from _parts(message.get("content"))
    yield from _parts(message.get("refusal"))


def _parts(content: Json) -> Iterator[tuple[bool, str]]:
    """Give the texts of a content: a string, a part, or a list of parts (OpenAI, Mistral)."""
    if isinstance(content, str):
        if content:
            yield False, content
    elif isinstance(content, list):
        for part in as_list(content):
            yield from _parts(part)
    elif part := as_object(content):
        thinks = part.get("type") in _THOUGHTS or part.get("thought") is True
        for inner, text in _parts(next((part[name] for name in _PART_FIELDS if part.get(name)), None)):
            yield thinks or inner, text


def logprobs_of(told: Json) -> list[TokenLogprob]:
    """Give the tokens of a list, which OpenAI's API and Ollama's write alike; what is odd in it is left out."""
    return [logprob for entry in as_list(told) if (logprob := _logprob(as_object(entry))) is not None]


def _logprob(entry: dict[str, Json]) -> TokenLogprob | None:
    token, logprob = entry.get("token"), as_number(entry.get("logprob"))
    if not isinstance(token, str) or logprob is None:
        return None
    try:
        utf8 = bytes(as_list(entry["bytes"])) if isinstance(entry.get("bytes"), list) else None
    except (TypeError, ValueError):  # not a list of bytes
        utf8 = None
    return TokenLogprob(repaired(token), logprob, utf8)


class Speech:
    """Makes chunks of texts. What is half a character waits for the rest, and so do its tokens and logprobs.

    Those of thoughts and of tool calls are left out: only text has a place for them.
    """

    def __init__(self) -> None:
        self.begun = False
        self._joiners = {False: Joiner(), True: Joiner()}
        self._owed = 0
        self._logprobs: list[TokenLogprob] | None = None

    def add(self, thinks: bool, text: str, tokens: int, into: list[Chunk]) -> None:
        """Append what is whole."""
        if text and not thinks and text.isascii() and self._logprobs is None and self._joiners[False].is_empty:
            into.append(TextChunk(text, self._owed + tokens))  # nearly every token, worked out in place
            self.begun, self._owed = True, 0
            return
        self.owe(tokens)
        if whole := self._joiners[thinks].feed(text):
            self._append(thinks, whole, into)

    def owe(self, tokens: int) -> None:
        """Count tokens whose text is still to come."""
        self.begun = True
        self._owed += tokens

    def owe_logprobs(self, logprobs: Sequence[TokenLogprob]) -> None:
        """Keep the logprobs of tokens for the text that they are part of."""
        if logprobs:
            self._logprobs = [*(self._logprobs or ()), *logprobs]

    def forget_logprobs(self) -> None:
        """Leave out the logprobs of tokens that turned out to be no text."""
        self._logprobs = None

    def end(self, into: list[Chunk]) -> None:
        """Append what never became whole."""
        for thinks in (True, False):
            if rest := self._joiners[thinks].end():
                self._append(thinks, rest, into)

    def _append(self, thinks: bool, text: str, into: list[Chunk]) -> None:
        into.append(ThinkingChunk(text, self._owed) if thinks else TextChunk(text, self._owed, self._logprobs))
        self._owed, self._logprobs = 0, None
