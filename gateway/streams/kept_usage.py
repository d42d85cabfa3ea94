"""What running generations have used, in a file that outlives the process: `kill -9` cannot take back what was written.

Each read of a model server is noted before anything of it is shown. So whoever takes over on the same machine bills all
that viewers saw, also where the stream log was lost together with the gateway. The file holds numbers and no text.

A note is one `write` of 40 bytes into the page cache, about a microsecond: no memory map, since a full disk would then
be a signal that ends the process, and not an error. The lock of a file tells whether its process lives.
"""

import fcntl
import logging
import os
import struct
import time
from pathlib import Path
from uuid import UUID

from gateway.streams.events import NO_USAGE, TokenUsage, UsageSource, UsageSources

logger = logging.getLogger(__name__)

KEPT_SECONDS = 3_600
"""How long the file of a process that was killed is kept: far longer than its generations wait for a new one."""

_PATTERN = "usage-*.notes"
_NOTE = struct.Struct("<16siiii5B3x")
_EMPTY = bytes(_NOTE.size)
_SOURCES: tuple[UsageSource | None, ...] = (None, *UsageSource)
"""A number's source is its place here. Before the sources of all numbers stands the weakest, counted from 0."""

_NOT_TOLD = -1


class KeptUsage:
    """The file of this process in a folder, beside those of others. Where none can be written, nothing is noted."""

    def __init__(self, folder: Path, replica_id: UUID) -> None:
        self._folder = folder
        self._path = folder / f"usage-{replica_id}.notes"
        self._places: dict[UUID, tuple[int, bytes]] = {}  # where the note of each stands, and how it begins
        self._free: list[int] = []
        self._file: int | None = None
        self._kept = False
        self._last_sources: UsageSources | None = None
        self._source_places: tuple[int, ...] = ()
        try:
            _remove_old(folder)
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._file, fcntl.LOCK_EX)
        except OSError as error:
            self._give_up(error)

    def note(self, generation_id: UUID, usage: TokenUsage) -> None:
        """Write what a generation has used so far, over what was noted of it before."""
        if self._file is None:
            return
        found = self._places.get(generation_id)
        if found is None:
            place = self._free.pop() if self._free else len(self._places)
            found = self._places[generation_id] = place, generation_id.bytes
        cached = _NOT_TOLD if usage.cached_tokens is None else usage.cached_tokens
        thinking = _NOT_TOLD if usage.thinking_tokens is None else usage.thinking_tokens
        if usage.sources != self._last_sources:  # seldom, and to look up their places takes longer than the rest
            self._last_sources = usage.sources
            self._source_places = (_SOURCES.index(usage.source) - 1, *map(_SOURCES.index, usage.sources))
        numbers = (usage.prompt_tokens, usage.completion_tokens, cached, thinking)
        self._write(found[0], _NOTE.pack(found[1], *numbers, *self._source_places))

    def forget(self, generation_id: UUID) -> None:
        """Give up the note of a generation: its end is on record, or another gateway has it."""
        found = None if self._kept else self._places.pop(generation_id, None)
        if found is not None:
            self._free.append(found[0])
            self._write(found[0], _EMPTY)

    def keep(self) -> None:
        """Leave all notes for whoever comes next: this process ends, and no store took what they tell."""
        self._kept = True

    def left(self, generation_id: UUID) -> TokenUsage:
        """Give what another process noted of a generation last: the most, where several had it."""
        found = [usage for path in self._folder.glob(_PATTERN) if (usage := _read(path, generation_id))]
        return max(found, key=lambda usage: usage.completion_tokens, default=NO_USAGE)

    def close(self) -> None:
        """Remove the file: all has come to its end."""
        if self._file is not None and not self._kept:
            os.close(self._file)
            self._file = None
            self._path.unlink(missing_ok=True)

    def _write(self, place: int, note: bytes) -> None:
        if self._file is not None:
            try:
                os.pwrite(self._file, note, place * _NOTE.size)
            except OSError as error:
                self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        logger.warning("what generations use is not kept in case this process is killed: %s", error)
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _read(path: Path, generation_id: UUID) -> TokenUsage | None:
    try:
        data = path.read_bytes()
    except OSError:
        return None
    wanted, found = generation_id.bytes, data.find(generation_id.bytes)
    while found >= 0 and found % _NOTE.size:
        found = data.find(wanted, found + 1)
    if found < 0 or len(data) - found < _NOTE.size:
        return None
    numbers: tuple[int, ...] = _NOTE.unpack_from(data, found)[1:]
    prompt, completion, *told = numbers[:4]
    cached, thinking = (None if number == _NOT_TOLD else number for number in told)
    try:
        sources = _sources(numbers[4:], prompt, cached, thinking)
    except (IndexError, ValueError):
        return None
    return TokenUsage(prompt, completion, cached, sources, thinking)


def _sources(told: tuple[int, ...], prompt: int, cached: int | None, thinking: int | None) -> UsageSources:
    """Read the sources. Gateways before 1.0 noted the weakest alone."""
    if not told[1]:
        return UsageSources.of_weakest(tuple(UsageSource)[told[0]], prompt, cached, thinking)
    first, second, *others = (_SOURCES[place] for place in told[1:])
    return UsageSources(UsageSource(first), UsageSource(second), *others)


def _remove_old(folder: Path) -> None:
    """Remove the files of processes that were killed long ago."""
    for path in folder.glob(_PATTERN):
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if time.time() - os.fstat(descriptor).st_mtime > KEPT_SECONDS:
                path.unlink(missing_ok=True)
        except OSError:
            pass  # its process lives
        finally:
            os.close(descriptor)
