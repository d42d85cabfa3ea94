"""What was asked for, as the database keeps it beside the answer, where the operator wants that.

The request is kept as it was made: the model by the name it was given, and not what one backend got. Its size in the
database is bounded. Texts, schemas and tool calls make one JSON document, compressed. Media in base64 stand beside it
as bytes, as many as there is room for; of the others only type, size and digest are kept. A blob is named by its id:
its bytes are kept once, and for a time of their own.
"""

import binascii
import hashlib
import zlib
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from uuid import UUID

import orjson
from pydantic import TypeAdapter

from backends.protocol import (
    AudioPart,
    BlobPart,
    FilePart,
    ImagePart,
    MediaKind,
    Options,
    OutputFormat,
    Part,
    Role,
    TextPart,
    ThinkingLevel,
    Tool,
    ToolCall,
    ToolChoice,
)
from db import queries
from db.clock import now
from db.engine import ReadSession
from db.tables import Blob
from gateway.errors import GatewayError, TooMuchText
from gateway.generation.content import bare_base64
from gateway.generation.request import GenerationRequest, Turn
from gateway.media import media_type

MOST_BYTES = 4_000_000
"""Bytes of one request without its media. A larger one is not kept: a part of it would look like the whole."""

MOST_MEDIA_BYTES = 2_000_000
"""Bytes of the media of one request, each counted once however often it stands there."""

OBJECT_SIZE = 2_000
"""What a message, a part, a tool or a call counts in characters: showing one costs about as much as so much text."""


@dataclass(frozen=True, slots=True)
class KeptBlob:
    """Binary data in a message: its type, its size in bytes, and its SHA-256 in hexadecimal digits.

    `offset` is where it begins among the media that are kept; None where there was no room for it, and for a blob.
    """

    media_type: str
    size: int
    sha256: str
    offset: int | None = None
    blob_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class KeptPart:
    """A part of a message: exactly one of these."""

    text: str | None = None
    image: KeptBlob | None = None
    audio: KeptBlob | None = None
    file: KeptBlob | None = None


@dataclass(frozen=True, slots=True)
class KeptMessage:
    """A message with a text or with parts, as it was sent."""

    role: Role
    text: str | None = None
    parts: Sequence[KeptPart] | None = None
    tool_calls: Sequence[ToolCall] = ()
    tool_call_id: str | None = None
    tool_name: str | None = None
    thinking: str | None = None


@dataclass(frozen=True, slots=True)
class KeptInput:
    """One request: `model` as it was named, `messages` in the order sent, with the system's instructions first."""

    model: str
    messages: Sequence[KeptMessage]
    options: Options = field(default_factory=Options)
    format: OutputFormat | None = None
    tools: Sequence[Tool] = ()
    tool_choice: ToolChoice | None = None
    thinking: ThinkingLevel | None = None

    @property
    def objects(self) -> int:
        """How many messages, parts, tool calls and tools it holds."""
        inside = sum(len(message.parts or ()) + len(message.tool_calls) for message in self.messages)
        return len(self.messages) + inside + len(self.tools)


@dataclass(frozen=True, slots=True)
class PackedInput:
    """A request as the database keeps it; `media` is None where it has none."""

    request: bytes
    media: bytes | None


_INPUT = TypeAdapter(KeptInput)


def pack_input(request: GenerationRequest, blobs: Mapping[UUID, Blob] | None = None) -> PackedInput | None:
    """Give a request in the form of the database; None where it is too large. Takes milliseconds for each megabyte.

    `blobs` are those that it refers to.
    """
    media = _Media(blobs or {})
    turns = [Turn("user", request.prompt)] if isinstance(request.prompt, str) else request.prompt
    messages = [_kept_message(turn, media) for turn in turns]
    if request.system:
        messages.insert(0, KeptMessage("system", request.system))
    data = orjson.dumps(
        KeptInput(
            model=request.model,
            messages=messages,
            options=request.options,
            format=request.format,
            tools=request.tools,
            tool_choice=request.tool_choice,
            thinking=request.thinking,
        )
    )
    return None if len(data) > MOST_BYTES else PackedInput(zlib.compress(data), bytes(media.data) or None)


