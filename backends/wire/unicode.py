"""Text of model servers that is not quite Unicode, made whole where its other half comes, and harmless where not.

A token may be half a character. Servers that send it at once write half a UTF-16 pair in a JSON escape, or some of the
bytes of a UTF-8 sequence as they are; the next token brings the rest. `decoded` keeps the odd bytes as lone surrogates
(Python's "surrogateescape"), so both are the same to `Joiner` and `repaired`.
"""

import re

_SURROGATE = re.compile("[\ud800-\udfff]")
_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")
_ODD_BYTES = re.compile("[\udc80-\udcff]+")

LONGEST_CHARACTER = 4
"""Bytes of a character in UTF-8."""


def decoded(data: bytes) -> str:
    """Give the text of bytes that should be UTF-8; odd ones stand in it as lone surrogates."""
    return data.decode(errors="surrogateescape")


def repaired(text: str) -> str:
    """Put the halves of characters together, and U+FFFD in the place of those that stand alone."""
    if text.isascii() or _SURROGATE.search(text) is None:
        return text
    text = _PAIR.sub(_paired, text)
    text = _ODD_BYTES.sub(lambda found: found[0].encode(errors="surrogateescape").decode(errors="replace"), text)
    return _SURROGATE.sub("\N{REPLACEMENT CHARACTER}", text)


class Joiner:
    """Repairs a text that comes in pieces: half a character at the end of one waits for the next."""

    def __init__(self) -> None:
        self._held = ""

    @property
    def is_empty(self) -> bool:
        """Whether no half of a character is held back."""
        return not self._held

    def feed(self, piece: str) -> str:
        """Give what is whole of the text so far and was not given before."""
        if not self._held and (piece.isascii() or _SURROGATE.search(piece) is None):
            return piece
        text = self._held + piece
        whole = len(text) - _unfinished(text)
        self._held = text[whole:]
        return repaired(text[:whole])

    def end(self) -> str:
        """Give what never became whole."""
        held, self._held = self._held, ""
        return repaired(held)


def _paired(found: re.Match[str]) -> str:
    return found[0].encode("utf-16", errors="surrogatepass").decode("utf-16")


def _unfinished(text: str) -> int:
    """Count the characters at the end that may begin one: half a pair, or the first bytes of a sequence."""
    if "\ud800" <= text[-1:] <= "\udbff":
        return 1
    for count in range(1, min(LONGEST_CHARACTER, len(text) + 1)):
        byte = ord(text[-count]) - 0xDC00
        if not 0x80 <= byte <= 0xFF:
            return 0
        if byte >= 0xC0:  # the first byte of a sequence of two, three or four
            wanted = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return count if count < wanted else 0
    return 0
