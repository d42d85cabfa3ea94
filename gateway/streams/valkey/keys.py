"""The names of the keys: as one server has them, and as a cluster does.

A cluster runs a script where all of its keys are in one hash slot, which the part of a name in braces decides. What
has ended is in books, so a stream and its book must share that part: in a cluster streams are put into `BUCKETS` by
their ids, and each bucket has books of its own. One server needs one book alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Protocol
from uuid import UUID

from gateway.streams.valkey.library import redis

BUCKETS = 1024
"""How many parts a cluster can be cut into: it uses so many servers at most. Never to be changed: it names keys."""


@dataclass(frozen=True, slots=True)
class Book:
    """What has ended, in one bucket: a sorted set of its streams, and what they take."""

    ended: str
    bytes: str

    @property
    def names(self) -> list[str]:
        """Both keys, as scripts take them."""
        return [self.ended, self.bytes]


class Keys(Protocol):
    """Where things are kept."""

    def stream(self, stream_id: UUID) -> list[str]:
        """Give the keys of a stream: its events, and what there is to know of it."""
        ...

    def book(self, stream_id: UUID) -> Book:
        """Give the book into which a stream goes when it ends."""
        ...

    @property
    def books(self) -> Sequence[Book]:
        """Give all books."""
        ...

    def probes(self, replica: str) -> Sequence[Sequence[str]]:
        """Give pairs of keys to which this replica may write to find out whether it can, one for each book."""
        ...

    def request_probes(self) -> Sequence[str]:
        """Give keys under which a count of requests is tried, one for each book."""
        ...


class ServerKeys:
    """One server's keys: the names that they have always had."""

    books: Sequence[Book] = (Book("ollagraph:ended", "ollagraph:bytes"),)

    def stream(self, stream_id: UUID) -> list[str]:
        """Give the keys of a stream."""
        name = f"ollagraph:{{{stream_id}}}"
        return [f"{name}:events", f"{name}:meta"]

    def book(self, stream_id: UUID) -> Book:
        """Give the one book."""
        return self.books[0]

    def probes(self, replica: str) -> Sequence[Sequence[str]]:
        """Give the one pair of keys."""
        return [self.stream(UUID(replica))]

    def request_probes(self) -> Sequence[str]:
        """Give the one key."""
        return ["ollagraph:requests:there"]


class ClusterKeys:
    """A cluster's keys."""

    def __init__(self) -> None:
        self._tags = _tags()
        self.books: Sequence[Book] = [
            Book(f"ollagraph:{{{tag}}}:ended", f"ollagraph:{{{tag}}}:bytes") for tag in _tags()
        ]

    def stream(self, stream_id: UUID) -> list[str]:
        """Give the keys of a stream."""
        prefix = f"ollagraph:{{{self._tags[_bucket(stream_id)]}}}:{stream_id}"
        return [f"{prefix}:events", f"{prefix}:meta"]

    def book(self, stream_id: UUID) -> Book:
        """Give the book of its bucket."""
        return self.books[_bucket(stream_id)]

    def probes(self, replica: str) -> Sequence[Sequence[str]]:
        """Give a pair of keys in each bucket."""
        return [[f"ollagraph:{{{tag}}}:{replica}:events", f"ollagraph:{{{tag}}}:{replica}:meta"] for tag in self._tags]

    def request_probes(self) -> Sequence[str]:
        """Give a key in each bucket."""
        return [f"ollagraph:requests:{{{tag}}}:there" for tag in self._tags]


def _bucket(stream_id: UUID) -> int:
    return stream_id.int % BUCKETS  # the last bits, which are random


@cache
def _tags() -> tuple[str, ...]:
    """Give each bucket the least number whose hash slot is in its part of all slots.

    Numbers alone would fall into slots at random, and a server could have twice as many of them as another.
    """
    part = redis.crc.REDIS_CLUSTER_HASH_SLOTS // BUCKETS
    found: dict[int, str] = {}
    number = 0
    while len(found) < BUCKETS:
        found.setdefault(redis.crc.key_slot(str(number).encode()) // part, str(number))
        number += 1
    return tuple(found[bucket] for bucket in range(BUCKETS))
