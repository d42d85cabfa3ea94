"""Counts of requests in this process: a storage for the `limits` library that holds a bounded number of addresses.

The library's own has no bound, and goes through all of its counts again and again: a flood of addresses would take the
memory first, and the time of the event loop with it.
"""

import time
from collections import OrderedDict
from dataclasses import dataclass

from limits.aio.storage import Storage

MOST_COUNTS = 100_000
"""Counts that are held at once, about 20 MB. Beyond, the window that began first is forgotten."""

SWEEP_SECONDS = 1.0
"""The least time between two looks for windows that are over, which go through all counts."""


@dataclass(slots=True)
class _Window:
    """What was counted until `ends_at` of the monotonic clock. `shared`: other gateways count with it."""

    count: int
    ends_at: float
    shared: bool = False


class CountsInMemory(Storage):
    """Counts by key, each in a window that begins with what is counted first in it."""

    STORAGE_SCHEME = None

    def __init__(self, most: int = MOST_COUNTS) -> None:
        super().__init__()
        self._most = most
        self._windows: OrderedDict[str, _Window] = OrderedDict()
        self._swept_at = float("-inf")

    def __len__(self) -> int:
        return len(self._windows)

    @property
    def base_exceptions(self) -> type[Exception]:
        """What can go wrong with it: nothing that anybody could expect."""
        return ValueError

    def has_room_for(self, key: str) -> bool:
        """Tell whether other gateways may be asked to count this key: not one of a flood, of which each is new."""
        window = self._open(key)
        return len(self._windows) < self._most if window is None else window.shared or len(self._windows) < self._most

    def put(self, key: str, count: int, seconds: float) -> None:
        """Keep what all gateways together have counted, and for how long it still counts."""
        self._windows.pop(key, None)
        self._insert(key, _Window(count, time.monotonic() + seconds, shared=True))

    def add(self, key: str, seconds: float, amount: int) -> int:
        """Count, and give what is counted then."""
        window = self._open(key)
        if window is None:
            self._windows.pop(key, None)
            window = self._insert(key, _Window(0, time.monotonic() + seconds))
        window.count += amount
        return window.count

    async def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """Count; nothing is awaited, so that none of many at once is too many."""
        return self.add(key, expiry, amount)

    async def get(self, key: str) -> int:
        """Give what is counted in the window that is open."""
        window = self._open(key)
        return 0 if window is None else window.count

    async def get_expiry(self, key: str) -> float:
        """Give when the window ends, in seconds since the epoch."""
        window = self._open(key)
        return time.time() + (0 if window is None else window.ends_at - time.monotonic())

    async def check(self) -> bool:
        """Tell that it is there."""
        return True

    async def reset(self) -> int:
        """Forget everything."""
        found = len(self._windows)
        self._windows.clear()
        return found

    async def clear(self, key: str) -> None:
        """Forget one count."""
        self._windows.pop(key, None)

    def _open(self, key: str) -> _Window | None:
        window = self._windows.get(key)
        return None if window is None or window.ends_at <= time.monotonic() else window

    def _insert(self, key: str, window: _Window) -> _Window:
        now = time.monotonic()
        if len(self._windows) >= self._most and now - self._swept_at >= SWEEP_SECONDS:
            self._swept_at = now
            for over in [it for it, held in self._windows.items() if held.ends_at <= now]:
                del self._windows[over]
        while len(self._windows) >= self._most:
            self._windows.popitem(last=False)
        self._windows[key] = window
        return window