def unpack_input(data: bytes) -> KeptInput:
    """Give the request again. Raises ValueError for what `pack_input` did not make."""
    return _decoded(_decompressed(data))


async def read_inputs(session: ReadSession, ids: Sequence[UUID], most: int) -> list[KeptInput | GatewayError | None]:
    """Give what each of these generations was asked, in the order of the ids; None where it is not kept.

    No more is read once there are more than `most` characters, with OBJECT_SIZE for each object: the rest is
    TooMuchText.
    """
    found: dict[UUID, KeptInput] = {}
    async with aclosing(queries.transcript.requests(session, ids, now())) as rows:
        async for generation_id, data in rows:
            text = _decompressed(data)
            found[generation_id] = kept = _decoded(text)
            most -= len(text) + OBJECT_SIZE * kept.objects
            if most < 0:
                break
    missing = TooMuchText() if most < 0 else None
    return [found.get(generation_id, missing) for generation_id in ids]


async def read_media(session: ReadSession, ids: Sequence[UUID], most: int) -> list[bytes | GatewayError | None]:
    """Give the media sent with each of these generations, one behind the other; None where none are kept.

    No more is read once there are more than `most` bytes: the rest is TooMuchText.
    """
    found: dict[UUID, bytes] = {}
    async with aclosing(queries.transcript.media(session, ids, now())) as rows:
        async for generation_id, data in rows:
            found[generation_id] = data
            most -= len(data)
            if most < 0:
                break
    missing = TooMuchText() if most < 0 else None
    return [found.get(generation_id, missing) for generation_id in ids]


class _Media:
    """The media of one request, one behind the other, as far as there is room."""

    def __init__(self, blobs: Mapping[UUID, Blob]) -> None:
        self.data = bytearray()
        self._blobs = blobs
        self._known: dict[str, KeptBlob] = {}

    def part(self, part: Part) -> KeptPart:
        """Take a part of a message."""
        match part:
            case TextPart():
                return KeptPart(text=part.text)
            case ImagePart():
                return KeptPart(image=self._add(part.image))
            case AudioPart():
                return KeptPart(audio=self._add(part.audio))
            case FilePart():
                return KeptPart(file=self._add(part.file))
            case BlobPart():
                return self._named(part)

    def _add(self, encoded: str) -> KeptBlob:
        """Take what is in base64, or in a data URL; what is there already takes no room."""
        data = binascii.a2b_base64(bare_base64(encoded))
        digest = hashlib.sha256(data).hexdigest()
        if (known := self._known.get(digest)) is not None:
            return known
        fits = len(self.data) + len(data) <= MOST_MEDIA_BYTES
        kept = KeptBlob(media_type(data) or "", len(data), digest, len(self.data) if fits else None)
        if fits:
            self.data += data
        self._known[digest] = kept
        return kept

    def _named(self, part: BlobPart) -> KeptPart:
        blob = self._blobs[part.blob_id]
        kept = KeptBlob(blob.content_type, blob.size, blob.sha256 or "", blob_id=part.blob_id)
        match part.kind:
            case MediaKind.IMAGE:
                return KeptPart(image=kept)
            case MediaKind.AUDIO:
                return KeptPart(audio=kept)
            case MediaKind.FILE:
                return KeptPart(file=kept)


def _kept_message(turn: Turn, media: _Media) -> KeptMessage:
    return KeptMessage(
        role=turn.role,
        text=turn.text,
        parts=None if turn.parts is None else [media.part(part) for part in turn.parts],
        tool_calls=turn.tool_calls,
        tool_call_id=turn.tool_call_id,
        tool_name=turn.tool_name,
        thinking=turn.thinking,
    )


def _decompressed(data: bytes) -> bytes:
    try:
        return zlib.decompress(data)
    except zlib.error as error:
        raise ValueError("this is no kept request") from error


def _decoded(data: bytes) -> KeptInput:
    return _INPUT.validate_python(orjson.loads(data))
