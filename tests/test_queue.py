"""The waiting queue: users take turns, and nobody loses a slot."""

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.catalog.queue import BackendQueue, QueueTicket
from gateway.errors import Overloaded
from tests.support.polling import settled


def positions(tickets: list[QueueTicket]) -> list[int]:
    return [ticket.position for ticket in tickets]


def test_those_who_find_a_slot_do_not_wait():
    queue = BackendQueue(slots=2, max_waiting=0)
    assert positions([queue.enter("a"), queue.enter("a")]) == [0, 0]


def test_those_who_find_none_stand_in_line():
    queue = BackendQueue(slots=1, max_waiting=2)
    assert positions([queue.enter("a") for _ in range(3)]) == [0, 1, 2]


def test_who_came_first_is_served_first():
    queue = BackendQueue(slots=1, max_waiting=2)
    tickets = [queue.enter("a") for _ in range(3)]
    tickets[0].release()
    assert positions(tickets[1:]) == [0, 1]


def test_one_that_leaves_the_middle_moves_up_those_behind_it():
    queue = BackendQueue(slots=1, max_waiting=3)
    tickets = [queue.enter("a") for _ in range(4)]
    tickets[2].release()
    assert positions([tickets[1], tickets[3]]) == [1, 2]


def test_one_that_leaves_the_line_takes_no_slot_along():
    queue = BackendQueue(slots=1, max_waiting=1)
    first, second = queue.enter("a"), queue.enter("a")
    second.release()
    first.release()
    assert queue.enter("a").position == 0


def test_a_full_line_takes_nobody():
    queue = BackendQueue(slots=1, max_waiting=1)
    queue.enter("a")
    queue.enter("a")
    with pytest.raises(Overloaded, match=r"as may \(1\)"):
        queue.enter("a")


def test_a_place_that_became_free_is_taken_again():
    queue = BackendQueue(slots=1, max_waiting=1)
    queue.enter("a")
    queue.enter("a").release()
    assert queue.enter("a").position == 1


async def test_one_that_waits_is_told_of_each_step():
    queue = BackendQueue(slots=1, max_waiting=2)
    first, second, third = [queue.enter("a") for _ in range(3)]
    seen: list[int] = []

    async def wait() -> None:
        while third.position:
            await third.moved()
            seen.append(third.position)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        await settled()
        first.release()
        await settled()
        second.release()
    assert seen == [1, 0]


async def test_a_step_taken_before_one_waits_is_not_missed():
    queue = BackendQueue(slots=1, max_waiting=1)
    first, second = queue.enter("a"), queue.enter("a")
    first.release()
    await second.moved()
    assert second.position == 0


def test_who_has_all_their_slots_waits_though_one_is_free():
    queue = BackendQueue(slots=3, max_waiting=5, slots_per_user=2)
    assert positions([queue.enter("a") for _ in range(3)]) == [0, 0, 1]
    assert queue.enter("b").position == 0


def test_who_has_all_their_slots_is_passed_over():
    queue = BackendQueue(slots=2, max_waiting=5, slots_per_user=1)
    one, two = queue.enter("a"), queue.enter("b")
    again, other = queue.enter("a"), queue.enter("c")
    two.release()
    assert positions([again, other]) == [1, 0]
    one.release()
    assert again.position == 0


def test_who_has_all_their_places_is_refused_and_others_are_not():
    queue = BackendQueue(slots=1, max_waiting=5, max_waiting_per_user=1)
    tickets = [queue.enter("a"), queue.enter("a")]
    with pytest.raises(Overloaded, match=r"As many of yours .* \(1\)"):
        queue.enter("a")
    assert queue.enter("b").position == 1
    tickets[1].release()
    assert queue.enter("a").position == 2


def test_users_take_turns():
    queue = BackendQueue(slots=1, max_waiting=9)
    first, *mine = [queue.enter("a") for _ in range(4)]
    other = [queue.enter("b"), queue.enter("b")]
    assert positions(mine + other) == [2, 4, 5, 1, 3]
    first.release()
    assert positions(mine + other) == [1, 3, 4, 0, 2]


def test_a_line_that_grows_lets_in_who_waits():
    queue = BackendQueue(slots=1, max_waiting=9)
    tickets = [queue.enter("a") for _ in range(4)]
    queue.resize(3)
    assert positions(tickets) == [0, 0, 0, 1]


def test_a_line_that_shrinks_lets_in_nobody_until_it_has_room():
    queue = BackendQueue(slots=3, max_waiting=9)
    tickets = [queue.enter("a") for _ in range(4)]
    queue.resize(1)
    for ticket in tickets[:2]:
        ticket.release()
        assert tickets[3].position == 1
    tickets[2].release()
    assert tickets[3].position == 0


@given(
    slots=st.integers(1, 4),
    max_waiting=st.integers(0, 4),
    slots_per_user=st.integers(1, 4),
    max_waiting_per_user=st.integers(0, 4),
    steps=st.lists(st.tuples(st.integers(-6, 5), st.sampled_from("abc")), max_size=40),
)
def test_slots_are_neither_lost_nor_made(
    slots: int, max_waiting: int, slots_per_user: int, max_waiting_per_user: int, steps: list[tuple[int, str]]
):
    queue = BackendQueue(slots, max_waiting, slots_per_user=slots_per_user, max_waiting_per_user=max_waiting_per_user)
    tickets: list[QueueTicket] = []
    for step, user in steps:
        if 0 <= step < len(tickets):
            tickets.pop(step).release()
        elif step < 0:
            try:
                tickets.append(queue.enter(user))
            except Overloaded:
                waiting = [ticket.user for ticket in tickets if ticket.position]
                assert len(waiting) == max_waiting or waiting.count(user) == max_waiting_per_user
        served = [ticket.user for ticket in tickets if not ticket.position]
        waiting = [ticket for ticket in tickets if ticket.position]
        assert len(served) <= slots
        assert all(served.count(name) <= slots_per_user for name in "abc")
        assert sorted(positions(waiting)) == list(range(1, len(waiting) + 1))
        for name in "abc":  # others may overtake somebody, and nobody themselves
            own = positions([ticket for ticket in waiting if ticket.user == name])
            assert own == sorted(own)
        if len(served) < slots:  # who waits beside a free slot has all of theirs
            assert all(served.count(ticket.user) == slots_per_user for ticket in waiting)
