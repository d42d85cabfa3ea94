"""The way of one answer through the filters of plugins."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from backends.protocol import Chunk, FinishChunk, TextChunk, ThinkingChunk, ToolCallChunk, UsageChunk
from gateway.plugins.errors import GuardFailed
from gateway.plugins.plugin import OutputFilter, Piece, Refused
from gateway.plugins.thread import PluginFailed, PluginThread


class Filters:
    """The filters of one generation, one behind the other.

    Tokens are counted before them: those of text that is held back come with the next piece. The probabilities of
    tokens are left out, since they hold the text as it was.
    """

    def __init__(self, filters: Sequence[tuple[PluginThread, OutputFilter]]) -> None:
        self._filters = list(filters)
        self._tokens = 0

    async def feed(self, chunks: Sequence[Chunk]) -> list[Chunk]:
        """Give what may be shown by now. Raises GuardFailed."""
        pieces = [chunk for chunk in chunks if isinstance(chunk, Piece)]
        self._tokens += sum(0 if isinstance(piece, ToolCallChunk) else piece.tokens for piece in pieces)
        rest = [chunk for chunk in chunks if isinstance(chunk, UsageChunk | FinishChunk)]
        ends = any(isinstance(chunk, FinishChunk) for chunk in rest)
        return [*self._counted(await self._through(pieces, ends=ends)), *rest]

    async def _through(self, pieces: Sequence[Piece], *, ends: bool) -> Sequence[Piece]:
        for thread, filter in list(self._filters):
            try:
                given = await thread.run("output_filter", filter.feed, pieces) if pieces else ()
                last = await thread.run("output_filter", filter.end) if ends else ()
                pieces = [*_checked(given), *_checked(last)]
            except (PluginFailed, Refused, TypeError) as error:
                if thread.guards:
                    raise GuardFailed(thread.name) from error
                self._filters.remove((thread, filter))
        return pieces

    def _counted(self, pieces: Sequence[Piece]) -> Iterator[Piece]:
        for piece in pieces:
            if isinstance(piece, TextChunk):
                yield replace(piece, tokens=self._tokens, logprobs=None)
                self._tokens = 0
            elif isinstance(piece, ThinkingChunk):
                yield replace(piece, tokens=self._tokens)
                self._tokens = 0
            else:
                yield piece


def _checked(pieces: Sequence[Piece]) -> Sequence[Piece]:
    """Give what a filter gave. Raises TypeError where that is something else."""
    for piece in pieces:  # whoever wrote it may not check types
        if not isinstance(piece, Piece) or not isinstance(getattr(piece, "text", ""), str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"an output filter gave {type(piece).__name__}")
    return pieces
