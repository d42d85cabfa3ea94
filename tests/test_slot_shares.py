"""The workers share the slots of a backend: together they never run more than it can do, and none waits for nothing."""

from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from server.workers.slot_shares import SlotShares


class Workers:
    """Some workers, whose words arrive when the test wants them to."""

    def __init__(self, count: int, total: int) -> None:
        self.total = total
        self.granted = dict.fromkeys(range(1, count + 1), 0)
        self.numbers = dict.fromkeys(self.granted, 0)
        self.running = dict.fromkeys(self.granted, 0)
        self.waiting = dict.fromkeys(self.granted, 0)
        self.orders: dict[int, deque[tuple[int, int]]] = {worker: deque() for worker in self.granted}
        self.reports: dict[int, deque[dict[str, int]]] = {worker: deque() for worker in self.granted}
        self.shares = SlotShares(count, lambda worker, _, slots, number: self.orders[worker].append((slots, number)))
        for worker in self.granted:
            self.tell(worker)

    def tell(self, worker: int) -> None:
        running, number = self.running[worker], self.numbers[worker]
        wanted = running + self.waiting[worker]
        self.reports[worker].append({"total": self.total, "number": number, "running": running, "wanted": wanted})

    def ask(self, worker: int, count: int = 1) -> None:
        self.waiting[worker] += count
        self.serve(worker)

    def end(self, worker: int) -> None:
        self.running[worker] -= self.running[worker] > 0
        self.serve(worker)

    def serve(self, worker: int) -> None:
        more = max(0, min(self.waiting[worker], self.granted[worker] - self.running[worker]))
        self.running[worker] += more
        self.waiting[worker] -= more
        self.tell(worker)

    def hear(self, worker: int) -> None:
        """The worker gets one order."""
        if self.orders[worker]:
            self.granted[worker], self.numbers[worker] = self.orders[worker].popleft()
            self.serve(worker)

    def report(self, worker: int) -> None:
        """The supervisor gets one report."""
        if self.reports[worker]:
            self.shares.report(worker, "ollama", **self.reports[worker].popleft())

    def settle(self) -> None:
        while any(self.orders.values()) or any(self.reports.values()):
            for worker in self.granted:
                self.report(worker)
                self.hear(worker)


def test_each_worker_begins_with_an_even_share():
    workers = Workers(3, total=4)
    workers.settle()
    assert workers.granted == {1: 2, 2: 1, 3: 1}


def test_a_worker_that_needs_all_slots_gets_them_from_those_that_need_none():
    workers = Workers(3, total=4)
    workers.ask(3, 9)
    workers.settle()
    assert workers.running == {1: 0, 2: 0, 3: 4}


def test_a_single_slot_serves_every_worker_in_turn():
    workers = Workers(3, total=1)
    for worker in (2, 3, 1):
        workers.ask(worker)
        workers.settle()
        assert workers.running[worker] == 1
        workers.end(worker)
        workers.settle()


def test_workers_that_all_need_more_come_to_the_same():
    workers = Workers(3, total=6)
    workers.ask(1, 20)
    workers.settle()
    assert workers.running[1] == 6
    workers.ask(2, 20)
    workers.ask(3, 20)
    for _ in range(6):
        workers.end(1)
        workers.settle()
    assert workers.running == {1: 2, 2: 2, 3: 2}


def test_the_slots_of_a_worker_that_died_go_to_the_others():
    workers = Workers(2, total=4)
    workers.ask(1, 9)
    workers.ask(2, 9)
    workers.settle()
    workers.running[1] = 0
    workers.waiting[1] = 0
    workers.shares.forget(1)
    workers.settle()
    assert workers.running[2] == 4


@given(
    count=st.integers(1, 4),
    total=st.integers(1, 7),
    steps=st.lists(st.tuples(st.sampled_from(["ask", "end", "hear", "report"]), st.integers(1, 4)), max_size=120),
)
def test_whatever_arrives_when_no_more_than_all_slots_are_in_use(count: int, total: int, steps: list[tuple[str, int]]):
    workers = Workers(count, total)
    for step, worker in steps:
        getattr(workers, step)((worker - 1) % count + 1)
        assert sum(workers.running.values()) <= total
    workers.settle()
    assert sum(workers.running.values()) == min(total, sum(workers.running.values()) + sum(workers.waiting.values()))
