"""What a block of work has of the database: one transaction, and what it may do in it."""

from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession


class ReadSession(AsyncSession):
    """A session that sees one snapshot and cannot write: the database itself refuses it."""


class WriteSession(ReadSession):
    """A session whose changes are committed at the end of its block. It can do all that a ReadSession can."""


class JoinedSession(WriteSession):
    """A session within a transaction that has begun on a connection, and that others commit.

    What runs with every generation is in Core, and needs the connection and nothing else. So SQLAlchemy's session is
    made when it is asked for: to make it, begin and end it takes as long as two statements. When a flush fails it
    undoes what it has done: of the transaction where it is `alone` in that, else to a savepoint of its own.
    """

    def __init__(self, connection: AsyncConnection, *, alone: bool) -> None:
        self._joined = connection
        self._mode = "rollback_only" if alone else "create_savepoint"

    async def connection(self, *_: Any, **__: Any) -> AsyncConnection:
        """Give the connection."""
        return self._joined

    async def finish(self) -> None:
        """Send what was not sent yet."""
        if self._is_made:
            await self.commit()

    async def close(self) -> None:
        """Let go of its objects."""
        if self._is_made:
            await super().close()

    @property
    def _is_made(self) -> bool:
        return "sync_session" in vars(self)

    def __getattr__(self, name: str) -> Any:
        """Make the session, whose attributes are not there before."""
        if self._is_made:
            raise AttributeError(name)
        super().__init__(self._joined, expire_on_commit=False, join_transaction_mode=self._mode)
        return getattr(self, name)
