"""Takes a model's reasoning out of its text, where the server does not: `<think>…</think>` at the beginning."""

from collections.abc import Iterator

OPEN, CLOSE = "<think>", "</think>"


class ThinkTags:
    """Text in, pieces out, each with whether it is a thought.

    Only what stands at the very beginning counts: further on the tags are text that the model wrote. A tag may come in
    several pieces, so what may be the beginning of one waits for the next.
    """

    def __init__(self) -> None:
        self._before = True
        self._thinks = False
        self._behind_tag = False
        self._held = ""

    @property
    def aside(self) -> bool:
        """Whether what comes now is a thought, or the blank lines behind one."""
        return self._thinks or self._behind_tag

    def feed(self, text: str) -> Iterator[tuple[bool, str]]:
        """Give what is decided of the text so far."""
        text, self._held = self._held + text, ""
        if self._before:
            text = self._opened(text)
        if self._behind_tag:
            text = text.lstrip("\n")
            self._behind_tag = not text
        if self._thinks:
            yield from self._thought(text)
        elif text:
            yield False, text

    def end(self) -> Iterator[tuple[bool, str]]:
        """Give what was held back for a tag that never came."""
        held, self._held = self._held, ""
        if held:
            yield self._thinks, held

    def _opened(self, text: str) -> str:
        """Look for the opening tag; give the text behind it, or all of it where there is none."""
        begun = text.lstrip()
        if begun.startswith(OPEN):
            self._before, self._thinks, self._behind_tag = False, True, True
            return begun.removeprefix(OPEN)
        if OPEN.startswith(begun):
            self._held = text
            return ""
        self._before = False
        return text

    def _thought(self, text: str) -> Iterator[tuple[bool, str]]:
        thought, closed, rest = text.partition(CLOSE)
        if closed:
            self._thinks = False
            if thought:
                yield True, thought
            rest = rest.lstrip("\n")
            self._behind_tag = not rest
            if rest:
                yield False, rest
            return
        kept = next((count for count in range(len(CLOSE) - 1, 0, -1) if text.endswith(CLOSE[:count])), 0)
        self._held = text[len(text) - kept :] if kept else ""
        if thought := text[: len(text) - kept]:
            yield True, thought
