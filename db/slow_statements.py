"""Tells the log of statements that take long: the statement, and never its values."""

import logging
import time
from typing import Any

from sqlalchemy import Connection, event
from sqlalchemy.ext.asyncio import AsyncEngine

logger = logging.getLogger(__name__)

LONGEST_SHOWN = 1_000
"""Characters of a statement in the log."""

_BEGAN = "statement began"


def log_slow_statements(engine: AsyncEngine, seconds: float) -> None:
    """Log each statement of the engine that takes so many seconds or more; those that fail, too."""

    def begin(connection: Connection, *_: Any) -> None:
        connection.info[_BEGAN] = time.perf_counter()

    def end(connection: Connection, _cursor: Any, statement: str, *_: Any) -> None:
        taken = time.perf_counter() - connection.info.get(_BEGAN, float("inf"))
        if taken >= seconds:
            shown = " ".join(statement.split())[:LONGEST_SHOWN]
            logger.warning("slow statement", extra={"ms": round(taken * 1000), "statement": shown})

    event.listen(engine.sync_engine, "before_cursor_execute", begin)
    event.listen(engine.sync_engine, "after_cursor_execute", end)
