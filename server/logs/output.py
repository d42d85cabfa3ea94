"""Where the log goes: to standard error or a file, written by a thread of its own."""

import atexit
import fcntl
import logging
import os
import queue
import select
import sys
from contextlib import suppress
from copy import copy
from logging.handlers import QueueHandler, QueueListener, RotatingFileHandler, WatchedFileHandler
from pathlib import Path

from server.logs.lines import formatter
from server.logs.requests import NO_REQUEST, current
from server.settings import PREFIX, Settings, SettingsError

QUIET = (
    "httpx",
    "httpcore",
    "uvicorn",
    "alembic",
    "asyncio",
    "aiosqlite",
    "websockets",
    "sqlalchemy",
    "opentelemetry",
    "urllib3",
)
"""Loggers of libraries that say too much, below warnings: at "debug" aiosqlite writes statements with their values."""

MOST_WAITING = 10_000
"""Entries that wait to be written. When so many do, whoever logs waits, too: nothing is dropped."""

STANDARD_ERROR = 2


class Log:
    """The log as it was configured, until it is closed."""

    def __init__(self, output: logging.Handler, worker: int | None) -> None:
        self._output = output
        self._finished = False
        self._direct = _Direct(output, worker)
        waiting: queue.Queue[logging.LogRecord] = queue.Queue(MOST_WAITING)
        self._entrance = _Entrance(waiting, worker)
        self._listener = QueueListener(waiting, output)
        self._listener.start()
        logging.getLogger().addHandler(self._entrance)
        atexit.register(self.finish)

    def finish(self) -> None:
        """Write what waits, and from then on everything at once: the program ends."""
        if self._finished:
            return
        self._finished = True
        atexit.unregister(self.finish)
        root = logging.getLogger()
        root.addHandler(self._direct)
        root.removeHandler(self._entrance)
        self._listener.stop()

    def close(self) -> None:
        """Write what waits, and log nothing any more."""
        self.finish()
        logging.getLogger().removeHandler(self._direct)
        self._output.close()


def configure(settings: Settings, worker: int | None = None) -> Log:
    """Send all that is logged from now on to where the settings say.

    `worker` is the number of this process among several that log; each line names it. Our own access log replaces
    uvicorn's, and libraries stay silent below warnings. Raises SettingsError for a file that cannot be written.
    """
    log = Log(_output(settings, worker), worker)
    logging.getLogger().setLevel(settings.log_level.upper())
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    for area, level in (settings.log_levels or {}).items():
        logging.getLogger(area).setLevel(level.upper())
    return log


def _output(settings: Settings, worker: int | None) -> logging.Handler:
    if settings.log_file is None:
        output: logging.Handler = _StandardError(alone=settings.workers == 1)
    else:
        path = settings.log_file if worker is None else worker_file(settings.log_file, worker)
        try:
            output = _file(path, settings.log_max_size, settings.log_backups)
        except OSError as error:
            reason = error.strerror or str(error)
            raise SettingsError(
                f"{PREFIX}LOG_FILE: {path} cannot be written ({reason}). Set it to a file in a folder that is there "
                "and that the gateway may write to."
            ) from error
    in_terminal = settings.log_file is None and sys.stderr.isatty()
    json = settings.log_format == "json" or (settings.log_format == "auto" and not in_terminal)
    output.setFormatter(formatter(json=json, colors=in_terminal and "NO_COLOR" not in os.environ))
    return output


def worker_file(path: Path, worker: int) -> Path:
    """Give the file of a worker: several processes that turn one file over would lose lines of each other."""
    return path.with_name(f"{path.stem}-worker{worker}{path.suffix}")


def _file(path: Path, max_size: int, backups: int) -> logging.Handler:
    if max_size:
        return RotatingFileHandler(path, maxBytes=max_size, backupCount=backups, encoding="utf-8")
    return WatchedFileHandler(path, encoding="utf-8")  # opens a new one when logrotate has moved it away


class _Entrance(QueueHandler):
    """Takes records where they are logged, and leaves rendering and writing to another thread."""

    def __init__(self, waiting: "queue.Queue[logging.LogRecord]", worker: int | None) -> None:
        super().__init__(waiting)
        self._waiting = waiting
        self._worker = worker

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        """Note what is only known here. The message is made now, for what it is made of may change."""
        return _completed(record, self._worker)

    def enqueue(self, record: logging.LogRecord) -> None:
        """Hand over, waiting where too much waits."""
        self._waiting.put(record)


class _Direct(logging.Handler):
    """Writes at once, when the thread that writes has ended."""

    def __init__(self, output: logging.Handler, worker: int | None) -> None:
        super().__init__()
        self._output = output
        self._worker = worker

    def emit(self, record: logging.LogRecord) -> None:
        """Write one entry."""
        self._output.handle(_completed(record, self._worker))


def _completed(record: logging.LogRecord, worker: int | None) -> logging.LogRecord:
    record = copy(record)  # others may be handed it, too
    record.msg, record.args = record.getMessage(), None
    request = current.get()
    record.request = None if request is NO_REQUEST else request
    record.worker = worker
    return record


class _StandardError(logging.Handler):
    """Writes each entry whole.

    Several processes share one pipe, and the system keeps writes to it together up to 4 kB only: where they are not
    `alone`, each holds a lock while it writes.
    """

    def __init__(self, *, alone: bool) -> None:
        super().__init__()
        self._alone = alone

    def emit(self, record: logging.LogRecord) -> None:
        """Write one entry."""
        try:
            data = self.format(record).encode("utf-8", "backslashreplace") + b"\n"
        except Exception:
            self.handleError(record)
            return
        if not self._alone:
            with suppress(OSError):  # what cannot be locked
                fcntl.lockf(STANDARD_ERROR, fcntl.LOCK_EX)
        with suppress(BrokenPipeError):  # nobody reads any more
            _write_all(data)
        if not self._alone:
            with suppress(OSError):
                fcntl.lockf(STANDARD_ERROR, fcntl.LOCK_UN)


def _write_all(data: bytes) -> None:
    while data:
        try:
            data = data[os.write(STANDARD_ERROR, data) :]
        except BlockingIOError:
            select.select([], [STANDARD_ERROR], [])
