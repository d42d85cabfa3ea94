"""Files that callers send once and refer to in prompts, kept in the database in chunks.

::

    store ── pieces ── chunk, chunk, …   a transaction for each; the row has no hash, and nobody finds it
          ── the end ── hash             one transaction: the same bytes of the same user are found and kept instead
    use   ── a prompt refers to the id   its expiry moves on
          ── the model server is asked   the bytes are read, and held while it answers

What never came to its end is removed by whoever took it; what a killed process left, as everything that has expired, by
`purge`. Whatever is not the caller's own counts as not there.
"""

import hashlib
from base64 import b64encode
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from uuid import UUID

import anyio

from auth.principal import Principal
from backends.protocol import AudioPart, BlobPart, ChatRequest, FilePart, ImagePart, MediaKind, Message, Part
from db import queries
from db.clock import new_id, now
from db.engine import Database, DatabaseUnavailable, ReadSession, WriteSession
from db.tables import Blob, BlobChunk
from gateway.errors import (
    BlobQuotaExceeded,
    BlobTooLarge,
    DatabaseDown,
    InputIssues,
    InvalidInput,
    NotFound,
    UnknownMediaType,
)
from gateway.media import TAKEN, Sniffer, is_of

CHUNK_SIZE = 393_216
"""Bytes of a chunk, a multiple of 3: the base64 of the whole is that of the chunks, one behind the other."""

PENDING = timedelta(hours=1)
"""After how long without a further chunk a file that is still coming may be removed: its process is dead."""

DISCARD_SECONDS = 10

PURGED_AT_ONCE = 20

NOTED_USE = timedelta(minutes=1)
"""A use that would move the expiry by less than this is not written."""


@dataclass(frozen=True, slots=True)
class BlobLimits:
    """Whether blobs are stored at all, and how much: sizes in bytes, `retention` in seconds.

    `quota` is what one user may have stored, `request` what one prompt may refer to, and `memory` what is held at once
    for model servers that are being asked.
    """

    enabled: bool
    size: int
    quota: int
    request: int
    memory: int
    retention: float


