"""How many connections each caller may hold open at once."""

from collections import Counter
from collections.abc import Generator, Hashable
from contextlib import AbstractContextManager, contextmanager

from auth.principal import Principal
from gateway.connections import SharedConnections

ANONYMOUS_LIMIT = 20
"""What one address may hold open without credentials, with which there is little to be had."""


class TooManyConnections(Exception):
    """A caller holds as many connections open as one may. `setting` is the variable that allows more."""

    def __init__(self, setting: str, limit: int) -> None:
        self.setting = setting
        self.limit = limit
        super().__init__(f"{limit} are open ({setting})")


class ConnectionLimiter:
    """Counts what each caller has open, up to `limit` for each: the value of `setting`, which refusals name.

    With `shared`, what is open at the other gateways counts, too.
    """

    def __init__(self, limit: int, setting: str, shared: SharedConnections | None = None) -> None:
        self._limit = limit
        self._setting = setting
        self._shared = shared
        self._open: Counter[Hashable] = Counter()

    @property
    def open(self) -> int:
        """How many connections are open, of all callers."""
        return self._open.total()

    async def slot(self, principal: Principal | None, client: tuple[str, int] | None) -> AbstractContextManager[None]:
        """Give a block within which one more counts. It counts from now on, so enter it at once.

        Raises TooManyConnections when the user, or the address of one without credentials, has all of theirs.
        """
        limit = self._limit if principal is not None else min(self._limit, ANONYMOUS_LIMIT)
        caller: Hashable = principal.user_id if principal is not None else client and client[0]
        if self._open[caller] >= limit:
            raise TooManyConnections(self._setting, limit)
        self._open[caller] += 1
        name = f"{self._setting}:{caller}"
        try:
            if self._shared is not None and not await self._shared.take(name, limit):
                raise TooManyConnections(self._setting, limit)
        except BaseException:
            self._give_back(caller)
            raise
        return self._counted(caller, name)

    @contextmanager
    def _counted(self, caller: Hashable, name: str) -> Generator[None]:
        try:
            yield
        finally:
            if self._shared is not None:
                self._shared.give_back(name)
            self._give_back(caller)

    def _give_back(self, caller: Hashable) -> None:
        self._open[caller] -= 1
        if not self._open[caller]:
            del self._open[caller]
