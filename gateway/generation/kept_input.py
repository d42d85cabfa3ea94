"""What was asked for, as the database keeps it beside the answer, where the operator wants that.

The request is kept as it was made: the model by the name it was given, and not what one backend got. Its size in the
database is bounded. Texts, schemas and tool calls make one JSON document, compressed. Images stand beside it as bytes,
as many as there is room for; of the others only type, size and digest are kept.
"""

import binascii
import hashlib
import zlib
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from uuid import UUID

import orjson
from pydantic import TypeAdapter

from backends.protocol import (
    ImagePart,
    Options,
    OutputFormat,
    Part,
    Role,
    ThinkingLevel,
    Tool,
    ToolCall,
    ToolChoice,
)
from db import queries
from db.clock import now
from db.engine import ReadSession
from gateway.errors import GatewayError, TooMuchText
from gateway.generation.content import media_type, picture
from gateway.generation.request import GenerationRequest, Turn

MOST_BYTES = 4_000_000
"""Bytes of one request without its images. A larger one is not kept: a part of it would look like the whole."""

MOST_IMAGE_BYTES = 2_000_000
"""Bytes of the images of one request, each counted once however often it stands there."""

OBJECT_SIZE = 2_000
"""What a message, a part, a tool or a call counts in characters: showing one costs about as much as so much text."""


@dataclass(frozen=True, slots=True)
class KeptBlob:
    """Binary data in a message: its type, its size in bytes, and its SHA-256 in hexadecimal digits.

    `offset` is where it begins among the images that are kept; None where there was no room for it.
    """

    media_type: str
    size: int
    sha256: str
    offset: int | None = None


@dataclass(frozen=True, slots=True)
class KeptPart:
    """A part of a message: exactly one of these."""

    text: str | None = None
    image: KeptBlob | None = None


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
    """A request as the database keeps it; `images` is None where it has none."""

    request: bytes
    images: bytes | None


_INPUT = TypeAdapter(KeptInput)


def pack_input(request: GenerationRequest) -> PackedInput | None:
    """Give a request in the form of the database; None where it is too large. Takes milliseconds for each megabyte."""
    images = _Images()
    turns = [Turn("user", request.prompt)] if isinstance(request.prompt, str) else request.prompt
    messages = [_kept_message(turn, images) for turn in turns]
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
    return None if len(data) > MOST_BYTES else PackedInput(zlib.compress(data), bytes(images.data) or None)


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


async def read_images(session: ReadSession, ids: Sequence[UUID], most: int) -> list[bytes | GatewayError | None]:
    """Give the images sent with each of these generations, one behind the other; None where none are kept.

    No more is read once there are more than `most` bytes: the rest is TooMuchText.
    """
    found: dict[UUID, bytes] = {}
    async with aclosing(queries.transcript.images(session, ids, now())) as rows:
        async for generation_id, data in rows:
            found[generation_id] = data
            most -= len(data)
            if most < 0:
                break
    missing = TooMuchText() if most < 0 else None
    return [found.get(generation_id, missing) for generation_id in ids]


class _Images:
    """The images of one request, one behind the other, as far as there is room."""

    def __init__(self) -> None:
        self.data = bytearray()
        self._known: dict[str, KeptBlob] = {}

    def add(self, image: str) -> KeptBlob:
        """Take an image in base64, or in a data URL; one that is there already takes no room."""
        data = binascii.a2b_base64(picture(image))
        digest = hashlib.sha256(data).hexdigest()
        if (known := self._known.get(digest)) is not None:
            return known
        fits = len(self.data) + len(data) <= MOST_IMAGE_BYTES
        blob = KeptBlob(media_type(data) or "", len(data), digest, len(self.data) if fits else None)
        if fits:
            self.data += data
        self._known[digest] = blob
        return blob


def _kept_message(turn: Turn, images: _Images) -> KeptMessage:
    return KeptMessage(
        role=turn.role,
        text=turn.text,
        parts=None if turn.parts is None else [_kept_part(part, images) for part in turn.parts],
        tool_calls=turn.tool_calls,
        tool_call_id=turn.tool_call_id,
        tool_name=turn.tool_name,
        thinking=turn.thinking,
    )


def _kept_part(part: Part, images: _Images) -> KeptPart:
    return KeptPart(image=images.add(part.image)) if isinstance(part, ImagePart) else KeptPart(text=part.text)


def _decompressed(data: bytes) -> bytes:
    try:
        return zlib.decompress(data)
    except zlib.error as error:
        raise ValueError("this is no kept request") from error


def _decoded(data: bytes) -> KeptInput:
    return _INPUT.validate_python(orjson.loads(data))
