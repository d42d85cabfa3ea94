"""Answers of the fake model server byte by byte, for what no protocol foresees."""

import asyncio
import socket
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import anyio
from anyio.lowlevel import checkpoint

from server.fake_model_server.scripts import Ending


@dataclass(frozen=True)
class Raw:
    """An answer byte by byte: each of `writes` by itself, as one server or another sends them.

    `ending` is what becomes of the connection: FINISH closes the body, CUT resets, and HOLD does neither, with
    `heartbeat` sent all the time where there is one.
    """

    writes: Sequence[bytes]
    ending: Ending = Ending.FINISH
    content_type: str | None = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    heartbeat: bytes = b""


async def write_raw(answer: Raw, content_type: bytes, released: anyio.Event, send: Any) -> None:
    """Play an answer; `content_type` is what the protocol has usually."""
    kind = answer.content_type or content_type.decode()
    headers = [(name.encode(), value.encode()) for name, value in {"content-type": kind, **answer.headers}.items()]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    for data in answer.writes:
        await send({"type": "http.response.body", "body": data, "more_body": True})
    while answer.ending is Ending.HOLD:
        with anyio.move_on_after(0.05 if answer.heartbeat else None):
            await released.wait()
            break
        await send({"type": "http.response.body", "body": answer.heartbeat, "more_body": True})
    if answer.ending is Ending.CUT:
        await reset(send.__self__.transport)
    else:
        await send({"type": "http.response.body"})


async def reset(transport: asyncio.Transport) -> None:
    """End a connection with a TCP reset, behind all that was written."""
    while transport.get_write_buffer_size():
        await checkpoint()
    # Lingering for 0 seconds is what turns a close into a reset.
    with socket.socket(fileno=socket.dup(transport.get_extra_info("socket").fileno())) as same:
        same.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
