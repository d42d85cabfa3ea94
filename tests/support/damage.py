"""Damage to what Valkey keeps of a stream, and streams to do it to."""

from uuid import UUID

from db.clock import new_id
from gateway.streams.events import Completed, Event, FinishReason, Started, TextDelta, TokenUsage
from gateway.streams.log import StreamOwner
from gateway.streams.shared import SharedStreamLog

GARBAGE = [b"", b"x", b"-1", b"1e999", b"nan", b"999999999999", b"99999999999999999999", b"[[]]", b"\xff\x00[", b"0"]

FIELDS = ["fence", "owner", "first", "last", "entries", "bytes", "usage", "request", "ended", "void", "shown", "w:x"]


def keys(stream_id: UUID) -> tuple[str, str]:
    return f"ollagraph:{{{stream_id}}}:events", f"ollagraph:{{{stream_id}}}:meta"


def said(first: int, last: int) -> list[Event]:
    return [TextDelta(number, "x", number - 2, 1) for number in range(first, last + 1)]


def end(sequence: int) -> Completed:
    return Completed(sequence, FinishReason.STOP, TokenUsage(3, sequence))


async def begun(log: SharedStreamLog, last: int) -> UUID:
    """A running stream, of which Valkey has everything, in batches of one."""
    stream_id = new_id()
    await log.open(stream_id, StreamOwner(1, request=b"request"))
    for event in [Started(1, 0), *said(2, last)]:
        await log.append(stream_id, [event])
        await log.flush(stream_id)
    return stream_id


async def read(log: SharedStreamLog, stream_id: UUID, after: int = 0, *, finished: bool = False) -> list[Event]:
    return [event async for batch in log.follow(stream_id, after, finished=finished) for event in batch]
