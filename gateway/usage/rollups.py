"""Keeps the sums of the ledger: each row is added soon after it was written, and marked in the same transaction."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Any, NamedTuple, TypeAlias
from uuid import UUID

import orjson
from sqlalchemy import RowMapping

from db import queries
from db.engine import WriteSession
from gateway.usage.groupings import (
    ALL,
    API_KEY,
    BACKEND,
    BY_TAG,
    DAY,
    END_USER,
    FINISH,
    HOUR,
    IN_GROUP,
    MODEL,
    MOST_VALUES,
    QUARTER,
    TOTAL,
    USER,
    Grouping,
)
from gateway.usage.histograms import measured

_MOST_KNOWN = 100_000

Row: TypeAlias = Mapping[str, Any] | RowMapping
"""The columns of a row of the ledger by name."""


class Key(NamedTuple):
    """What one series of sums is about. `other` is for values that get no series of their own."""

    grouping: str
    user_id: UUID | None = None
    api_key_id: UUID | None = None
    model: str | None = None
    backend: str | None = None
    state: str | None = None
    finish_reason: str | None = None
    group_id: str | None = None
    tag_name: str | None = None
    tag_value: str | None = None
    end_user: str | None = None
    currency: str | None = None
    other: bool = False


@lru_cache(maxsize=_MOST_KNOWN)
def id_of(key: Key) -> int:
    """Give the number of a key: 64 bits of a hash, so that nobody needs to ask for it.

    Of a million keys two have the same number in one of thirty million gateways.
    """
    return int.from_bytes(
        blake2b(orjson.dumps([None if part is None else str(part) for part in key]), digest_size=8).digest(),
        signed=True,
    )


class _Sums:
    """The sums of some rows of the ledger."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self.keys: dict[int, Key] = {}
        self.sums: dict[tuple[int, int, int], list[int]] = {}
        self.bins: dict[tuple[int, int, int, int, int], int] = {}
        for row in rows:
            self._add(row)

    def _add(self, row: Row) -> None:
        epoch = int(row["at"].timestamp())
        quarter, hour, day = epoch - epoch % QUARTER, epoch - epoch % HOUR, epoch - epoch % DAY
        counts = [
            1,
            *(int(row["state"] == state) for state in queries.usage.STATES),
            row["prompt_tokens"],
            row["completion_tokens"],
        ]
        counts += [
            row["cached_tokens"] or 0,
            row["thinking_tokens"] or 0,
            *divmod(row.get("cost_nano") or 0, queries.usage.NANO),
        ]
        times = (row["eval_ms"], row["time_to_first_token_ms"], row["last_token_ms"], row["total_ms"])
        bins = measured(row["completion_tokens"], *times)
        for grouping, key in keys_of(row):
            number = id_of(key)
            self.keys[number] = key
            for place in ((number, QUARTER, quarter), (number, DAY, day)):
                sums = self.sums.get(place)
                self.sums[place] = counts if sums is None else [a + b for a, b in zip(sums, counts, strict=True)]
            for measure, bin in bins.items() if grouping.binned else ():
                for place in ((number, HOUR, hour, measure, bin), (number, DAY, day, measure, bin)):
                    self.bins[place] = self.bins.get(place, 0) + 1

    def merge(self, number: int) -> None:
        """Count what a key has under the one that values share. Its grouping set has no histograms."""
        key = self.keys.pop(number)
        shared = Key(key.grouping, key.user_id, currency=key.currency, other=True)
        self.keys[id_of(shared)] = shared
        for place in [place for place in self.sums if place[0] == number]:
            counts, into = self.sums.pop(place), (id_of(shared), *place[1:])
            sums = self.sums.get(into)
            self.sums[into] = counts if sums is None else [a + b for a, b in zip(sums, counts, strict=True)]

    def rollup_rows(self) -> list[dict[str, object]]:
        """Give the rows to be added, in the order in which everybody adds them."""
        return [
            {
                "key_id": place[0],
                "seconds": place[1],
                "start": place[2],
                **dict(zip(queries.usage.SUMMED, counts, strict=True)),
            }
            for place, counts in sorted(self.sums.items())
        ]

    def bin_rows(self) -> list[dict[str, object]]:
        """Give the counts to be added, in the order in which everybody adds them."""
        names = ("key_id", "seconds", "start", "measure", "bin")
        return [
            dict(zip((*names, "generations"), (*place, count), strict=True))
            for place, count in sorted(self.bins.items())
        ]


