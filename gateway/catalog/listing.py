"""What one model server lists, and whether it answers.

       ask                 answered
idle ───────▶ asking ──────────────────────▶ idle, and it answers
 ▲              │  waited for by people
 │              ▼
 │            late ── answered after all ──▶ idle, and it answers
 │              │  waited for by nobody
 └─ left alone ◀┴── failed, or gave no answer
    for a while
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import anyio
from anyio.abc import TaskGroup

from backends.errors import BackendError
from backends.protocol import Backend, BackendKind, ModelInfo
from gateway.catalog.breaker import Breaker, BreakerRule

logger = logging.getLogger(__name__)

DESCRIBED_AT_ONCE = 4
"""Models that one server is asked about at the same time."""

_FAILURES_IN_A_ROW = 8
"""So many failed descriptions, and the rest is left for later: the server is at fault, not a single model."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a model server is waited for, in seconds.

    list            until the question for a list is given up
    loading         the same for the embedded model, which has to be loaded first
    first           until a server is late, and nobody waits for it any more
    stale           the same for a server that is known not to answer, and for whoever has an older list already
    shortest_pause  a server that failed is left alone so long, and twice as long after each further failure
    longest_pause   but no longer than this
    """

    list: float = 10
    loading: float = 60
    first: float = 2
    stale: float = 0.2
    shortest_pause: float = 1
    longest_pause: float = 10


def no_answer(seconds: float) -> str:
    """Say that a model server has been silent for so long."""
    return f"The model server did not answer within {seconds:g} s."


class Listing:
    """The models that one backend listed last. `error` says why it does not answer now; None if it does.

    `failures` counts the questions in a row that it did not answer. One task at a time asks it, in a task group that
    outlives every request, so that a list is read to its end even if nobody waits for it any more. `changed` is called
    when there are other models, `turned` when the backend answers again, or no longer, and when its breaker turns.
    """

    def __init__(
        self,
        backend: Backend,
        tasks: TaskGroup,
        patience: Patience,
        changed: Callable[[], None],
        turned: Callable[["Listing"], None],
        breaker: BreakerRule | None = None,
    ) -> None:
        self.backend = backend
        self.breaker = Breaker(backend.name, breaker or BreakerRule(), lambda: turned(self))
        self.models: dict[str, ModelInfo] = {}
        self.error: str | None = None
        self.latency_ms: float | None = None
        self._tasks = tasks
        self._patience = patience
        self._changed = changed
        self._turned = turned
        self._told = False
        self._asking = False
        self._asked_at = self._answered_at = -math.inf
        self._decided = anyio.Event()
        self._decided.set()
        self.failures = 0
        self._describing = False
        self._not_described: set[str] = set()

    @property
    def answers(self) -> bool:
        """Whether the backend has listed its models, and answers still."""
        return self.is_known and self.error is None

    @property
    def takes_requests(self) -> bool:
        """Whether the backend answers, and its breaker lets just anybody in."""
        return self.answers and self.breaker.lets_in()

    @property
    def is_known(self) -> bool:
        """Whether it has listed its models once."""
        return self.latency_ms is not None

    def ask(self, max_age: float, *, urgently: bool = False) -> None:
        """Have the backend asked, unless its answer is younger than `max_age` or it is being asked already.

        A backend that failed is left alone for a while, unless it is asked urgently.
        """
        pause = 0.0
        if self.failures and not urgently:
            # the exponent is bounded, since 2.0**1024 is an error
            doubled = self._patience.shortest_pause * 2.0 ** min(self.failures - 1, 10)
            pause = min(doubled, self._patience.longest_pause)
        if self._asking or anyio.current_time() - self._answered_at < max(max_age, pause):
            return
        self._asking = True
        self._asked_at = anyio.current_time()
        self._decided = anyio.Event()
        self._tasks.start_soon(self._ask)

    async def wait(self, seconds: float = math.inf) -> None:
        """Wait for the answer to the question under way, until the backend is late or `seconds` after it was asked."""
        with anyio.move_on_after(max(0.0, self._asked_at + seconds - anyio.current_time())):
            await self._decided.wait()

    async def _ask(self) -> None:
        begun = time.perf_counter()
        seconds = self._seconds_allowed()
        lateness = asyncio.get_running_loop().call_later(seconds, self._notice_lateness, seconds)
        try:
            answer = await self._answer()
            if isinstance(answer, str):
                self._fail(answer)
            else:
                self._take(answer, (time.perf_counter() - begun) * 1000)
        finally:
            lateness.cancel()
            self._asking = False
            self._answered_at = anyio.current_time()
            self._decided.set()

    def _seconds_allowed(self) -> float:
        if self.backend.kind is BackendKind.EMBEDDED and not self.is_known and not self.error:
            return self._patience.loading  # it starts together with the gateway, and who asks for its model waits
        return self._patience.stale if self.error else self._patience.first

    def _notice_lateness(self, seconds: float) -> None:
        self.error = self.error or no_answer(seconds)
        self._tell()
        self._decided.set()

    async def _answer(self) -> list[ModelInfo] | str:
        """Give the list, or the reason why there is none. Never raises: the task group is the whole application's."""
        try:
            embedded = self.backend.kind is BackendKind.EMBEDDED
            with anyio.fail_after(self._patience.loading if embedded else self._patience.list):
                return await self.backend.models()
        except TimeoutError:
            return no_answer(self._patience.list)
        except BackendError as error:
            return str(error)
        except Exception:
            logger.exception("the list of backend %s cannot be read", self.backend.name)
            return "The list of models cannot be read. The gateway's log has the details."

    def _fail(self, reason: str) -> None:
        if not self.failures:
            logger.warning("backend %s lists no models: %s", self.backend.name, reason)
        self.failures += 1
        self.error = reason
        self._tell()

    def _take(self, models: list[ModelInfo], latency_ms: float) -> None:
        if self.failures:
            logger.info("backend %s lists its models again", self.backend.name)
            self.breaker.try_soon()
        self.failures = 0
        self.error = None
        self.latency_ms = latency_ms
        self._tell()
        listed = {info.name: info for info in models if info.name}
        if listed != self.models:
            self.models = listed
            self._changed()
        if not self._describing and next(self._undescribed(), None) is not None:
            self._describing = True
            self._tasks.start_soon(self._describe)

    def _tell(self) -> None:
        if self.answers != self._told:
            self._told = self.answers
            self._turned(self)

    def _undescribed(self) -> Iterator[ModelInfo]:
        """Give the models of which not everything is told; those that could not be described last time come last."""
        for failed in (False, True):
            for info in list(self.models.values()):
                told = info.capabilities is not None and info.context_length is not None
                if not told and (info.name in self._not_described) is failed:
                    yield info

    async def _describe(self) -> None:
        pending = iter(list(self._undescribed()))
        self._not_described.clear()
        failures = 0

        async def work() -> None:
            nonlocal failures
            for info in pending:
                if failures >= _FAILURES_IN_A_ROW:
                    return
                described = await self._description(info)
                if described is None:
                    failures += 1
                    self._not_described.add(info.name)
                    continue
                failures = 0
                if described != info and self.models.get(info.name) == info:
                    self.models[info.name] = described
                    self._changed()

        try:
            async with anyio.create_task_group() as workers:
                for _ in range(DESCRIBED_AT_ONCE):
                    workers.start_soon(work)
        finally:
            self._describing = False

    async def _description(self, info: ModelInfo) -> ModelInfo | None:
        try:
            with anyio.fail_after(self._patience.list):
                return await self.backend.describe(info)
        except (BackendError, TimeoutError):
            return None
        except Exception:
            logger.exception("the description of a model of backend %s cannot be read", self.backend.name)
            return None
