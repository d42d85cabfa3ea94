"""The slots of a worker: its queues tell the supervisor what they need, and get what they may use."""

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from server.workers.link import WorkerLink

if TYPE_CHECKING:
    from gateway.catalog import BackendQueue  # which takes 40 MB, and the supervisor has none

PAUSE_SECONDS = 0.2
"""How late the supervisor may hear of what changes nothing for anybody now."""


class WorkerSlots:
    """The queues of all backends, by their names, in the hands of the supervisor. To be made in the event loop."""

    def __init__(self, link: WorkerLink, queues: "Mapping[str, BackendQueue]") -> None:
        self._link = link
        self._queues = queues
        self._heard = dict.fromkeys(queues, 0)
        self._told: dict[str, Any] = {}
        self._later: dict[str, asyncio.TimerHandle] = {}
        link.on_slots = self._grant
        for name, queue in queues.items():
            queue.changed = partial(self._changed, name)
            self._tell(name)

    def _grant(self, order: dict[str, Any]) -> None:
        self._heard[order["backend"]] = order["number"]
        self._queues[order["backend"]].grant(order["slots"])
        self._tell(order["backend"])

    def _changed(self, name: str) -> None:
        """Tell at once where somebody waits here, or somewhere else for what ends here; else in a moment."""
        queue = self._queues[name]
        if queue.waiting or queue.running >= queue.slots:
            self._tell(name)
        elif name not in self._later:
            self._later[name] = asyncio.get_running_loop().call_later(PAUSE_SECONDS, self._tell, name)

    def _tell(self, name: str) -> None:
        if timer := self._later.pop(name, None):
            timer.cancel()
        queue = self._queues[name]
        report = {
            "kind": "slots",
            "backend": name,
            "total": queue.total,
            "number": self._heard[name],
            "running": queue.running,
            "wanted": queue.running + queue.waiting,
        }
        if report == self._told.get(name):
            return
        if self._link.tell_if_heard(report):
            self._told[name] = report
        else:
            self._later[name] = asyncio.get_running_loop().call_later(PAUSE_SECONDS, self._tell, name)
