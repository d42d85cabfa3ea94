"""What an operation tells of limits beside its result."""

from collections.abc import Iterable

from gateway.limits.refusals import LimitReached
from gateway.limits.status import LimitStatus


class LimitsTold:
    """How the limits stand that count what one operation has started, and what they have refused of it.

    An operation may start several generations: of each limit the latest status stays, and of several refusals the
    longest time after which to try again, `retry_after_ms`.
    """

    def __init__(self) -> None:
        self._statuses: dict[tuple[str, tuple[str, ...]], LimitStatus] = {}
        self.retry_after_ms: int | None = None

    @property
    def statuses(self) -> list[LimitStatus]:
        """The limits, each once, as they stood last."""
        return list(self._statuses.values())

    def note(self, statuses: Iterable[LimitStatus]) -> None:
        """Keep how limits stand now."""
        for status in statuses:
            self._statuses[status.name, tuple(status.scope.values())] = status

    def refuse(self, refusal: LimitReached) -> None:
        """Keep a refusal, and how its limit stands."""
        self.note([refusal.limit])
        self.retry_after(refusal.retry_after_ms)

    def retry_after(self, milliseconds: int | None) -> None:
        """Keep when what was refused may be tried again, or what has waited for a limit in vain; None: never."""
        if milliseconds is not None:
            self.retry_after_ms = max(milliseconds, self.retry_after_ms or 0)
