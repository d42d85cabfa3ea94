"""A worker's link to the supervisor: a line of JSON for each thing that one tells the other."""

import asyncio
import os
import select
import signal
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any
from uuid import UUID

import orjson

from backends.model_process import EmbeddedState, EmbeddedStatus

SECOND_SIGNAL_SECONDS = 0.5
"""How long after the first signal the second one comes: two at the same time would be seen as one."""

HEARTBEAT_SECONDS = 0.25
"""How often a worker tells that its event loop runs: several times in the shortest time-out that can be set."""

LAST_SECONDS = 5.0
"""How long a worker without its supervisor may take to end."""


class WorkerLink:
    """What a worker knows of the others, and how it tells the supervisor of itself.

    `number` is its own, from 1 to `of`; `private_valkey` tells that the Valkey is there for these workers alone.
    """

    def __init__(self, orders: Iterator[bytes], answers: int, *, number: int, of: int, private_valkey: bool) -> None:
        self.number = number
        self.of = of
        self.private_valkey = private_valkey
        self.ready = 0
        self.hanging = 0
        self.breakers: Mapping[str, Mapping[str, int]] = {}
        """Of each backend, how many workers' breakers are in which state."""
        self.on_slots: Callable[[dict[str, Any]], None] = _nothing
        """What is to be called when the supervisor has told how many slots of a backend this worker has."""
        self._orders = orders
        self._answers = answers
        self._start = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._earlier: list[dict[str, Any]] = []
        self._lock = threading.Lock()
        self._embedded: EmbeddedStatus | None = None
        self._changed = asyncio.Event()
        self._all_drained = asyncio.Event()
        self._dead: asyncio.Queue[UUID] = asyncio.Queue()

    def listen(self) -> None:
        """Obey the supervisor from now on, in a thread: also a worker whose event loop hangs ends with it."""
        threading.Thread(target=self._listen, name="orders", daemon=True).start()

    def wait_for_start(self) -> None:
        """Return when the supervisor says that it is this worker's turn."""
        self._start.wait()

    def attach(self) -> None:
        """Have what the supervisor tells noted in the event loop that runs now."""
        with self._lock:
            self._loop = asyncio.get_running_loop()
            earlier, self._earlier = self._earlier, []
        for order in earlier:
            self._note(order)

    async def embedded_statuses(self) -> AsyncGenerator[EmbeddedStatus]:
        """Give what becomes of the embedded model, which the supervisor runs: the latest, whenever it has changed."""
        while True:
            self._changed.clear()
            if self._embedded is not None:
                yield self._embedded
            await self._changed.wait()

    async def next_death(self) -> UUID:
        """Wait until another worker has died, and give its replica's id. None is told twice."""
        return await self._dead.get()

    def tell_ready(self, replica_id: UUID, password: str | None) -> None:
        """Tell that this worker serves; with the password of the first administrator, where it was made just now."""
        self._tell({"kind": "ready", "replica": str(replica_id), "password": password})

    async def drained(self) -> None:
        """Tell that nothing runs here any more, and wait for the other workers that stop, too.

        A viewer here may watch what runs at one of them, and finds no other worker to go on at.
        """
        self._tell({"kind": "drained"})
        await self._all_drained.wait()

    def tell_failed(self, sentence: str) -> None:
        """Tell why this worker cannot start."""
        self._tell({"kind": "failed", "sentence": sentence})

    async def show_life(self, breakers: Callable[[], Mapping[str, str]]) -> None:
        """Tell all the time that this worker's event loop runs, until cancelled: one that hangs is replaced.

        With it goes the state of its `breakers` by backend, for whoever asks any of the workers.
        """
        while True:
            self.tell_if_heard({"kind": "alive", "breakers": breakers()})
            await asyncio.sleep(HEARTBEAT_SECONDS)

    def tell_if_heard(self, answer: dict[str, Any]) -> bool:
        """Tell something, unless that would wait for a supervisor that does not listen now."""
        if not select.select([], [self._answers], [], 0)[1]:
            return False
        self._tell(answer)
        return True

    def _tell(self, answer: dict[str, Any]) -> None:
        with suppress(BrokenPipeError, ConnectionResetError):  # without its supervisor this process is about to end
            os.write(self._answers, orjson.dumps(answer) + b"\n")

    def _listen(self) -> None:
        try:
            for line in self._orders:
                self._take(orjson.loads(line))
        finally:  # whatever ends this thread: without it the worker would outlive the supervisor
            _end_without_supervisor()

    def _take(self, order: dict[str, Any]) -> None:
        if order["kind"] == "start":
            self._start.set()
            return
        with self._lock:
            if self._loop is None:
                self._earlier.append(order)
                return
        self._loop.call_soon_threadsafe(self._note, order)

    def _note(self, order: dict[str, Any]) -> None:
        match order["kind"]:
            case "workers":
                self.ready, self.hanging, self.breakers = order["ready"], order["hanging"], order["breakers"]
            case "slots":
                self.on_slots(order)
            case "drained":
                self._all_drained.set()
            case "died":
                self._dead.put_nowait(UUID(order["replica"]))
            case "embedded":
                state = EmbeddedState(order["state"])
                self._embedded = EmbeddedStatus(state, order["reason"], order["address"], order["key"])
                self._changed.set()
            case _:
                pass


def _nothing(_: dict[str, Any]) -> None:
    """Do nothing with an order."""


def _end_without_supervisor() -> None:
    """Stop as at a second signal. Nobody else would end this process, and the port has to be free again."""
    for _ in range(2):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(SECOND_SIGNAL_SECONDS)
    time.sleep(LAST_SECONDS)
    os._exit(1)
