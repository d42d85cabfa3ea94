"""Frames that the gateway makes itself are those that websockets makes."""

import pytest
from websockets.frames import Frame, Opcode

from server.transports.uvicorn_protocol import _text_frame


@pytest.mark.parametrize("length", [0, 1, 125, 126, 127, 65_535, 65_536, 200_000])
def test_a_text_is_framed_as_websockets_frames_it(length: int):
    text = ("ä" * length).encode()[:length]
    assert _text_frame(text) == Frame(Opcode.TEXT, text).serialize(mask=False)
