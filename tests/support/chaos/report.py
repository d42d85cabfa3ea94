"""What chaos has done to the streams, in numbers."""

import sqlite3
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import asyncpg

from schema.node import parse_uuid
from tests.support.chaos.streams import Stream, Tally, code_of

UNDER_WAY = {"QUEUED", "RUNNING"}

FIRST_FENCE = 1
"""Of a generation that its first gateway took to its end."""


class Record(NamedTuple):
    """One generation: its state, its completion tokens, how many rows of the ledger it has, how often it was taken.

    `cut_off`: its gateway was killed, or was about to show more of its text than Valkey had.
    """

    state: str
    tokens: int
    records: int
    fence: int
    cut_off: bool


LEDGER = """
SELECT g.id, g.state, g.fence, count(u.generation_id) AS records, sum(u.completion_tokens) AS used,
  g.detached_at IS NOT NULL OR g.error_code = 'INTERRUPTED' AS cut_off
FROM generations g LEFT JOIN usage u ON u.generation_id = g.id GROUP BY g.id
"""


async def ledger(database_url: str) -> dict[str, Record]:
    """What the database tells of each generation, by its id."""
    rows: Sequence[Any]
    if database_url.startswith("sqlite:"):
        with closing(sqlite3.connect(database_url.removeprefix("sqlite:///"))) as database:
            rows = database.execute(LEDGER).fetchall()
    else:
        connection = await asyncpg.connect(database_url)
        try:
            rows = await connection.fetch(LEDGER)
        finally:
            await connection.close()
    return {
        str(UUID(str(id))): Record(state, used or 0, records, fence, bool(cut_off))
        for id, state, fence, records, used, cut_off in rows
    }


def sent(journal: Path) -> Counter[str]:
    """How many tokens the model servers truly sent, by the name in the prompt."""
    return Counter(journal.read_text().split())


