"""Tasks that must outlive whatever goes wrong in them: in a task group of the application one error ends everything."""

import logging
from collections.abc import Awaitable, Callable

import anyio

logger = logging.getLogger(__name__)

PAUSE_SECONDS = 0.5


async def keep_on(what: str, call: Callable[[], Awaitable[None]]) -> None:
    """Call again and again until cancelled; what it raises is logged, and it is called again after a pause."""
    while True:
        try:
            await call()
        except Exception:
            logger.exception("%s failed; it is tried again", what)
            await anyio.sleep(PAUSE_SECONDS)


async def try_once(what: str, call: Callable[[], Awaitable[object]]) -> None:
    """Call once; what it raises is logged."""
    try:
        await call()
    except Exception:
        logger.exception("%s failed", what)
