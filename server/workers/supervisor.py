"""The process that starts the workers, replaces those that die, and ends all of them together.

It serves nobody itself. Whatever ends it, the workers, the private Valkey and the embedded model end, too: each reads a
pipe that the kernel closes with this process.

The first worker starts alone: it migrates the database, makes the secret and the first administrator. Meanwhile the
others load what they need, and start when it is ready.
"""

import logging
import os
import signal
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import ExitStack, suppress
from dataclasses import asdict
from functools import partial
from typing import Any

import anyio
import click
from anyio.abc import TaskGroup

from backends.model_process import EmbeddedStatus
from server.settings import PREFIX, Settings, SettingsError, load_settings, prepare_data_dir
from server.welcome import welcome
from server.workers.hang_ups import on_hang_up
from server.workers.metrics_files import forget_metrics_of, prepare_metrics
from server.workers.private_valkey import PrivateValkey
from server.workers.processes import ending
from server.workers.slot_shares import SlotShares
from server.workers.sockets import WorkerSockets, worker_sockets
from server.workers.worker_process import WorkerNotStarted, WorkerProcess, running_worker

logger = logging.getLogger(__name__)

FIRST_DELAY, LONGEST_DELAY = 0.25, 30.0
"""Seconds before a worker that ended is replaced: longer each time, until one has served for the longest of them."""

MOST_DEATHS = 3
"""How many workers may end before any has served; then the gateway cannot start."""

LOOKS = 8
"""How often within the time-out it is looked whether a worker has said something."""

FORCED_SECONDS = 5.0
"""How long after the second signal the workers have to end."""


def run_supervisor(settings: Settings) -> None:
    """Serve with several workers until told to stop. Raises SettingsError, or a group of one."""
    with worker_sockets(settings) as sockets:
        anyio.run(Supervisor(settings, sockets).run)