def report(
    streams: Sequence[Stream], rows: dict[str, Record], truth: Counter[str], tally: Tally, *, may_expire: bool
) -> int:
    """Print everything; gives what must be 0."""
    lost = sum(stream.lost + _missing(stream) for stream in streams)
    doubled = sum(stream.doubled + _surplus(stream) for stream in streams)
    ends = sum(1 for stream in streams if not _has_one_end(stream))
    gone = [stream for stream in streams if stream.expired or (_is_gone(stream) and stream.text)]
    unduly = [stream for stream in gone if stream.id and not (may_expire or _row(stream, rows).cut_off)]
    unrecorded = sum(1 for row in rows.values() if row.records != 1 or row.state in UNDER_WAY)
    extra = len(rows) - len(streams)
    print(f"streams                                          {len(streams)}")
    print(f"  ended as                                       {_states(streams)}")
    print(f"  gone on with after a lost gateway / backend    {_seams(streams)}")
    print(f"  told that the text is gone                     {len(gone)}")
    print(f"  keys evicted                                   {len(tally.evicted)}")
    print(f"lost characters                                  {lost}")
    print(f"doubled characters                               {doubled}")
    print(f"generations without exactly one terminal event   {ends}")
    print(f"generations without exactly one ledger row       {unrecorded}")
    print(f"generations that nobody asked for                {extra}")
    for stream in streams:
        if stream.lost or stream.doubled or _missing(stream) or _surplus(stream) or not _has_one_end(stream):
            print(f"  {_wound(stream)}")
    for stream in unduly:
        print(f"  told as gone: {_wound(stream)}, {_row(stream, rows)}")
    wrong = 0
    misbilled = list(_misbilled(streams, rows, truth, tally.evicted))
    short, over = (sum(max(0, amounts[which]) for amounts in misbilled) for which in (0, 1))
    print(f"tokens that were shown and are in no usage       {short}")
    print(f"tokens in the usage that nobody sent             {over}")
    for name, group in _groups(streams, rows).items():
        differences = [_difference(stream, rows, truth) for stream in group]
        off = [difference for difference in differences if difference]
        wrong += sum(map(abs, off)) if name == "neither" else 0
        tokens = sum(truth[stream.name] for stream in group)
        print(
            f"|usage - sent|, crossed {name:<25}{sum(map(abs, off))} of {tokens} tokens, in {len(off)} of {len(group)} "
            f"streams; from {min(off, default=0)} to {max(off, default=0)}"
        )
    times = sorted(tally.resume_seconds) or [0.0]
    p99 = times[min(len(times) - 1, len(times) * 99 // 100)]
    median = statistics.median(times)
    print(
        f"cut to next text at another gateway              {median * 1000:.0f} ms median, {p99 * 1000:.0f} ms p99, "
        f"of {len(times)}"
    )
    print(f"what clients had to try again                    {dict(tally.retries)}")
    return lost + doubled + ends + unrecorded + extra + short + over + wrong + len(unduly)


def _wound(stream: Stream) -> str:
    """One that is not whole, for who looks for the reason in the logs."""
    at = next((index for index, (a, b) in enumerate(zip(stream.text, stream.expected, strict=False)) if a != b), -1)
    ends = [f"{end['__typename']} {code_of(end)}" for end in stream.terminals]
    return (
        f"{stream.name} {parse_uuid(stream.id or '', 'Generation')} {ends}: {len(stream.text)} characters, the first "
        f"wrong at {at}; {stream.lost} lost and {stream.doubled} doubled on the way; read again "
        f"{len(_text(stream.again))} characters, seams {_reasons(stream)}, seen {stream.seams}"
    )


def _is_gone(stream: Stream) -> bool:
    """Whether its client was told so: by a code, or by an interrupted generation of which nothing is shown."""
    return stream.expired or (len(stream.again) == 1 and code_of(stream.again[0]) == "INTERRUPTED")


def _missing(stream: Stream) -> int:
    if _is_gone(stream):
        return 0
    whole = _text(stream.again)
    short = max(0, len(whole) - len(stream.text))
    if stream.terminals and stream.terminals[-1]["__typename"] == "GenerationCompleted":
        short += max(0, len(stream.expected) - len(stream.text))
    return short


def _surplus(stream: Stream) -> int:
    if _is_gone(stream):
        return 0 if stream.expected.startswith(stream.text) else len(stream.text)
    whole = _text(stream.again)
    begins = stream.expected.startswith(stream.text) and stream.expected.startswith(whole)
    return max(0, len(stream.text) - len(whole)) + (0 if begins else len(stream.text))


def _text(events: Iterable[dict[str, object]]) -> str:
    return "".join(str(event["text"]) for event in events if event["__typename"] == "TextDelta")


def _has_one_end(stream: Stream) -> bool:
    if stream.expired:
        return len(stream.terminals) <= 1
    ends = [event["__typename"] for event in stream.again if "usage" in event]
    return len(ends) == 1 and len(stream.terminals) == 1 and ends[0] == stream.terminals[0]["__typename"]


def _states(streams: Sequence[Stream]) -> dict[str, int]:
    return dict(Counter(code_of(end) or "COMPLETED" for stream in streams for end in stream.terminals[:1]))


def _seams(streams: Sequence[Stream]) -> str:
    seams = Counter(reason for stream in streams for reason in _reasons(stream))
    return f"{seams['GATEWAY_LOST']} / {seams['BACKEND_LOST']} times"


def _reasons(stream: Stream) -> list[str]:
    return [str(event["lossReason"]) for event in stream.again if event["__typename"] == "GenerationResumed"]


def _groups(streams: Sequence[Stream], rows: dict[str, Record]) -> dict[str, list[Stream]]:
    """By what they crossed: a gateway that was killed or stopped, a killed model server alone, or neither."""
    groups: dict[str, list[Stream]] = {"neither": [], "a killed model server": [], "a gateway that ended": []}
    for stream in streams:
        if stream.id is None:
            continue  # all that its client was told is that the text is gone
        code = code_of(stream.terminals[0]) if stream.terminals else ""
        if _row(stream, rows).fence > FIRST_FENCE or code in {"INTERRUPTED", "SHUTTING_DOWN"}:
            groups["a gateway that ended"].append(stream)
        elif "BACKEND_LOST" in _reasons(stream) or code.startswith("BACKEND"):
            groups["a killed model server"].append(stream)
        else:
            groups["neither"].append(stream)
    return groups


def _difference(stream: Stream, rows: dict[str, Record], truth: Counter[str]) -> int:
    return _row(stream, rows).tokens - truth[stream.name]


def _misbilled(
    streams: Sequence[Stream], rows: dict[str, Record], truth: Counter[str], evicted: Sequence[str]
) -> Iterator[tuple[int, int]]:
    """By how much the usage of each is below what was shown of it, and above what was sent for it.

    What was shown is not asked of those that lost a key while nobody else knew what they had used.
    """
    for stream in streams:
        if stream.id is not None:
            shown = max(len(text.split()) for text in (stream.text, _text(stream.again)))
            row, name = _row(stream, rows), str(parse_uuid(stream.id, "Generation"))
            if row.fence > FIRST_FENCE and any(name in key for key in evicted):
                shown = 0
            if shown > row.tokens or row.tokens > truth[stream.name]:
                print(f"  {stream.name} shown {shown}, used {row.tokens}, sent {truth[stream.name]}")
            yield shown - row.tokens, row.tokens - truth[stream.name]


def _row(stream: Stream, rows: dict[str, Record]) -> Record:
    assert stream.id is not None
    return rows[str(parse_uuid(stream.id, "Generation"))]
