"""Reading streams over HTTP in tests, as it stands in their protocols, byte by byte."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx
import orjson

from tests.support.gateways import Json, RunningGateway

EVENT_STREAM = "text/event-stream"
MULTIPART = 'multipart/mixed;boundary="graphql";subscriptionSpec=1.0,application/json'
"""What Apollo Client sends."""

DELIMITER = b"\r\n--graphql"


def posted(gateway: RunningGateway, accept: str, query: str, variables: Json) -> bytes:
    """A request as it goes over the wire, for clients that misuse their connection."""
    body = orjson.dumps({"query": query, "variables": variables})
    head = (
        f"POST /graphql HTTP/1.1\r\nHost: {urlsplit(gateway.url).netloc}\r\nAuthorization: Bearer {gateway.token}\r\n"
        f"Accept: {accept}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


@dataclass
class HttpStreamReader:
    """A stream that is open: its response, and its blocks as they come."""

    response: httpx.Response
    blocks: AsyncIterator[Json]

    async def events(self) -> AsyncIterator[Json]:
        """The events (the value of the one root field of each) to the end."""
        async for block in self.blocks:
            if "payload" in block:
                yield next(iter(block["payload"]["data"].values()))


async def _parts(response: httpx.Response) -> AsyncGenerator[Json]:
    buffer = b""
    async for data in response.aiter_raw():
        buffer += data
        *whole, buffer = buffer.split(DELIMITER)
        for block in whole:
            yield multipart_block(block)
    assert buffer == b"--\r\n"


async def _sse(response: httpx.Response) -> AsyncGenerator[Json]:
    buffer = b""
    async for data in response.aiter_raw():
        buffer += data
        while buffer:
            if buffer.startswith(b":\n"):  # a comment is a line of its own, and no event
                buffer = buffer.removeprefix(b":\n")
                yield {"heartbeat": True}
                continue
            block, end, rest = buffer.partition(b"\n\n")
            if not end:
                break
            buffer = rest
            yield sse_block(block)
    assert buffer == b""


def sse_block(block: bytes) -> Json:
    """An event with a response in it, or the end."""
    event, *number, data = block.split(b"\n")
    if event == b"event: complete" and data == b"data: {}":
        return {"complete": True}
    assert event == b"event: next"
    assert data.startswith(b"data: ")
    read: Json = {"payload": orjson.loads(data.removeprefix(b"data: "))}
    if number:
        read["id"] = int(number[0].removeprefix(b"id: "))
    return read


def multipart_block(block: bytes) -> Json:
    """A heartbeat, a response, or the end. The first delimiter comes behind nothing."""
    if block == b"":
        return {"heartbeat": True}
    head, _, body = block.removeprefix(b"\r\n").partition(b"\r\n\r\n")
    assert head == b"content-type: application/json"
    part = orjson.loads(body)
    if part == {"payload": None}:
        return {"complete": True}
    return part or {"heartbeat": True}


@asynccontextmanager
async def http_stream(
    gateway: RunningGateway, accept: str, query: str, variables: Json | None = None, **headers: str
) -> AsyncGenerator[HttpStreamReader]:
    """Open a stream over HTTP; leaving the block closes the connection."""
    async with (
        httpx.AsyncClient(base_url=gateway.url, timeout=30, verify=False) as client,
        client.stream(
            "POST",
            "/graphql",
            json={"query": query, "variables": variables or {}},
            headers={"Accept": accept, **gateway.headers(), **headers},
        ) as response,
    ):
        multipart = response.headers["content-type"].startswith("multipart/mixed")
        blocks = (
            _parts(response) if multipart else _sse(response)
        )  # a name: without one it would end, and the stream too
        yield HttpStreamReader(response, blocks)
