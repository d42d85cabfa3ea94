"""Tells of statements: of those that take long the log, without their values; and how many there were."""

import logging
import time
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, event
from sqlalchemy.ext.asyncio import AsyncEngine

logger = logging.getLogger(__name__)

LONGEST_SHOWN = 1_000
"""Characters of a statement in the log."""

_BEGAN = "statement began"


@dataclass(slots=True)
class StatementCount:
    """How many statements there were, and how many seconds they took."""

    count: int = 0
    seconds: float = 0


counted: ContextVar[StatementCount | None] = ContextVar("counted_statements", default=None)
"""Where the statements of what is done now are counted; None: nowhere. Tasks inherit it, as does SQLite's thread."""


Note = Callable[[str, float], None]
"""Is told of a statement that has run, and of its seconds."""


def statement_note(slow_statement_time: float) -> Note:
    """Count statements, and log each that takes so many seconds or more (0: none)."""

    def note(statement: str, taken: float) -> None:
        if (count := counted.get()) is not None:
            count.count += 1
            count.seconds += taken
        if slow_statement_time and taken >= slow_statement_time:
            shown = " ".join(statement.split())[:LONGEST_SHOWN]
            logger.warning("slow statement", extra={"ms": round(taken * 1000), "statement": shown})

    return note


def watch_statements(engine: AsyncEngine, note: Note) -> None:
    """Tell of the statements of an engine. SQLite's driver is our own, and tells itself: that takes less."""

    def begin(connection: Connection, *_: Any) -> None:
        connection.info[_BEGAN] = time.perf_counter()

    def end(connection: Connection, _cursor: Any, statement: str, *_: Any) -> None:
        note(statement, time.perf_counter() - connection.info.get(_BEGAN, float("inf")))

    event.listen(engine.sync_engine, "before_cursor_execute", begin)
    event.listen(engine.sync_engine, "after_cursor_execute", end)