class Blobs:
    """The blobs of all users."""

    def __init__(self, database: Database, limits: BlobLimits) -> None:
        self._database = database
        self._limits = limits
        self._memory = _Budget(limits.memory)

    async def store(
        self, principal: Principal, pieces: AsyncIterator[bytes], size: int | None = None
    ) -> tuple[Blob, bool]:
        """Store what the pieces are together, and tell whether it was new; `size` is how much is said to come.

        The same bytes again give the blob that is there, kept for as long as a new one. Raises NotFound where blobs
        are off, InvalidInput, UnknownMediaType, BlobTooLarge, BlobQuotaExceeded, and what the pieces raise: then
        nothing is left behind.
        """
        self._check_enabled()
        upload = _Upload(self._database, self._limits, principal.user_id)
        await upload.expect(size or 0)
        try:
            async for piece in pieces:
                await upload.take(piece)
            return await upload.finish()
        except BaseException:
            await upload.discard()
            raise

    async def get(self, principal: Principal, blob_id: UUID) -> Blob:
        """Give what is known of a blob of the caller's. Raises NotFound."""
        self._check_enabled()
        async with self._database.reading() as session:
            blob = await queries.blob.find(session, principal.user_id, blob_id, now())
        if blob is None:
            raise _unknown(blob_id)
        return blob

    async def read(self, blob: Blob) -> AsyncGenerator[bytes, None]:
        """Give its bytes chunk by chunk, no session open in between. Raises NotFound where it is removed meanwhile."""
        given, number = 0, 0
        while given < blob.size:
            async with self._database.reading() as session:
                data = await queries.blob.find_chunk(session, blob.id, number)
            if data is None:
                raise _unknown(blob.id)
            given, number = given + len(data), number + 1
            yield data

    async def remove(self, principal: Principal, blob_id: UUID) -> None:
        """Remove a blob of the caller's. Raises NotFound."""
        await self.get(principal, blob_id)
        async with self._database.transaction() as tx:
            if not await queries.blob.remove(tx, principal.user_id, blob_id):
                raise _unknown(blob_id)

    async def check(self, principal: Principal, references: Sequence[tuple[str, BlobPart]]) -> dict[UUID, Blob]:
        """Give the blobs that a prompt refers to, each with its path in the input. Raises InvalidInput."""
        if not references:
            return {}
        if not self._limits.enabled:
            raise InvalidInput(references[0][0], "this gateway stores no blobs (OLLAGRAPH_BLOBS): send base64.")
        async with self._database.reading() as session:
            ids = list({part.blob_id for _, part in references})
            found = await queries.blob.find_all(session, principal.user_id, ids, now())
        issues = InputIssues()
        for path, part in references:
            if part.blob_id not in found:
                issues.add(path, "there is no such blob, or it has expired. Send the file to POST /blobs again.")
            elif not is_of(part.kind, given := found[part.blob_id].content_type):
                issues.add(path, f"must be {TAKEN[part.kind]}, and this blob is {given}.")
        if (total := sum(blob.size for blob in found.values())) > self._most_for_request:
            issues.add(references[-1][0], _too_much(total, self._most_for_request))
        issues.check()
        return found

    async def note_use(self, tx: WriteSession, references: Iterable[tuple[str, BlobPart]]) -> None:
        """Keep what a prompt refers to for as long as what is new."""
        if ids := list({part.blob_id for _, part in references}):
            until = now() + timedelta(seconds=self._limits.retention)
            await queries.blob.keep_until(tx, ids, until, until - NOTED_USE)

    @asynccontextmanager
    async def filled(self, request: ChatRequest, user_id: UUID) -> AsyncGenerator[ChatRequest]:
        """Give the request with the bytes in the place of references; they count as held until the block ends.

        It waits until so much may be held. Raises NotFound where a blob was removed meanwhile, and DatabaseDown.
        """
        ids = list({part.blob_id for message in request.messages for part in _references(message)})
        if not ids:
            yield request
            return
        with _telling_outages():
            async with self._database.reading() as session:
                blobs = await queries.blob.find_all(session, user_id, ids, now())
        if missing := [blob_id for blob_id in ids if blob_id not in blobs]:
            raise _removed(missing[0])
        async with self._memory.holding(sum(blob.size for blob in blobs.values())):
            with _telling_outages():
                encoded = {blob.id: (await self._encoded(blob), blob.content_type) for blob in blobs.values()}
            yield replace(request, messages=[_filled(message, encoded) for message in request.messages])

    async def purge(self) -> None:
        """Remove what has expired or was never finished, a few at a time: others write meanwhile."""
        removed = PURGED_AT_ONCE
        while removed == PURGED_AT_ONCE:
            async with self._database.transaction() as tx:
                removed = await queries.blob.remove_expired(tx, now(), PURGED_AT_ONCE)

    @property
    def _most_for_request(self) -> int:
        return min(self._limits.request, self._limits.memory)

    def _check_enabled(self) -> None:
        if not self._limits.enabled:
            raise NotFound("This gateway stores no blobs (OLLAGRAPH_BLOBS).", "Blob", "")

    async def _encoded(self, blob: Blob) -> str:
        """Give the base64 of a blob, made chunk by chunk: at once it would hold everybody up."""
        size, pieces = 0, list[str]()
        async with self._database.reading() as session:
            async for data in queries.blob.chunks(session, blob.id):
                size += len(data)
                pieces.append(b64encode(data).decode())
        if size != blob.size:
            raise _removed(blob.id)
        return "".join(pieces)


