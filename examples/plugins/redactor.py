"""Keeps personal data out of answers: e-mail addresses, IBANs, card and telephone numbers become `[redacted]`.

A guard: where it fails, so does the generation. What may become personal data with the next piece is held back until it
is known, so that no part of it is shown. `also` is one more regular expression.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from gateway.plugins import GenerationInfo, Piece, Plugin, TextChunk, ThinkingChunk, ToolCallChunk

PERSONAL = (
    r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+",
    r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){3,7}(?: ?[A-Z0-9]{1,3})?\b",
    r"(?<![\w.])\+?\d(?:[ ./-]?\d){7,18}(?!\w)",
)

UNFINISHED = re.compile(r"(?:[\w.+@-]*|[+A-Z]{0,3}\d[A-Z\d ./-]{0,50})\Z")
"""What at the end of a text may still become one of them."""

LONGEST = 80
"""Characters that are held back for the expression of the settings: what it finds must be no longer."""


class Redactor(Plugin):
    version = "1.0"

    def __init__(self, settings: Mapping[str, str]) -> None:
        super().__init__(settings)
        also = settings.get("also")
        self.pattern = re.compile("|".join([*PERSONAL, *([also] if also else [])]))
        self.held_back = LONGEST if also else 0

    async def output_filter(self, generation: GenerationInfo, said: str) -> "RedactingFilter":
        return RedactingFilter(self.pattern, self.held_back)


class RedactingFilter:
    """Holds back the last characters of text and of thinking; a tool call comes whole."""

    def __init__(self, pattern: re.Pattern[str], held_back: int) -> None:
        self._pattern = pattern
        self._held_back = held_back
        self._held = {TextChunk: "", ThinkingChunk: ""}

    async def feed(self, pieces: Sequence[Piece]) -> Sequence[Piece]:
        shown: list[Piece] = []
        for piece in pieces:
            if isinstance(piece, ToolCallChunk):
                shown += [*await self.end(), replace(piece, call=self._redacted_call(piece))]
            else:
                kind = type(piece)
                shown += [kind(text) for text in [self._take(kind, piece.text)] if text]
        return shown

    async def end(self) -> Sequence[Piece]:
        rest = [kind(self._pattern.sub("[redacted]", held)) for kind, held in self._held.items() if held]
        self._held = dict.fromkeys(self._held, "")
        return rest

    def _take(self, kind: type, text: str) -> str:
        """Add to what is held, and give what can no longer become personal data, or part of it."""
        held = self._held[kind] + text
        unfinished = UNFINISHED.search(held)
        cut = max(0, min(unfinished.start() if unfinished else len(held), len(held) - self._held_back))
        for match in self._pattern.finditer(held):
            if match.start() < cut < match.end():
                cut = match.start()
        self._held[kind] = held[cut:]
        return self._pattern.sub("[redacted]", held[:cut])

    def _redacted_call(self, piece: ToolCallChunk):
        call = piece.call
        return replace(call, arguments=_redacted(call.arguments, self._pattern))


def _redacted(value, pattern: re.Pattern[str]):
    """Redact all texts in a JSON value."""
    if isinstance(value, str):
        return pattern.sub("[redacted]", value)
    if isinstance(value, dict):
        return {name: _redacted(one, pattern) for name, one in value.items()}
    return [_redacted(one, pattern) for one in value] if isinstance(value, list) else value
