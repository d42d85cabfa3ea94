"""What bytes are, told by the bytes themselves: the types of pictures, sounds and documents that models take.

A table of our own: the libraries for this know hundreds of types by guesses of different strength, and what counts
here is that the few that are taken are told surely, also from the first piece of a file that is still coming.
"""

import codecs

from backends.protocol import MediaKind

HEAD_SIZE = 16
"""As many bytes as tell a type, where it is none of text."""

TEXT = "text/plain"

_STARTS = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF87a": "image/gif",
    b"GIF89a": "image/gif",
    b"II*\0": "image/tiff",
    b"MM\0*": "image/tiff",
    b"%PDF-": "application/pdf",
    b"OggS\0": "audio/ogg",
    b"fLaC\0": "audio/flac",
    b"fLaC\x80": "audio/flac",
    **{b"ID3" + bytes([version]): "audio/mpeg" for version in (2, 3, 4)},
}

_RIFF = {b"WEBP": "image/webp", b"WAVE": "audio/wav"}

_EXTENSIONS = {
    "image/png": "png",
    "image/jpeg": "jpg",
    "image/gif": "gif",
    "image/webp": "webp",
    "image/bmp": "bmp",
    "image/tiff": "tiff",
    "image/avif": "avif",
    "audio/wav": "wav",
    "audio/mpeg": "mp3",
    "audio/ogg": "ogg",
    "audio/flac": "flac",
    "application/pdf": "pdf",
    TEXT: "txt",
}

TAKEN = {
    MediaKind.IMAGE: "PNG, JPEG, GIF, WebP, BMP, TIFF or AVIF",
    MediaKind.AUDIO: "WAV, MP3, Ogg or FLAC",
    MediaKind.FILE: "PDF, or text in UTF-8",
}
"""What each kind of part may hold, for people."""

_NO_TEXT = bytes(set(range(32)) - {*b"\t\n\v\f\r\x1b"}) + b"\x7f"


def binary_type(head: bytes) -> str | None:
    """Give the media type of a file that is no text, by its first HEAD_SIZE bytes; None for all that is not taken."""
    if head[:4] == b"RIFF":
        return _RIFF.get(head[8:12])
    if head[4:12] in {b"ftypavif", b"ftypavis"}:
        return "image/avif"
    if head[:2] == b"BM" and head[6:10] == b"\0\0\0\0":
        return "image/bmp"
    if _is_mpeg_frame(head):
        return "audio/mpeg"
    return next((kind for start, kind in _STARTS.items() if head.startswith(start)), None)


def media_type(data: bytes) -> str | None:
    """Give the media type of a whole file; None for what is not taken."""
    sniffer = Sniffer()
    sniffer.feed(data)
    return sniffer.result()


def is_of(kind: MediaKind, media_type: str) -> bool:
    """Tell whether a part of this kind may hold this type."""
    if kind is MediaKind.FILE:
        return media_type in {"application/pdf", TEXT}
    return media_type.startswith(f"{kind}/")


def extension(media_type: str) -> str:
    """Give how names of files of a type end, without the dot."""
    return _EXTENSIONS[media_type]


class Sniffer:
    """Tells the type of a file that comes in pieces. Only of text all bytes are looked at."""

    def __init__(self) -> None:
        self._head = b""
        self._text: codecs.IncrementalDecoder | None = codecs.getincrementaldecoder("utf-8")()

    def feed(self, data: bytes) -> None:
        """Take the next piece."""
        if len(self._head) < HEAD_SIZE:
            self._head += data[: HEAD_SIZE - len(self._head)]
        if self._text is not None and not self._is_text(data):
            self._text = None

    @property
    def is_hopeless(self) -> bool:
        """Whether it will be no type that is taken, whatever still comes."""
        return self._text is None and len(self._head) == HEAD_SIZE and binary_type(self._head) is None

    def result(self) -> str | None:
        """Give the type of the whole file."""
        if found := binary_type(self._head):
            return found
        return TEXT if self._text is not None and self._is_text(b"", end=True) else None

    def _is_text(self, data: bytes, *, end: bool = False) -> bool:
        assert self._text is not None  # noqa: S101
        try:
            self._text.decode(data, end)
        except UnicodeDecodeError:
            return False
        return len(data.translate(None, _NO_TEXT)) == len(data)


def _is_mpeg_frame(head: bytes) -> bool:
    """Tell whether this is the header of a frame of MPEG audio, layer III: MP3 without tags before it."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE6 != 0xE2:
        return False
    return head[1] & 0x18 != 0x08 and head[2] & 0xF0 not in {0x00, 0xF0} and head[2] & 0x0C != 0x0C
