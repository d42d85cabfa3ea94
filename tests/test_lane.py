"""The line before hashing: bounded, fair, and never stuck."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import anyio
import pytest

from auth.lane import PLACES, SHARE, Lane, LaneFull
from tests.support.polling import settled


async def test_who_is_known_gets_the_next_turn() -> None:
    lane, order, free = Lane(1), list[str](), anyio.Event()

    async def work(name: str, *, known: bool) -> None:
        async with lane.turn(known=known):
            order.append(name)
            await free.wait()

    async with anyio.create_task_group() as tasks:
        for name in ("first", "stranger", "other stranger"):
            tasks.start_soon(lambda name=name: work(name, known=False))
            await settled()
        tasks.start_soon(lambda: work("known", known=True))
        await settled()
        assert order == ["first"]
        free.set()
    assert order == ["first", "known", "stranger", "other stranger"]


async def test_who_leaves_the_line_takes_no_turn_with_them() -> None:
    lane, free, turns = Lane(1), anyio.Event(), list[int]()

    async def hold() -> None:
        async with lane.turn(known=False):
            await free.wait()

    async def leave(number: int, scope: anyio.CancelScope) -> None:
        with scope:
            async with lane.turn(known=False):
                turns.append(number)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(hold)
        await settled()
        scopes = [anyio.CancelScope() for _ in range(3)]
        for number, scope in enumerate(scopes):
            tasks.start_soon(leave, number, scope)
        await settled()
        scopes[0].cancel()
        await settled()
        free.set()
        scopes[1].cancel()
    with anyio.fail_after(5):
        async with lane.turn(known=False):
            turns.append(9)
    assert turns[-2:] == [2, 9]


async def test_a_stranger_waits_no_longer_than_patience_lasts_and_who_is_known_as_long_as_it_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("auth.lane.PATIENCE_SECONDS", 0.01)
    lane, had_turn = Lane(1), anyio.Event()

    async def known() -> None:
        async with lane.turn(known=True):
            had_turn.set()

    async with anyio.create_task_group() as tasks:
        async with lane.turn(known=False):
            tasks.start_soon(known)
            for _ in range(3):
                with pytest.raises(LaneFull):
                    async with lane.turn(known=False):
                        pass
            assert not had_turn.is_set()
        with anyio.fail_after(5):
            await had_turn.wait()
            async with lane.turn(known=False):  # those who left hold no turn
                pass


@contextmanager
def filled(lane: Lane, origins: list[str]) -> Iterator[None]:
    """Strangers who hold places."""
    with ExitStack() as held:
        for origin in origins:
            held.enter_context(lane.place(origin, known=False))
        yield


def test_strangers_fill_only_their_own_half() -> None:
    lane = Lane(1)
    with filled(lane, [str(number) for number in range(PLACES)]):
        with pytest.raises(LaneFull), lane.place("one more", known=False):
            pass
        with lane.place("one more", known=True):
            pass


def test_no_single_origin_fills_the_line() -> None:
    lane = Lane(1)
    with filled(lane, ["one"] * SHARE):
        with pytest.raises(LaneFull), lane.place("one", known=False):
            pass
        with lane.place("other", known=False):
            pass


def test_a_place_that_was_given_back_is_there_for_the_next() -> None:
    lane = Lane(1)
    for _ in range(2 * SHARE):
        with lane.place("one", known=False):
            pass
