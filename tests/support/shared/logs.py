"""Stream logs over a real Valkey, as one gateway has them or as two share them."""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from uuid import UUID

import anyio
from anyio.lowlevel import checkpoint

from db.clock import new_id
from gateway.errors import StreamExpired
from gateway.streams.buffer import StreamBuffer
from gateway.streams.events import Event, TokenUsage
from gateway.streams.exposure import Notes
from gateway.streams.log import SavedStream, StreamOwner
from gateway.streams.shared import Handlers, SharedStreamLog
from gateway.streams.valkey.client import Valkey
from tests.support.valkeys import ValkeyCluster, ValkeyServer

NEVER = 3600.0
PLENTY = 1_000_000


class Heard(Handlers):
    """What the other gateways said, in order; and what the database would know.

    `detached`, `ended` and `owning` are streams, and `used` what was told with those.
    """

    def __init__(self) -> None:
        self.words: list[tuple[str, UUID | None]] = []
        self.changed = anyio.Event()
        self.detached: set[UUID] = set()
        self.used: dict[UUID, TokenUsage] = {}
        self.ended: set[UUID] = set()
        self.owning = False
        super().__init__(
            self._hearing("cancel"),
            self._hearing("unfollowed"),
            self._hearing("lost"),
            self._orphans,
            Notes(self._take_note, self._take_usage, self._ended),
            self._owns_it,
            lambda message: None,
        )

    def _hearing(self, word: str) -> Callable[[UUID], None]:
        def receive(stream_id: UUID) -> None:
            self._add(word, stream_id)

        return receive

    async def _take_note(self, streams: Sequence[tuple[UUID, int]], detached: bool) -> None:
        for stream_id, _ in streams:
            (self.detached.add if detached else self.detached.discard)(stream_id)

    async def _take_usage(self, streams: Mapping[UUID, StreamOwner]) -> None:
        self.used |= {stream_id: owner.usage() for stream_id, owner in streams.items()}

    async def _ended(self, stream_ids: Sequence[UUID]) -> set[UUID]:
        return self.ended.intersection(stream_ids)

    async def _owns_it(self, stream_id: UUID, fence: int) -> bool:
        return self.owning

    def _orphans(self) -> None:
        self._add("orphans", None)

    def _add(self, word: str, stream_id: UUID | None) -> None:
        self.words.append((word, stream_id))
        self.changed.set()
        self.changed = anyio.Event()

    async def until(self, word: str) -> UUID | None:
        """Wait until that was said."""
        while True:
            for said, stream_id in self.words:
                if said == word:
                    return stream_id
            await self.changed.wait()


@asynccontextmanager
async def running_log(
    valkey: ValkeyServer | ValkeyCluster,
    retention: float = NEVER,
    max_bytes: int = PLENTY,
    max_stream_bytes: int = 16_000_000,
    handlers: Handlers | None = None,
) -> AsyncGenerator[SharedStreamLog]:
    """The log of a gateway of its own; it ends without a word, as that of a killed gateway."""
    client = Valkey(valkey.url, new_id(), retention=retention, max_stream_bytes=max_stream_bytes, max_bytes=max_bytes)
    log = SharedStreamLog(client, StreamBuffer(retention, max_bytes, max_stream_bytes))
    log.set_handlers(handlers or Heard())
    try:
        async with anyio.create_task_group() as tasks:
            await tasks.start(log.run)
            yield log
            tasks.cancel_scope.cancel()
    finally:
        await client.aclose()


class Pair:
    """Written at one gateway and read at another: to be told from a log of one gateway by nothing."""

    def __init__(self, writer: SharedStreamLog, reader: SharedStreamLog) -> None:
        self._writer = writer
        self._reader = reader

    @property
    def is_shared(self) -> bool:
        return True

    async def open(self, stream_id: UUID, owner: StreamOwner, dropped: int = 0) -> None:
        await self._writer.open(stream_id, owner, dropped)

    async def append(self, stream_id: UUID, events: Sequence[Event]) -> None:
        """As the contract has it; and then wait until Valkey has it, so that tests know what a reader sees."""
        await self._writer.append(stream_id, events)
        while not await self._reads(stream_id, events[-1].sequence):
            await checkpoint()

    async def _reads(self, stream_id: UUID, sequence: int) -> bool:
        try:
            return len(await self._reader.read(stream_id)) >= sequence
        except StreamExpired:
            return False

    async def read(self, stream_id: UUID) -> Sequence[Event]:
        return await self._reader.read(stream_id)

    def follow(
        self, stream_id: UUID, after: int = 0, *, finished: bool = False
    ) -> AsyncGenerator[Sequence[Event], None]:
        return self._reader.follow(stream_id, after, finished=finished)

    async def claim(self, stream_id: UUID, owner: StreamOwner, *, detached: bool = False) -> SavedStream | None:
        return await self._reader.claim(stream_id, owner, detached=detached)

    async def raise_fence(self, stream_id: UUID, fence: int) -> None:
        await self._writer.raise_fence(stream_id, fence)

    async def flush(self, stream_id: UUID) -> None:
        await self._writer.flush(stream_id)

    async def release(self, stream_id: UUID) -> None:
        await self._writer.release(stream_id)

    async def followers(self, stream_id: UUID) -> tuple[int, int]:
        return await self._writer.followers(stream_id)

    async def cancel_elsewhere(self, stream_id: UUID) -> bool:
        return await self._reader.cancel_elsewhere(stream_id)
