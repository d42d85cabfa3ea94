"""Operations that are cancelled at any moment: nothing that was made for them is left without having been run."""

import asyncio
import gc
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, contextmanager
from typing import Any, cast

import anyio
import pytest
import strawberry

from gateway.limits import LimitsTold
from gateway.server_info import IntrospectionAccess
from schema.context import Context
from server.execution import document_limits
from server.graphql import Executor, GraphQLRequest, PersistedDocuments, TrustedDocuments, VariableLimits
from server.settings import Settings

MOST_STEPS = 100
"""Turns of the event loop, more than an operation here takes."""


@strawberry.type
class Thing:
    """What takes a turn of the event loop to get, each field for itself."""

    depth: int

    @strawberry.field
    async def name(self) -> str:
        await asyncio.sleep(0)
        return "thing"

    @strawberry.field
    async def things(self) -> list["Thing"]:
        await asyncio.sleep(0)
        return [Thing(depth=self.depth + 1), Thing(depth=self.depth + 1)]

    @strawberry.field
    async def broken(self) -> "Thing":
        await asyncio.sleep(0)
        raise ValueError


@strawberry.type
class Query:
    @strawberry.field
    async def thing(self) -> Thing:
        return Thing(depth=0)


@strawberry.type
class Subscription:
    @strawberry.subscription
    async def watch(self) -> AsyncIterator[Thing]:
        for depth in range(3):
            await asyncio.sleep(0)
            yield Thing(depth=depth)


class Nobody:
    """A context. No resolver here looks at it."""

    request_id = "test"
    limits_told = LimitsTold()


CONTEXT = cast("Context", Nobody())

THING = "{ depth name things { name broken { name } things { name } } other: things { name } }"


@pytest.fixture(scope="module")
def executor() -> Executor:
    settings = Settings(_env_file=None)  # pyright: ignore[reportCallIssue]
    return Executor(
        strawberry.Schema(Query, subscription=Subscription),
        document_limits(settings),
        PersistedDocuments(TrustedDocuments(), automatic=False),
        query_timeout=60,
        introspection=IntrospectionAccess.EVERYBODY,
        suggestions=True,
        debug=False,
        variable_limits=VariableLimits(settings.max_list_length, settings.max_variable_values),
    )


@contextmanager
def nothing_unraisable() -> Iterator[None]:
    """Within the block nothing may fail where nobody can catch it, as of a coroutine that was never awaited."""
    seen: list[object] = []
    usual, sys.unraisablehook = sys.unraisablehook, lambda args: seen.append(args.exc_value)
    try:
        yield
        gc.collect()
    finally:
        sys.unraisablehook = usual
    assert seen == []


async def run(executor: Executor, text: str, answers: list[Any]) -> None:
    """Run an operation to its end, and keep what it answers."""
    operation = executor.prepare(GraphQLRequest(text), None)
    if not text.startswith("subscription"):
        answers.append(await executor.execute(operation, CONTEXT))
        return
    stream = await executor.subscribe(operation, CONTEXT)
    assert isinstance(stream, AsyncGenerator)
    async with aclosing(stream):
        answers.append([response async for response in stream])


@pytest.mark.parametrize("text", [f"{{ a: thing {THING} b: thing {THING} }}", f"subscription {{ watch {THING} }}"])
async def test_no_coroutine_is_left_whenever_an_operation_is_cancelled(executor: Executor, text: str):
    answers: list[Any] = []
    with nothing_unraisable():
        for number in range(MOST_STEPS):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(run, executor, text, answers)
                for _ in range(number):
                    await asyncio.sleep(0)
                tasks.cancel_scope.cancel()
            if answers:
                break
    assert answers
    assert number > 3