def keys_of(row: Row) -> Iterator[tuple[Grouping, Key]]:
    """Give the series that a row of the ledger is in."""
    currency = row.get("currency")
    user, api_key, model, backend = row["user_id"], row["api_key_id"], row["model"], row["backend"]
    reason = row["finish_reason"]
    ended = Key("", state=str(row["state"]), finish_reason=None if reason is None else str(reason), currency=currency)
    yield TOTAL, Key(TOTAL.name, currency=currency)
    yield MODEL, Key(MODEL.name, model=model, currency=currency)
    yield BACKEND, Key(BACKEND.name, backend=backend, currency=currency)
    yield FINISH, ended._replace(grouping=FINISH.name)
    yield USER, Key(USER.name, user, currency=currency)
    yield API_KEY, Key(API_KEY.name, user, api_key, currency=currency)
    yield (
        ALL,
        ended._replace(grouping=ALL.name, user_id=user, api_key_id=api_key, model=model, backend=backend),
    )
    yield END_USER, Key(END_USER.name, user, end_user=row["end_user"], currency=currency)
    for group in row["group_ids"] or (None,):
        yield IN_GROUP, Key(IN_GROUP.name, group_id=group, currency=currency)
    for name, value in (row["tags"] or {None: None}).items():
        yield BY_TAG, Key(BY_TAG.name, user, tag_name=name, tag_value=value, currency=currency)


class Rollups:
    """Writes sums. Of one task, which writes one transaction after the other and tells when one is `committed`."""

    def __init__(self) -> None:
        self._known: set[int] = set()
        self._denied: set[int] = set()  # keys of values that have no series of their own, and never get one
        self._written: tuple[set[int], set[int]] = set(), set()

    async def add(self, tx: WriteSession, rows: Sequence[Row]) -> None:
        """Add rows of the ledger to all sums, in the transaction that writes or marks the rows."""
        self._written = set(), set()
        if not rows:
            return
        sums = _Sums(rows)
        denied = await self._denied_of(tx, sums)
        for number in denied:
            sums.merge(number)
        new = sums.keys.keys() - self._known
        if new:
            keys = [{"id": number, **sums.keys[number]._asdict()} for number in sorted(new)]
            await queries.usage.rollups.add_keys(tx, keys)
        await queries.usage.rollups.add_rollups(tx, sums.rollup_rows())
        await queries.usage.rollups.add_bins(tx, sums.bin_rows())
        self._written = new, denied

    def committed(self) -> None:
        """Note that the last transaction was committed: what it wrote of keys need not be written again."""
        new, denied = self._written
        if len(self._known) + len(self._denied) > _MOST_KNOWN:
            self._known.clear()
            self._denied.clear()
        self._known |= new
        self._denied |= denied

    async def _denied_of(self, tx: WriteSession, sums: "_Sums") -> set[int]:
        """Give the keys whose values callers made up, and of which their user has too many already."""
        new = {it: key for it, key in sums.keys.items() if it not in self._known and _is_made_up(key)}
        denied = new.keys() & self._denied
        asked = {it: key for it, key in new.items() if it not in denied}
        if not asked:
            return denied
        await queries.usage.rollups.lock_keys(tx)
        missing = asked.keys() - await queries.usage.rollups.known_keys(tx, asked.keys())
        for grouping in _OPEN:
            among = {it: asked[it] for it in sorted(missing) if asked[it].grouping == grouping}
            if among:
                users = {key.user_id for key in among.values()}
                counts = await queries.usage.rollups.count_keys(tx, grouping, users)
                for number, key in among.items():
                    counts[key.user_id] = counts.get(key.user_id, 0) + 1
                    if counts[key.user_id] > MOST_VALUES:
                        denied.add(number)
        return denied


_OPEN = tuple(grouping.name for grouping in (BY_TAG, END_USER))


def _is_made_up(key: Key) -> bool:
    """Tell whether a key has a value that a caller chose."""
    return key.tag_name is not None or key.end_user is not None
