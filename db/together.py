"""Work that waits for SQLite's one writer together shares a transaction: one trip to its thread, and one commit.

Each piece is kept or undone by itself, for it has a savepoint of its own. A database that cannot do its work fails all.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import nullcontext
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from typing import Any

from anyio import CancelScope
from sqlalchemy.ext.asyncio import AsyncConnection

from db.failures import DatabaseUnavailable, outage
from db.sessions import JoinedSession, WriteSession
from db.sqlite import drive, savepoint, undoing

MOST_TOGETHER = 32
"""Pieces in one transaction: meanwhile others wait, those of other processes too."""


@dataclass(eq=False, slots=True)
class Piece:
    """Work that somebody waits for, by themselves or with others.

    `waiting` is cancelled when others have done it; None where it has its turn at once.
    """

    work: Callable[[WriteSession], Awaitable[Any]]
    waiting: CancelScope | None = None
    context: Context = field(default_factory=copy_context)
    begun: bool = False
    over: asyncio.Event = field(default_factory=asyncio.Event)
    result: Any = None
    error: BaseException | None = None

    def fail(self, error: BaseException) -> None:
        """Tell whoever waits why nothing came of it: each an error of their own."""
        self.error = DatabaseUnavailable(str(error)) if isinstance(error, DatabaseUnavailable) else error
        self.error.__cause__ = error.__cause__

    def outcome(self) -> Any:
        """Give the result. Raises what the work did."""
        if self.error is not None:
            raise self.error
        return self.result


class Line:
    """The pieces that wait, in the order in which they came."""

    def __init__(self) -> None:
        self._pieces: list[Piece] = []

    def join(self, work: Callable[[WriteSession], Awaitable[Any]]) -> Piece:
        """Put work at the end of the line."""
        piece = Piece(work)
        self._pieces.append(piece)
        return piece

    def leave(self, piece: Piece) -> None:
        """Take back what has not begun."""
        self._pieces.remove(piece)

    def take(self, piece: Piece) -> list[Piece]:
        """Give this piece and the oldest of the others: they begin now."""
        taken = [piece, *(it for it in self._pieces if it is not piece)][:MOST_TOGETHER]
        for it in taken:
            self._pieces.remove(it)
            it.begun = True
        return taken


async def do_together(connection: AsyncConnection, pieces: Sequence[Piece]) -> None:
    """Do all of it in the transaction that has begun, and commit. Raises what fails all of it."""
    alone = len(pieces) == 1
    for piece in pieces:
        try:
            with nullcontext() if alone else savepoint(connection):
                piece.result = piece.context.run(drive, _do(connection, piece, alone=alone))
        except Exception as error:
            if alone:
                raise
            if (undone_by := undoing(connection)) is not None:
                raise undone_by from error
            if outage(error) is not None:
                raise
            piece.error = error
    await connection.commit()


async def _do(connection: AsyncConnection, piece: Piece, *, alone: bool) -> Any:
    session = JoinedSession(connection, alone=alone)
    try:
        result = await piece.work(session)
        await session.finish()
    finally:
        await session.close()
    return result
