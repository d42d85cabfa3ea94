"""Child processes of the supervisor, each with the pipe that ends it."""

import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from subprocess import PIPE, STDOUT

import anyio
from anyio.abc import Process

FOLDER = Path(__file__).parent


@asynccontextmanager
async def child(
    program: str,
    arguments: Sequence[str] = (),
    *,
    stop_seconds: float,
) -> AsyncGenerator[Process]:
    """Start one of the programs beside this module, out of reach of the terminal's Ctrl-C, and end it on leaving.

    Its standard input ends first; after `stop_seconds` it is killed. Standard error comes with standard output.
    """
    process = await anyio.open_process(
        # -P keeps this folder, whose modules could hide the standard library's, off the child's path.
        [sys.executable, "-P", str(FOLDER / program), *arguments],
        stdin=PIPE,
        stdout=PIPE,
        stderr=STDOUT,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with anyio.CancelScope(shield=True):
            if process.stdin is not None:
                await process.stdin.aclose()
            with anyio.move_on_after(stop_seconds):
                await process.wait()
            if process.returncode is None:
                process.kill()
            await process.aclose()


def ending(status: int | None) -> str:
    """Tell how a process ended, for the log."""
    if status is not None and status < 0:
        return f"signal {-status}"
    return f"exit status {status}"
