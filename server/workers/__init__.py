"""Several processes that serve on one port and act as one gateway: their supervisor, and their links to it."""

from server.settings import Settings
from server.workers.hang_ups import on_hang_up
from server.workers.link import WorkerLink
from server.workers.slot_reports import WorkerSlots
from server.workers.sockets import BACKLOG, bound, url_of

__all__ = ["BACKLOG", "WorkerLink", "WorkerSlots", "bound", "on_hang_up", "supervise", "url_of"]


def supervise(settings: Settings) -> None:
    """Serve with several workers until told to stop. Raises SettingsError, or a group of one."""
    from server.workers.supervisor import run_supervisor  # which a worker, and a gateway of one process, do without

    run_supervisor(settings)
