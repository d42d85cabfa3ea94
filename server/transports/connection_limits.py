"""How many connections each caller may hold open at once."""

from collections import Counter
from collections.abc import Generator, Hashable
from contextlib import contextmanager

from auth.principal import Principal

MOST_OF_STRANGERS = 20
"""What one address may hold open without credentials, with which there is little to be had."""


class Seats:
    """Counts what each holder has open, up to `most` for each: the value of `setting`, which refusals name."""

    def __init__(self, most: int, setting: str) -> None:
        self.most = most
        self.setting = setting
        self._taken: Counter[Hashable] = Counter()

    @contextmanager
    def seat(self, principal: Principal | None, client: tuple[str, int] | None) -> Generator[bool]:
        """Take one for the block; False when the user, or the address of a stranger, has all of theirs."""
        most = self.most if principal is not None else min(self.most, MOST_OF_STRANGERS)
        holder: Hashable = principal.user_id if principal is not None else client and client[0]
        if self._taken[holder] >= most:
            yield False
            return
        self._taken[holder] += 1
        try:
            yield True
        finally:
            self._taken[holder] -= 1
            if not self._taken[holder]:
                del self._taken[holder]