class Supervisor:
    """Keeps as many workers as the settings ask for."""

    def __init__(self, settings: Settings, sockets: WorkerSockets) -> None:
        self._settings = settings
        self._timeout = settings.worker_timeout
        self._sockets = sockets
        self._workers: dict[int, WorkerProcess] = {}
        self._first_is_ready = anyio.Event()
        self._stop = anyio.Event()
        self._deaths = 0
        self._reloads = 0
        self._password: str | None = None
        self._greeted = False
        self._embedded: dict[str, Any] | None = None
        self._slots = SlotShares(settings.workers, self._grant_slots)
        self._tasks: TaskGroup

    async def run(self) -> None:
        """Serve until told to stop. Raises SettingsError, in a group, where the gateway cannot start."""
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            prepare_data_dir(self._settings)
            os.environ.update(prepare_metrics(self._settings))  # for the workers, as the next one
            async with anyio.create_task_group() as services:
                if self._settings.redis_url is None:
                    valkey = PrivateValkey(self._settings.data_dir)
                    await services.start(valkey.run)
                    os.environ[f"{PREFIX}REDIS_URL"] = valkey.url
                if self._settings.embedded:
                    from server.backends import embedded_backend  # which loads the clients of model servers

                    services.start_soon(embedded_backend(self._settings).run_process, self._tell_of_model)
                services.start_soon(self._obey, signals)
                await services.start(on_hang_up, self._reload, partial(os.kill, os.getpid(), signal.SIGTERM))
                async with anyio.create_task_group() as self._tasks:
                    for number in range(1, self._settings.workers + 1):
                        self._tasks.start_soon(self._keep, number)
                services.cancel_scope.cancel()

    async def _obey(self, signals: AsyncIterator[signal.Signals]) -> None:
        """Pass signals on: at the first one the workers let what runs finish, at the second one they do not."""
        async for _ in signals:
            is_second = self._stop.is_set()
            self._stop.set()
            for worker in self._workers.values():
                worker.terminate()
            if is_second:
                break
        await anyio.sleep(FORCED_SECONDS)
        for worker in self._workers.values():
            worker.kill()

    def _reload(self) -> None:
        """Have every worker read the settings again. They tell what has changed; here it is the level of the log."""
        with suppress(SettingsError):
            logging.getLogger().setLevel(load_settings().log_level.upper())
        self._reloads += 1
        for worker in self._workers.values():
            worker.reload()

    async def _keep(self, number: int) -> None:
        """Have one worker, and another one when it has died, until told to stop."""
        delay = FIRST_DELAY
        while not self._stop.is_set():
            begun = anyio.current_time()
            try:
                how = f"ended ({ending(await self._run_worker(number))})"
            except WorkerNotStarted as error:
                how = f"cannot be started ({error})"
            if self._stop.is_set():
                return
            if not self._first_is_ready.is_set():
                self._deaths += 1
                if self._deaths >= MOST_DEATHS:
                    raise SettingsError(f"No worker comes to serve: the last one {how}. The log may tell why.")
            delay = FIRST_DELAY if anyio.current_time() - begun > LONGEST_DELAY else delay
            logger.warning("worker %d %s; it is started again in %g s", number, how, delay)
            with anyio.move_on_after(delay):
                await self._stop.wait()
            delay = min(delay * 2, LONGEST_DELAY)

    async def _run_worker(self, number: int) -> int | None:
        """Run a worker to its end, and give how it ended. Raises WorkerNotStarted."""
        status, reloads = None, self._reloads
        with ExitStack() as kept:
            try:
                listening = kept.enter_context(self._sockets.for_worker())
            except SettingsError as error:  # the port could be had when the gateway started
                raise WorkerNotStarted(str(error)) from error
            async with running_worker(
                number, self._settings.workers, listening, private_valkey=self._settings.redis_url is None
            ) as worker:  # fmt: skip
                kept.close()  # it has inherited it; what is kept open here would get connections that nobody accepts
                self._workers[number] = worker
                if self._stop.is_set():  # since its process was begun
                    worker.terminate()
                if reloads != self._reloads:  # likewise
                    worker.reload()
                try:
                    async with anyio.create_task_group() as tasks:
                        tasks.start_soon(self._start_in_turn, worker)
                        tasks.start_soon(self._kill_if_it_hangs, worker)
                        await worker.hear(self._hear)
                        status = await worker.wait()
                        tasks.cancel_scope.cancel()
                finally:
                    forget_metrics_of(worker.pid)
                    del self._workers[number]
                    self._slots.forget(number)
                    await self._tell_of_end(worker)
        return status

    async def _start_in_turn(self, worker: WorkerProcess) -> None:
        if worker.number != 1:
            await self._first_is_ready.wait()
        if self._embedded is not None:
            await worker.tell(self._embedded)
        await worker.tell({"kind": "start"})

    async def _kill_if_it_hangs(self, worker: WorkerProcess) -> None:
        """End a worker whose event loop says nothing for the time-out, and count it out before that.

        Silence is counted in looks and not in time: a supervisor that did not run itself has heard nobody.
        """
        pause = self._timeout / LOOKS
        while worker.silent_looks < LOOKS:
            await anyio.sleep(pause)
            was_hanging = worker.hangs
            worker.silent_looks += worker.ready
            if worker.hangs is not was_hanging:
                await self._tell_of_workers()
        logger.error("worker %d hangs: nothing from it for %g s", worker.number, self._timeout)
        worker.kill()

    def _grant_slots(self, number: int, backend: str, slots: int, word: int) -> None:
        if worker := self._workers.get(number):
            order = {"kind": "slots", "backend": backend, "slots": slots, "number": word}
            self._tasks.start_soon(worker.tell, order)

    async def _hear(self, worker: WorkerProcess, answer: dict[str, Any]) -> None:
        if worker.hangs:
            worker.silent_looks = 0
            await self._tell_of_workers()
        worker.silent_looks = 0
        match answer["kind"]:
            case "slots":
                numbers = {name: answer[name] for name in ("total", "number", "running", "wanted")}
                self._slots.report(worker.number, answer["backend"], **numbers)
            case "alive":
                if answer["breakers"] != worker.breakers:
                    worker.breakers = answer["breakers"]
                    await self._tell_of_workers()
            case "ready":
                self._password = self._password or answer["password"]
                worker.serves_as(answer["replica"])
                self._first_is_ready.set()
                await self._tell_of_workers()
                self._greet()
            case "drained":
                worker.drained = True
                await self._tell_drained()
            case "failed":
                if not self._first_is_ready.is_set():
                    raise SettingsError(answer["sentence"])
                logger.error("worker %d cannot start: %s", worker.number, answer["sentence"])
            case _:
                pass

    async def _tell_of_end(self, ended: WorkerProcess) -> None:
        """Let the others take over from a worker that died, if it died: of one that has stopped they find nothing."""
        if ended.ready and not self._stop.is_set():
            for worker in list(self._workers.values()):
                await worker.tell({"kind": "died", "replica": ended.replica_id})
        await self._tell_of_workers()
        await self._tell_drained()

    async def _tell_drained(self) -> None:
        """Let workers hang up that have nothing to do: those that stop alone at once, all together when all have."""
        workers = list(self._workers.values())
        if not self._stop.is_set() or all(worker.drained for worker in workers):
            for worker in workers:
                if worker.drained:
                    await worker.tell({"kind": "drained"})

    async def _tell_of_workers(self) -> None:
        workers = list(self._workers.values())
        hanging = sum(worker.hangs for worker in workers)
        ready = sum(worker.ready for worker in workers) - hanging
        breakers: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for worker in workers:
            for backend, state in worker.breakers.items():
                breakers[backend][state] += 1
        for worker in workers:
            await worker.tell({"kind": "workers", "ready": ready, "hanging": hanging, "breakers": breakers})

    async def _tell_of_model(self, status: EmbeddedStatus) -> None:
        self._embedded = {"kind": "embedded", **asdict(status)}
        for worker in list(self._workers.values()):
            await worker.tell(self._embedded)

    def _greet(self) -> None:
        """Say once that the gateway is there, when all workers are."""
        if self._greeted or sum(worker.ready for worker in self._workers.values()) < self._settings.workers:
            return
        self._greeted = True
        click.echo(welcome(self._settings, self._sockets.url, self._password))
