"""What operations leave to garbage collection: nothing of ours and of GraphQL's.

What refers to itself in a circle stays until it is searched for, which stops a loaded gateway for a tenth of a second.
"""

import gc
import inspect
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CoroutineType, FrameType, FunctionType, MethodType

import pytest

import server
from tests.support.gateways import GraphQLErrors, RunningGateway, Socket
from tests.support.generations import CANCEL, COMPLETE, GENERATE, START, WATCH, asking
from tests.support.http_streams import EVENT_STREAM, MULTIPART, http_stream


@pytest.fixture
def gateway(emptied_gateway: RunningGateway) -> RunningGateway:
    """One for all tests here, emptied before each of them."""
    return emptied_gateway


ROOT = Path(server.__file__).parents[1]
PACKAGES = {it.parent.name for it in ROOT.glob("*/__init__.py")} - {"tests"} | {
    "aiodataloader",
    "graphql",
    "httptools",
    "starlette",
    "strawberry",
    "uvicorn",
}
TIMES = 10
"""Of each kind: what one leaves once, as the first of its kind, or of a connection, is no part of it."""


def _code(it: object) -> str:
    """Name what is made by code of these packages, or is of one of their classes."""
    if isinstance(it, MethodType):
        it = it.__func__
    if isinstance(it, FunctionType):
        return f"{it.__module__}.{it.__qualname__}"
    if isinstance(it, CoroutineType):
        return f"{getattr(inspect.getmodule(it.cr_code), '__name__', '')}.{it.__qualname__}"
    if isinstance(it, FrameType):
        return f"{it.f_globals.get('__name__')}.{it.f_code.co_qualname}"
    return f"{type(it).__module__}.{type(it).__qualname__}"


@contextmanager
def left() -> Iterator[Counter[str]]:
    """Tell what the block leaves that belongs to one of the packages, by its name."""
    found: Counter[str] = Counter()
    gc.collect()
    gc.freeze()  # what is there by now needs no second look
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        yield found
        gc.collect()
        found.update(name for name in map(_code, gc.garbage) if name.partition(".")[0] in PACKAGES)
    finally:
        gc.set_debug(0)
        gc.garbage.clear()


Kind = Callable[[RunningGateway, Socket], Awaitable[None]]


def answered(query: str) -> Kind:
    async def ask(gateway: RunningGateway, _: Socket) -> None:
        await gateway.run(query)

    return ask


def streamed(accept: str) -> Kind:
    async def ask(gateway: RunningGateway, _: Socket) -> None:
        async with http_stream(gateway, accept, GENERATE, asking("fake:count-5")) as stream:
            assert [event async for event in stream.events()][-1]["__typename"] == "GenerationCompleted"

    return ask


async def fail(gateway: RunningGateway, _: Socket) -> None:
    with pytest.raises(GraphQLErrors, match="not an id"):
        await gateway.run('{ node(id: "x") { id } }')


async def sign_in(gateway: RunningGateway, _: Socket) -> None:
    await gateway.sign_in()


async def generate(gateway: RunningGateway, _: Socket) -> None:
    result = await gateway.run(COMPLETE, asking("fake:count-5"))
    assert result["generate"]["__typename"] == "GenerateSuccess"


async def stream_by_socket(_: RunningGateway, socket: Socket) -> None:
    await socket.subscribe(GENERATE, asking("fake:count-5"))
    assert [event async for event in socket.events()][-1]["__typename"] == "GenerationCompleted"


async def refuse(_: RunningGateway, socket: Socket) -> None:
    await socket.subscribe(GENERATE, asking("fake:missing"))
    assert [event async for event in socket.events()][-1]["__typename"] == "GenerationRefused"


async def cancel_and_watch(gateway: RunningGateway, socket: Socket) -> None:
    begun = await gateway.run(START, asking("fake:hold-3", onDisconnect="CONTINUE"))
    id = begun["startGeneration"]["generation"]["id"]
    await gateway.run(CANCEL, {"id": id})
    await socket.subscribe(WATCH, {"id": id})
    assert [event async for event in socket.events()][-1]["__typename"] == "GenerationCancelled"


async def connect(gateway: RunningGateway, _: Socket) -> None:
    async with gateway.connect() as socket:
        await stream_by_socket(gateway, socket)


KINDS: dict[str, Kind] = {
    "query": answered("{ me { username } }"),
    "models": answered("{ models { name } }"),
    "lists": answered("{ me { apiKeys { name } } generations(first: 5) { nodes { id } } }"),
    "usage": answered("{ usage { totals { generations } } }"),
    "introspection": answered("{ __schema { types { name fields { name } } } }"),
    "mutation": answered('mutation { createApiKey(input: {name: "a"}) { __typename } }'),
    "error": fail,
    "sign-in": sign_in,
    "answer": generate,
    "events": streamed(EVENT_STREAM),
    "parts": streamed(MULTIPART),
    "socket": stream_by_socket,
    "refused": refuse,
    "watched": cancel_and_watch,
    "connection": connect,
}


@pytest.mark.parametrize("kind", KINDS)
async def test_operations_leave_nothing_to_garbage_collection(gateway: RunningGateway, kind: str):
    async with gateway.connect() as socket:
        for _ in range(3):
            await KINDS[kind](gateway, socket)
        with left() as found:
            for _ in range(TIMES):
                await KINDS[kind](gateway, socket)
    assert {name: count / TIMES for name, count in found.items() if count >= TIMES} == {}
