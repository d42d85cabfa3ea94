"""How many connections each caller may hold open at once."""

from collections import Counter
from collections.abc import Generator, Hashable
from contextlib import contextmanager

from auth.principal import Principal


class Seats:
    """Counts what each holder has open, up to `most` for each."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._taken: Counter[Hashable] = Counter()

    @contextmanager
    def seat(self, holder: Hashable) -> Generator[bool]:
        """Take one for the block; False when the holder has all of theirs."""
        if self._taken[holder] >= self.most:
            yield False
            return
        self._taken[holder] += 1
        try:
            yield True
        finally:
            self._taken[holder] -= 1
            if not self._taken[holder]:
                del self._taken[holder]


def holder(principal: Principal | None, client: tuple[str, int] | None) -> Hashable:
    """Whose seat a connection takes: the API key's, the user's, or without credentials the address's."""
    if principal is not None:
        return principal.api_key_id or principal.user_id
    return client[0] if client else None
