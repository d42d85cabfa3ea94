"""Files are known by their bytes, whatever they are called."""

import pytest

from backends.protocol import MediaKind
from gateway.media import Sniffer, binary_type, is_of, media_type

FILES = {
    "image/png": b"\x89PNG\r\n\x1a\n" + b"\0" * 8,
    "image/jpeg": b"\xff\xd8\xff\xe0" + b"\0" * 12,
    "image/gif": b"GIF89a" + b"\0" * 10,
    "image/webp": b"RIFF\x24\0\0\0WEBPVP8 ",
    "image/bmp": b"BM\x46\0\0\0" + b"\0" * 10,
    "image/tiff": b"MM\0*" + b"\0" * 12,
    "image/avif": b"\0\0\0\x20ftypavif\0\0\0\0",
    "audio/wav": b"RIFF\x24\0\0\0WAVEfmt ",
    "audio/mpeg": b"\xff\xfb\x90\x64" + b"\0" * 12,
    "audio/ogg": b"OggS\0\x02" + b"\0" * 10,
    "audio/flac": b"fLaC\0\0\0\x22" + b"\0" * 8,
    "application/pdf": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1",
    "text/plain": "Grüße \N{SNOWMAN}\r\n\tfrom the north".encode(),
}
NONE_OF_THEM = [
    b"",
    b"\0" * 40,
    b"MZ\x90\0\x03\0\0\0\x04\0\0\0\xff\xff\0\0",
    b"PK\x03\x04\x14\0\x06\0\x08\0\0\0!\0\0\0",
    b"RIFF\x24\0\0\0AVI LIST",
    b"\xff\xf1\x50\x80" + b"\0" * 12,  # AAC
    b"\xff\xfeh\0e\0l\0l\0o\0 \0w\0o\0",  # text, but in UTF-16
    "Grüße aus dem Norden".encode("latin-1"),
    b"half a character \xe2\x98",
    b"a NUL \0 in a text that is long",
]
LOOK_ALIKES = [b"BMW makes cars, as everybody knows.", b"ID3 tags stand before MP3 files.", b"fLaC is spelt so by few."]


@pytest.mark.parametrize("kind", FILES)
def test_a_file_is_known_by_its_bytes(kind: str):
    assert media_type(FILES[kind]) == kind


@pytest.mark.parametrize("kind", FILES)
def test_a_file_that_comes_byte_by_byte_is_known_too(kind: str):
    sniffer = Sniffer()
    for byte in FILES[kind]:
        sniffer.feed(bytes([byte]))
        assert not sniffer.is_hopeless
    assert sniffer.result() == kind


@pytest.mark.parametrize("data", NONE_OF_THEM[1:])
def test_what_is_none_of_them_is_refused(data: bytes):
    assert media_type(data) is None


@pytest.mark.parametrize("data", LOOK_ALIKES)
def test_text_that_begins_like_a_file_of_another_type_is_text(data: bytes):
    assert (binary_type(data), media_type(data)) == (None, "text/plain")


def test_what_can_become_nothing_is_known_early():
    sniffer = Sniffer()
    sniffer.feed(NONE_OF_THEM[2])
    assert sniffer.is_hopeless


def test_each_type_fits_one_kind_of_part():
    assert {kind: [each for each in MediaKind if is_of(each, kind)] for kind in FILES} == {
        kind: [MediaKind(kind.partition("/")[0])] if kind[:5] in {"image", "audio"} else [MediaKind.FILE]
        for kind in FILES
    }
