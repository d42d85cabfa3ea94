"""A TCP proxy that can cut every connection through it at once, as a failing network does."""

import asyncio
import socket
import struct
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio


class CutProxy:
    """Forwards bytes both ways between its clients and one port of this machine."""

    def __init__(self, port: int) -> None:
        self.port = 0
        """Where it listens."""
        self._target = port
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._connected = anyio.Event()

    async def connection(self) -> None:
        """Wait until a client has connected since the last cut."""
        await self._connected.wait()

    def cut(self) -> None:
        """Reset all connections, on both sides. Bytes on their way are lost; new connections are welcome."""
        self._connected = anyio.Event()
        for writer in self._open:
            # Lingering for 0 seconds is what turns a close into a reset.
            found = writer.get_extra_info("socket")  # None when it has closed by itself
            if found is not None and found.fileno() >= 0:
                with socket.socket(fileno=socket.dup(found.fileno())) as same:
                    same.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        self._open.clear()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection until either side ends it."""
        if task := asyncio.current_task():
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        pair = {writer, far_writer}
        self._open |= pair
        self._connected.set()
        await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))
        self._open -= pair

    async def end(self) -> None:
        """Cut what is left, and return when nothing runs any more."""
        self.cut()
        await asyncio.gather(*self._tasks)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass  # the other direction ends as well, for its transport is closed here
    finally:
        writer.close()


@asynccontextmanager
async def cut_proxy(port: int) -> AsyncGenerator[CutProxy]:
    """Run a proxy before a port of this machine, on a free port of its own."""
    proxy = CutProxy(port)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        await proxy.end()
        await server.wait_closed()
