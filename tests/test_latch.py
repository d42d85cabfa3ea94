"""What takes the place of events where there are thousands."""

import anyio
import pytest

from gateway.latch import Latch
from tests.support.polling import settled


async def wait(latch: Latch, went: list[str], name: str) -> None:
    await latch.wait()
    went.append(name)


async def test_all_who_wait_go_on_when_it_is_set_and_who_comes_later_does_not_wait():
    latch, went = Latch(), list[str]()

    async with anyio.create_task_group() as tasks:
        for name in ("one", "other", "third"):
            tasks.start_soon(wait, latch, went, name)
        await settled()
        assert (went, latch.is_set()) == ([], False)
        latch.set()
        latch.set()
    assert (sorted(went), latch.is_set()) == (["one", "other", "third"], True)
    with anyio.fail_after(5):
        await latch.wait()


async def test_after_it_was_cleared_others_wait_and_those_let_go_do_not_wait_again():
    latch, went = Latch(), list[str]()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait, latch, went, "first")
        await settled()
        latch.set()
        latch.clear()
        tasks.start_soon(wait, latch, went, "second")
        await settled()
        assert went == ["first"]
        latch.set()
    assert went == ["first", "second"]


async def test_who_is_cancelled_takes_nothing_from_the_others():
    latch, went = Latch(), list[str]()

    async with anyio.create_task_group() as tasks:
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as cancelled:
                cancelled.start_soon(wait, latch, went, "cancelled")
                tasks.start_soon(wait, latch, went, "other")
                await settled()
                scope.cancel()
        latch.set()
    assert went == ["other"]


async def test_to_wait_can_be_cancelled_where_nobody_has_to():
    latch = Latch()
    latch.set()
    with anyio.CancelScope() as scope:
        scope.cancel()
        await latch.wait()
        pytest.fail("it went on")
