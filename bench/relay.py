"""The least that could stand in the gateway's place: the gateway's HTTP client, orjson and a WebSocket, nothing else.

No GraphQL, no credentials, no metering, no log. A message {"model": "..."} is answered with one frame for each
token and {"done": true}. Started as `python -m bench.relay PORT MODEL_SERVER_URL`.
"""

import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import httpx
import orjson
import uvicorn

from backends.wire import make_client


class Relay:
    """The ASGI app."""

    def __init__(self, url: str) -> None:
        self._client = make_client(url)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"ok"})
            return
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await self._answer(orjson.loads(message["text"])["model"], send)

    async def _answer(self, model: str, send: Any) -> None:
        body = {"model": model, "messages": [{"role": "user", "content": "Count."}], "stream": True}
        async with aclosing(await self._client.ask("POST", "/api/chat", orjson.dumps(body))) as response:
            async for line in _lines(response):
                value = orjson.loads(line)
                frame = {"done": True} if value["done"] else {"text": value["message"]["content"]}
                await send({"type": "websocket.send", "text": orjson.dumps(frame).decode()})


async def _lines(response: httpx.Response) -> AsyncGenerator[bytes]:
    rest = b""
    async for data in response.aiter_raw():
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            yield line


if __name__ == "__main__":
    uvicorn.run(
        Relay(sys.argv[2]),
        host="127.0.0.1",
        port=int(sys.argv[1]),
        lifespan="off",
        log_level="warning",
        access_log=False,
        ws="websockets-sansio",
        ws_per_message_deflate=False,
    )
