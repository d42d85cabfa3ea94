"""Where the log goes and what it looks like."""

import logging.config

QUIET = ("httpx", "httpcore", "uvicorn", "alembic", "asyncio", "aiosqlite", "websockets", "sqlalchemy")
"""Loggers of libraries that say too much, below warnings."""


def configure(level: str, worker: int | None = None) -> None:
    """Write one line an entry to standard error. Our own access log replaces uvicorn's, and httpx stays silent.

    So do drivers: at "debug" aiosqlite would write every statement with its values, prompts and answers among them.
    Where several workers write to the same place, each line names its own.
    """
    who = "" if worker is None else f"worker {worker} "
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"line": {"format": f"%(asctime)s %(levelname)s {who}%(name)s: %(message)s"}},
            "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
            "root": {"level": level.upper(), "handlers": ["stderr"]},
            "loggers": {name: {"level": "WARNING"} for name in QUIET},
        }
    )
