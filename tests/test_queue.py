"""The waiting line: first come, first served, and nobody loses a slot."""

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import Overloaded
from gateway.queue import Line, Ticket


def positions(tickets: list[Ticket]) -> list[int]:
    return [ticket.position for ticket in tickets]


def test_those_who_find_a_slot_do_not_wait():
    line = Line(slots=2, max_waiting=0)
    assert positions([line.enter(), line.enter()]) == [0, 0]


def test_those_who_find_none_stand_in_line():
    line = Line(slots=1, max_waiting=2)
    assert positions([line.enter() for _ in range(3)]) == [0, 1, 2]


def test_who_came_first_is_served_first():
    line = Line(slots=1, max_waiting=2)
    tickets = [line.enter() for _ in range(3)]
    tickets[0].release()
    assert positions(tickets[1:]) == [0, 1]


def test_one_that_leaves_the_middle_moves_up_those_behind_it():
    line = Line(slots=1, max_waiting=3)
    tickets = [line.enter() for _ in range(4)]
    tickets[2].release()
    assert positions([tickets[1], tickets[3]]) == [1, 2]


def test_one_that_leaves_the_line_takes_no_slot_along():
    line = Line(slots=1, max_waiting=1)
    first, second = line.enter(), line.enter()
    second.release()
    first.release()
    assert line.enter().position == 0


def test_a_full_line_takes_nobody():
    line = Line(slots=1, max_waiting=1)
    line.enter()
    line.enter()
    with pytest.raises(Overloaded, match="1 generations wait"):
        line.enter()


def test_a_place_that_became_free_is_taken_again():
    line = Line(slots=1, max_waiting=1)
    line.enter()
    line.enter().release()
    assert line.enter().position == 1


async def test_one_that_waits_is_told_of_each_step():
    line = Line(slots=1, max_waiting=2)
    first, second, third = [line.enter() for _ in range(3)]
    seen: list[int] = []

    async def wait() -> None:
        while third.position:
            await third.moved()
            seen.append(third.position)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        first.release()
        await anyio.wait_all_tasks_blocked()
        second.release()
    assert seen == [1, 0]


async def test_a_step_taken_before_one_waits_is_not_missed():
    line = Line(slots=1, max_waiting=1)
    first, second = line.enter(), line.enter()
    first.release()
    await second.moved()
    assert second.position == 0


@given(st.integers(1, 4), st.integers(0, 4), st.lists(st.integers(-1, 8), max_size=40))
def test_slots_are_neither_lost_nor_made(slots: int, max_waiting: int, steps: list[int]):
    line, tickets = Line(slots, max_waiting), list[Ticket]()
    for step in steps:
        if step < 0:
            try:
                tickets.append(line.enter())
            except Overloaded:
                assert len(tickets) == slots + max_waiting
        elif step < len(tickets):
            tickets.pop(step).release()
        serving = min(slots, len(tickets))
        assert positions(tickets) == [0] * serving + list(range(1, len(tickets) - serving + 1))
