"""How the workers share the slots of each backend, so that all together send it no more than it can do.

    worker ── what it runs, and wants to ──▶ supervisor ── how many slots it has ──▶ worker

Each begins with an even share. One that needs more than it has gets what others do not use, until all that need more
have the same. A slot moves in two steps: a worker is told that it has one less, and only when it has said that it runs
no more than that, another one is told that it has one more.
"""

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(slots=True)
class _Share:
    """What one worker has: `granted` as it was told last, and `held`, the most that it may be running now."""

    granted: int
    held: int
    wanted: int = 0
    number: int = 0
    """Counts what it was told. An answer to something older says nothing of what it runs by now."""


@dataclass(slots=True)
class _Slots:
    """Those of one backend."""

    total: int
    shares: dict[int, _Share] = field(default_factory=dict[int, _Share])

    @property
    def free(self) -> int:
        return self.total - sum(share.held for share in self.shares.values())


Grant = Callable[[int, str, int, int], None]
"""Tells a worker, by its number, of a backend, how many slots it has, and the number of this word."""


class SlotShares:
    """The slots of all backends among `workers` workers. `grant` is called whenever one is to have more or less."""

    def __init__(self, workers: int, grant: Grant) -> None:
        self._workers = workers
        self._grant = grant
        self._backends: dict[str, _Slots] = {}

    def report(self, worker: int, backend: str, *, total: int, number: int, running: int, wanted: int) -> None:
        """Hear what a worker runs, and would run if it could; `number` is of the last word that it had heard."""
        slots = self._backends.setdefault(backend, _Slots(total))
        slots.total = total
        share = slots.shares.get(worker)
        if share is None:
            share = slots.shares[worker] = _Share(0, running)
            even = total // self._workers + (worker <= total % self._workers)
            self._set(worker, backend, share, min(even, max(0, slots.free)))
        elif number == share.number:
            share.held = max(share.granted, running)
        share.wanted = wanted
        self._balance(backend, slots)

    def forget(self, worker: int) -> None:
        """Take back what a worker had: it has ended."""
        for backend, slots in self._backends.items():
            if slots.shares.pop(worker, None) is not None:
                self._balance(backend, slots)

    def _balance(self, backend: str, slots: _Slots) -> None:
        fair = _fair(slots.total, {worker: share.wanted for worker, share in slots.shares.items()})
        short = {worker: fair[worker] - share.granted for worker, share in slots.shares.items()}
        missing = sum(max(0, lack) for lack in short.values())
        granted = sum(share.granted for share in slots.shares.values())
        self._take(backend, slots, short, granted + missing - slots.total)
        free = slots.free
        for worker, lack in short.items():
            share = slots.shares[worker]
            more = min(lack, share.held - share.granted + free)
            if more > 0:
                free -= max(0, share.granted + more - share.held)
                self._set(worker, backend, share, share.granted + more)

    def _take(self, backend: str, slots: _Slots, short: dict[int, int], count: int) -> None:
        """Take so many from those who have more than they need, one after the other from who has most of that."""
        taken: dict[int, int] = {}
        while count > 0:
            worker = min(short, key=lambda worker: short[worker] + taken.get(worker, 0))
            if short[worker] + taken.get(worker, 0) >= 0:
                break
            taken[worker] = taken.get(worker, 0) + 1
            count -= 1
        for worker, less in taken.items():
            share = slots.shares[worker]
            self._set(worker, backend, share, share.granted - less)

    def _set(self, worker: int, backend: str, share: _Share, granted: int) -> None:
        share.granted, share.held = granted, max(share.held, granted)
        share.number += 1
        self._grant(worker, backend, granted, share.number)


def _fair(total: int, wanted: dict[int, int]) -> dict[int, int]:
    """Give each what it wants, or as much as everybody else who wants more gets."""
    fair: dict[int, int] = {}
    for left, worker in zip(range(len(wanted), 0, -1), sorted(wanted, key=lambda worker: wanted[worker]), strict=True):
        fair[worker] = min(wanted[worker], total // left)
        total -= fair[worker]
    return fair
