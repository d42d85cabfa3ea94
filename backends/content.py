"""What a model says, in the many forms in which servers write it, as chunks of text and of thinking."""

from collections.abc import Iterator

from backends.protocol import Chunk, Json, TextChunk, ThinkingChunk
from backends.wire import Joiner, as_list, as_object

_REASONING = ("reasoning_content", "reasoning", "thinking", "reasoning_text", "reasoning_details", "thinking_blocks")
"""Names for one thing: llama.cpp's, DeepSeek's and older vLLM's; newer vLLM's and Ollama's; Ollama's own API's; further
ones, of which OpenRouter's and LiteLLM's are lists of parts."""

_PLAIN_FIELDS = {"content", "role"}

_THOUGHTS = {"thinking", "reasoning", "reasoning_text", "reasoning.text", "reasoning.summary", "summary_text"}
_PART_FIELDS = ("text", "thinking", "reasoning", "refusal", "content", "summary", "value", "parts")


def pieces(message: dict[str, Json]) -> list[tuple[bool, str]]:
    """Give the texts of a message, or of a part of one, each with whether it is a thought."""
    content = message.get("content")
    if type(content) is str and message.keys() <= _PLAIN_FIELDS:  # nearly every token comes so
        return [(False, content)] if content else []
    return list(_all_pieces(message))


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


class Speech:
    """Makes chunks of texts. What is half a character waits for the rest, and so do its tokens."""

    def __init__(self) -> None:
        self.begun = False
        self._joiners = {False: Joiner(), True: Joiner()}
        self._owed = 0

    def add(self, thinks: bool, text: str, tokens: int, into: list[Chunk]) -> None:
        """Append what is whole."""
        self.owe(tokens)
        if whole := self._joiners[thinks].feed(text):
            self._append(thinks, whole, into)

    def owe(self, tokens: int) -> None:
        """Count tokens whose text is still to come."""
        self.begun = True
        self._owed += tokens

    def end(self, into: list[Chunk]) -> None:
        """Append what never became whole."""
        for thinks in (True, False):
            if rest := self._joiners[thinks].end():
                self._append(thinks, rest, into)

    def _append(self, thinks: bool, text: str, into: list[Chunk]) -> None:
        into.append((ThinkingChunk if thinks else TextChunk)(text, self._owed))
        self._owed = 0
