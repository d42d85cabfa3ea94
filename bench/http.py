"""An HTTP client that costs next to nothing, so that the load generator takes little from what it measures."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import orjson


class HttpError(Exception):
    """The answer was not a 200."""


class Connection:
    """One kept connection to one server on this machine. It knows POST with JSON, and nothing of errors."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, headers: Mapping[str, str]
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._host = host
        self._headers = "".join(f"{name}: {value}\r\n" for name, value in headers.items())

    async def post(self, path: str, body: object) -> bytes:
        """The whole body of an answer that tells its length."""
        length = await self._ask(path, body)
        return await self._reader.readexactly(length)

    async def lines(self, path: str, body: object) -> AsyncGenerator[bytes]:
        """The lines of a chunked answer, the chunks' own lengths among them, as they come."""
        await self._ask(path, body)
        while (line := await self._reader.readline()) != b"0\r\n":
            if not line:
                raise HttpError("the answer broke off")
            yield line
        await self._reader.readline()

    async def _ask(self, path: str, body: object) -> int:
        data = orjson.dumps(body)
        head = f"POST {path} HTTP/1.1\r\nHost: {self._host}\r\nContent-Type: application/json\r\n{self._headers}"
        self._writer.write(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
        status = await self._reader.readline()
        length = 0
        while (line := await self._reader.readline()) not in {b"\r\n", b""}:
            if line.lower().startswith(b"content-length:"):
                length = int(line[15:])
        if b" 200 " not in status:
            raise HttpError(f"{status.decode().strip()}: {(await self._reader.read(300)).decode()}")
        return length


@asynccontextmanager
async def connected(url: str, headers: Mapping[str, str] | None = None) -> AsyncGenerator[Connection]:
    """Connect, and hang up after the block."""
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    try:
        yield Connection(reader, writer, address.netloc, headers or {})
    finally:
        writer.close()