class _Upload:
    """One file that is coming. Its row is made with the first chunk, and is found by nobody before it is whole."""

    def __init__(self, database: Database, limits: BlobLimits, user_id: UUID) -> None:
        self._database = database
        self._limits = limits
        self._id = new_id()
        self._user_id = user_id
        self._hash = hashlib.sha256()
        self._sniffer = Sniffer()
        self._buffer = bytearray()
        self._size = 0
        self._chunks = 0

    async def expect(self, size: int) -> None:
        """Refuse at once what is said to be too much. Raises BlobTooLarge and BlobQuotaExceeded."""
        self._check_size(size)
        async with self._database.reading() as session:
            await self._check_quota(session, size)

    async def take(self, piece: bytes) -> None:
        """Take the next piece. Raises BlobTooLarge and UnknownMediaType."""
        self._size += len(piece)
        self._check_size(self._size)
        self._hash.update(piece)
        self._sniffer.feed(piece)
        if self._sniffer.is_hopeless:
            raise UnknownMediaType
        self._buffer += piece
        while len(self._buffer) >= CHUNK_SIZE:
            data = bytes(self._buffer[:CHUNK_SIZE])
            del self._buffer[:CHUNK_SIZE]
            async with self._database.transaction() as tx:
                await self._write(tx, data)

    async def finish(self) -> tuple[Blob, bool]:
        """Make it whole, or give the blob with the same bytes and drop this one; tell whether it is new."""
        if not self._size:
            raise InvalidInput("body", "is empty: send the bytes of a file.")
        content_type = self._sniffer.result()
        if content_type is None:
            raise UnknownMediaType
        sha256 = self._hash.hexdigest()
        async with self._database.transaction() as tx:
            await queries.blob.lock_owner(tx, self._user_id)
            at = now()
            expires_at = at + timedelta(seconds=self._limits.retention)
            known = await queries.blob.find_hash(tx, self._user_id, sha256)
            if known is not None and known.expires_at > at:
                known.expires_at = max(known.expires_at, expires_at)
                await queries.blob.remove(tx, self._user_id, self._id)
                return known, False
            if known is not None:
                await queries.blob.remove(tx, self._user_id, known.id)
            await self._check_quota(tx, self._size)
            await self._write(tx, bytes(self._buffer))
            blob = await tx.get_one(Blob, self._id)
            blob.sha256, blob.content_type, blob.size = sha256, content_type, self._size
            blob.created_at, blob.expires_at = at, expires_at
        return blob, True

    async def discard(self) -> None:
        """Remove what is there of it. Where the database does not take that now, `purge` does it later."""
        if not self._chunks:
            return
        with anyio.move_on_after(DISCARD_SECONDS, shield=True), suppress(DatabaseUnavailable):
            async with self._database.transaction() as tx:
                await queries.blob.remove(tx, self._user_id, self._id)

    async def _write(self, tx: WriteSession, data: bytes) -> None:
        """Write a chunk, and with the first one the row; each one says that somebody is still at it."""
        expires_at = now() + PENDING
        if self._chunks:
            await queries.blob.keep_until(tx, [self._id], expires_at, expires_at)
        else:
            tx.add(Blob(id=self._id, user_id=self._user_id, content_type="", size=0, expires_at=expires_at))
            await tx.flush()
        if data:
            tx.add(BlobChunk(blob_id=self._id, number=self._chunks, data=data))
            await tx.flush()
        self._chunks += 1

    def _check_size(self, size: int) -> None:
        if size > self._limits.size:
            raise BlobTooLarge(self._limits.size)

    async def _check_quota(self, session: ReadSession, size: int) -> None:
        stored = await queries.blob.stored_bytes(session, self._user_id, now())
        if stored + size > self._limits.quota:
            raise BlobQuotaExceeded(self._limits.quota)


class _Budget:
    """So many bytes may be held at once; who wants more than are free waits, first come, first served."""

    def __init__(self, most: int) -> None:
        self._free = most
        self._turn = anyio.Lock()
        self._freed = anyio.Event()

    @asynccontextmanager
    async def holding(self, size: int) -> AsyncGenerator[None]:
        """Hold so many within the block; never more than there are in all."""
        async with self._turn:
            while self._free < size:
                await self._freed.wait()
            self._free -= size
        try:
            yield
        finally:
            self._free += size
            self._freed.set()
            self._freed = anyio.Event()


def _references(message: Message) -> list[BlobPart]:
    if isinstance(message.content, str):
        return []
    return [part for part in message.content if isinstance(part, BlobPart)]


def _filled(message: Message, encoded: Mapping[UUID, tuple[str, str]]) -> Message:
    if not _references(message):
        return message
    parts = [_part(part, *encoded[part.blob_id]) if isinstance(part, BlobPart) else part for part in message.content]
    return replace(message, content=parts)


def _part(reference: BlobPart, data: str, media_type: str) -> Part:
    match reference.kind:
        case MediaKind.IMAGE:
            return ImagePart(data)
        case MediaKind.AUDIO:
            return AudioPart(data, media_type)
        case MediaKind.FILE:
            return FilePart(data, media_type)


@contextmanager
def _telling_outages() -> Generator[None]:
    """Turn the error of the database into the gateway's own, with which a generation can end."""
    try:
        yield
    except DatabaseUnavailable as error:
        raise DatabaseDown from error


def _removed(blob_id: UUID) -> NotFound:
    return NotFound("A blob of the prompt was removed before the model was asked.", "Blob", blob_id)


def _unknown(blob_id: UUID) -> NotFound:
    return NotFound("You have no blob with this id, or it has expired.", "Blob", blob_id)


def _too_much(size: int, most: int) -> str:
    return f"the blobs of one prompt may have {most:,} bytes together (OLLAGRAPH_BLOB_MAX_REQUEST_SIZE), not {size:,}."
