"""What was looked up a moment ago, so that a burst of requests asks the database once."""

import time
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

MOST = 10_000
"""Values kept at once."""


class TtlCache(Generic[K, V]):
    """The last values looked up, none older than `max_age` seconds and at most `MOST` of them.

    What this process changes is dropped at once. A look-up that began before is not remembered, for it may have seen
    what was there before the change: take `version` first and give it to `put`.
    """

    def __init__(self, max_age: float) -> None:
        self._max_age = max_age
        self._values: OrderedDict[K, tuple[float, V]] = OrderedDict()
        self._used: set[K] = set()
        self._cleared = 0

    @property
    def version(self) -> int:
        """How often it was cleared, for `put`."""
        return self._cleared

    def get(self, key: K) -> V | None:
        """Give the value, where it is fresh."""
        found = self._values.get(key)
        if found is None or found[0] <= time.monotonic() - self._max_age:
            return None
        self._used.add(key)
        return found[1]

    def take_used(self) -> list[K]:
        """Give what was there for somebody since this was asked last."""
        used, self._used = self._used, set()
        return list(used)

    def put(self, key: K, value: V, version: int) -> None:
        """Keep what was looked up since it had this `version`; nothing where it was cleared meanwhile."""
        if version != self._cleared:
            return
        self._values[key] = time.monotonic(), value
        self._values.move_to_end(key)
        if len(self._values) > MOST:
            self._values.popitem(last=False)

    def clear(self) -> None:
        """Forget everything: something has changed."""
        self._cleared += 1
        self._values.clear()
        self._used.clear()
