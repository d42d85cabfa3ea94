"""Asking again and again for what nobody tells, as the state of another process."""

import anyio

PAUSE_SECONDS = 0.02


async def pause() -> None:
    """Leave the processor to what is waited for; a loop that only asks takes all of it."""
    await anyio.sleep(PAUSE_SECONDS)
