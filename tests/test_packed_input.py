"""A request in the form in which the database keeps it: bounded, and the same when it comes back."""

import base64
import zlib

import pytest

from gateway.generation import ImagePart, NamedTool, TextPart
from gateway.generation.record import MOST_BYTES, MOST_MEDIA_BYTES, pack_input, unpack_input
from gateway.generation.request import GenerationRequest, Options, OutputFormat, Tool, Turn


def test_a_request_that_is_too_large_is_not_kept_in_part():
    fits = GenerationRequest("m", prompt="x" * (MOST_BYTES - 2_000))
    packed = pack_input(fits)
    assert packed is not None
    assert unpack_input(packed.request).messages[0].text == fits.prompt
    assert pack_input(GenerationRequest("m", prompt="x" * MOST_BYTES)) is None


def test_an_image_that_there_is_no_room_for_is_told_by_its_digest():
    large, small = (b"\xff\xd8\xff" + bytes([number]) * size for number, size in ((1, MOST_MEDIA_BYTES), (2, 9)))
    encoded = [base64.b64encode(data).decode() for data in (small, large, small)]
    packed = pack_input(GenerationRequest("m", prompt=[Turn("user", parts=[ImagePart(image) for image in encoded])]))
    assert packed is not None
    assert packed.media == small
    parts = unpack_input(packed.request).messages[0].parts
    assert parts is not None
    images = [part.image for part in parts]
    assert all(image is not None for image in images)
    assert [(image.size, image.offset) for image in images if image] == [
        (len(small), 0),
        (len(large), None),
        (len(small), 0),
    ]


FORMS = [
    OutputFormat(json_object=True),
    OutputFormat(regex="a+"),
    OutputFormat(grammar='root ::= "a"'),
    OutputFormat(choice=["a", "b"]),
]


@pytest.mark.parametrize("form", FORMS)
def test_each_form_and_the_named_tool_come_back(form: OutputFormat):
    tools, choice = [Tool("look", "", {"type": "object"})], NamedTool("look")
    prompt = [Turn("user", parts=[TextPart("x")])]
    packed = pack_input(GenerationRequest("m", prompt=prompt, format=form, tools=tools, tool_choice=choice))
    assert packed is not None
    kept = unpack_input(packed.request)
    assert (kept.format, kept.tools, kept.tool_choice, packed.media) == (form, tools, choice, None)
    assert kept.options == Options(stop=kept.options.stop)


def test_a_field_that_a_newer_version_adds_is_passed_over():
    packed = pack_input(GenerationRequest("m", prompt="x"))
    assert packed is not None
    newer = zlib.decompress(packed.request).replace(b'{"model"', b'{"newer":1,"model"')
    assert unpack_input(zlib.compress(newer)) == unpack_input(packed.request)


@pytest.mark.parametrize("data", [b"", b"no zlib", zlib.compress(b"no JSON"), zlib.compress(b'{"model": 1}')])
def test_what_is_no_kept_request_is_told_as_such(data: bytes):
    with pytest.raises(ValueError, match=r"\w"):
        unpack_input(data)
