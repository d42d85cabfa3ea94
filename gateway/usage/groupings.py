"""By which dimensions the ledger is summed up ahead, and which of these sums answer a report.

Each row of the ledger is in one series of every grouping set (of tags and groups, in one for each that it has):

    TOTAL  MODEL  BACKEND  FINISH  USER  API_KEY  GROUP    one dimension: few series, so that a year is few rows
    ALL                                                    all of them but groups: for a user's own reports, and two
                                                           dimensions at once
    TAG  END_USER                                          of each user; names that callers choose, so their number is
                                                           limited (`MOST_VALUES`)

Sums are kept for each quarter of an hour and each UTC day, histograms for each hour and each UTC day. Every offset of a
time zone is a multiple of the first, and nearly every one of the second. Of both, months are made (`months.py`).
"""

from collections.abc import Collection
from dataclasses import dataclass

from db import queries
from db.queries import UsageChoice

GROUP, TAG = queries.usage.GROUP, queries.usage.TAG

QUARTER = 900
HOUR = 3_600
DAY, MONTH = queries.usage.DAY, queries.usage.MONTH

MOST_VALUES = 1_000
"""Tags, and end users, of one user that get series of their own; later ones share one, and are told from the rows."""


@dataclass(frozen=True, slots=True)
class Grouping:
    """A grouping set: its name, its dimensions, and whether histograms are kept of it. `open` if callers name it."""

    name: str
    columns: tuple[str, ...]
    binned: bool = False
    open: bool = False


TOTAL = Grouping("TOTAL", (), binned=True)
MODEL = Grouping("MODEL", ("model",), binned=True)
BACKEND = Grouping("BACKEND", ("backend",), binned=True)
FINISH = Grouping("FINISH", ("state", "finish_reason"))
USER = Grouping("USER", ("user_id",), binned=True)
API_KEY = Grouping("API_KEY", ("user_id", "api_key_id"), binned=True)
IN_GROUP = Grouping("GROUP", (GROUP,), binned=True)
ALL = Grouping("ALL", ("user_id", "api_key_id", "model", "backend", "state", "finish_reason"))
BY_TAG = Grouping("TAG", ("user_id", *TAG), open=True)
END_USER = Grouping("END_USER", ("user_id", "end_user"), open=True)

GROUPINGS = (TOTAL, MODEL, BACKEND, FINISH, USER, API_KEY, IN_GROUP, ALL, BY_TAG, END_USER)
"""All, those with fewer rows first."""


def grouping_for(choice: UsageChoice, *, binned: bool = False) -> Grouping | None:
    """Find the smallest grouping set that answers; None where only the rows do.

    Who asks for several tags or groups, or for some and all the others of the same generations, asks for rows.
    """
    needed = {*choice.dimensions, *(choice.chosen or ())}
    for asked, names in ((choice.tags, TAG), (choice.group_ids, (GROUP,))):
        if asked is not None:
            if len(asked) != 1 or needed.intersection(names):
                return None
            needed.update(names)
    return next((it for it in GROUPINGS if needed.issubset(it.columns) and (it.binned or not binned)), None)


def multiplies(dimensions: Collection[str]) -> bool:
    """Tell whether a generation may be in several groups of these dimensions."""
    return GROUP in dimensions or TAG[0] in dimensions
