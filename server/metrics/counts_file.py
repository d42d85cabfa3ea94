"""What one process has counted, in a file that the others read: in the place of prometheus-client's own `MmapedDict`.

That writes over a memory map, where a full disk is no error but a signal that ends the process: all workers died, and
all streams with them. Here it is an error, told once, and what is missing is written as soon as there is room.
"""

import errno
import logging
import os
import struct
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import cast

from prometheus_client import values
from prometheus_client.mmap_dict import MmapedDict

logger = logging.getLogger(__name__)

_USED = struct.Struct("i4x")
"""The head of the file: how many bytes of it hold something."""

_VALUE = struct.Struct("dd")
"""A value and its time, behind the length of its key, and the key."""


_read_all = cast("Callable[[str], Iterable[tuple[str, float, float, int]]]", MmapedDict.read_all_values_from_file)


class CountsFile:
    """Keeps values by their keys, in the format that `MultiProcessCollector` reads."""

    def __init__(self, filename: str) -> None:
        self._file = os.open(filename, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._values: dict[str, tuple[float, float]] = {}
        self._places: dict[str, int] = {}
        self._used = _USED.size
        self._late: set[str] = set()
        self._failed = False
        if Path(filename).stat().st_size:  # of a process that had the same number
            for key, value, timestamp, place in _read_all(filename):
                self._values[key], self._places[key] = (value, timestamp), place
                self._used = place + _VALUE.size

    def read_value(self, key: str) -> tuple[float, float]:
        """Give a value and its time; it begins with 0."""
        if key not in self._values:
            self.write_value(key, 0.0, 0.0)
        return self._values[key]

    def write_value(self, key: str, value: float, timestamp: float) -> None:
        """Set a value. What the disk does not take is written with whatever it takes next."""
        self._values[key] = value, timestamp
        self._late.add(key)
        try:
            for each in sorted(self._late, key=lambda late: late not in self._places):  # first what needs no more room
                self._put(each, *self._values[each])
                self._late.remove(each)
        except OSError as error:
            if not self._failed:
                logger.error("what is counted here cannot be told by other workers: %s", error)
            self._failed = True
        else:
            self._failed = False

    def close(self) -> None:
        """Write no more."""
        os.close(self._file)

    def _put(self, key: str, value: float, timestamp: float) -> None:
        place = self._places.get(key)
        if place is None:
            self._add(key, value, timestamp)
        else:
            self._write(_VALUE.pack(value, timestamp), place)

    def _add(self, key: str, value: float, timestamp: float) -> None:
        """Write a value that has no place yet; nobody reads it before the head tells of it."""
        encoded = key.encode()
        padded = encoded + b" " * (8 - (len(encoded) + 4) % 8)
        entry = struct.pack(f"i{len(padded)}s", len(encoded), padded) + _VALUE.pack(value, timestamp)
        self._write(entry, self._used)
        self._write(_USED.pack(self._used + len(entry)), 0)
        self._used += len(entry)
        self._places[key] = self._used - _VALUE.size

    def _write(self, data: bytes, place: int) -> None:
        if os.pwrite(self._file, data, place) < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def count_in_files() -> None:
    """Have prometheus-client write this way, for all that is counted from now on."""
    values.MmapedDict = CountsFile  # pyright: ignore[reportPrivateImportUsage]
