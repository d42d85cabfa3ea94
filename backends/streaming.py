"""What every streaming adapter does alike: read, decode, hand on batches, and know a good end from a bad one."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Protocol

import anyio

from backends.errors import BackendError, BackendProtocolError
from backends.protocol import Chunk, Json, UsageChunk
from backends.wire import Client, Reads, drain, failure_instead, html_error, is_html, stream_reads

GRACE_SECONDS = 2.0
"""How long a server may take to tell the usage behind the end of an answer."""

LONGEST_GATHERING = 0.05
"""Seconds for which tokens may lie unread; what lies there when an answer is cancelled is neither shown nor counted."""


class ChunkDecoder(Protocol):
    """Turns the bytes of one answer into chunks. Pure: it never reads or waits."""

    @property
    def finished(self) -> bool:
        """Whether the FinishChunk has been given: whatever comes now, the answer is whole."""
        ...

    @property
    def complete(self) -> bool:
        """Whether nothing more is wanted; nothing is fed after it."""
        ...

    def feed(self, data: bytes, into: list[Chunk]) -> None:
        """Append what `data` completes. What was appended before a BackendError is raised stays good."""
        ...

    def end(self, into: list[Chunk]) -> None:
        """Append what the end of the stream completes. Raises BackendProtocolError when it came too early."""
        ...


@asynccontextmanager
async def stream_chunks(
    client: Client, path: str, body: Json, decoder: ChunkDecoder, event_interval: float = 0
) -> AsyncGenerator[AsyncIterator[Sequence[Chunk]]]:
    """Ask for one answer and give its chunks in batches, as `Backend.generate` promises.

    The first one comes at once, and from then on one in `event_interval` seconds at most: a batch costs little more
    than one token does, all the way to the viewers.
    """
    async with stream_reads(client, path, body) as reads:
        async with aclosing(_batches(reads, decoder, min(event_interval, LONGEST_GATHERING))) as batches:
            yield batches
        if decoder.finished:
            await drain(reads)


async def _batches(reads: Reads, decoder: ChunkDecoder, interval: float) -> AsyncGenerator[list[Chunk]]:
    batch: list[Chunk] = []
    first = b""
    said = False
    try:
        async for data in reads:
            first = first or _no_page(data)
            decoder.feed(data, batch)
            if batch:
                if not said and not all(isinstance(chunk, UsageChunk) for chunk in batch):
                    said = True
                    reads.gather(interval)
                yield batch
                batch = []
            if decoder.finished:
                break
        else:
            decoder.end(batch)
    except BackendError as error:
        # The tokens that came before the failure were paid for: they are handed on first.
        if batch:
            yield batch
        elif not said and isinstance(error, BackendProtocolError) and (failure := failure_instead(first)) is not None:
            raise failure from error
        raise
    if batch:
        yield batch
    if not decoder.complete and (rest := await _rest(reads, decoder)):
        yield rest


def _no_page(data: bytes) -> bytes:
    """Give the beginning of an answer. Raises BackendError for a web page."""
    if is_html(data):
        raise html_error()
    return data


async def _rest(reads: AsyncIterator[bytes], decoder: ChunkDecoder) -> list[Chunk]:
    """Give what little follows the end of an answer, its usage. However the connection goes on, that is all."""
    batch: list[Chunk] = []
    with anyio.move_on_after(GRACE_SECONDS):
        try:
            async for data in reads:
                decoder.feed(data, batch)
                if decoder.complete:
                    break
            else:
                decoder.end(batch)
        except BackendError:
            return batch
    return batch
