"""Files that callers have sent, for prompts to refer to."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from db.clock import new_id, now
from db.tables.table import Table


class Blob(Table):
    """A file of a user's. Its bytes are in `BlobChunk`, so that nobody holds the whole of a large one.

    `sha256`, in hexadecimal, is None while the file is still coming; `content_type` is what the bytes are. The same
    bytes are stored once for each user.
    """

    __tablename__ = "blobs"
    __table_args__ = (Index("ix_blobs_user_id_sha256", "user_id", "sha256", unique=True),)

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    sha256: Mapped[str | None] = mapped_column(String(64))
    content_type: Mapped[str] = mapped_column(String(64))
    size: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(default=now)
    expires_at: Mapped[datetime] = mapped_column(index=True)


class BlobChunk(Table):
    """A piece of a blob; `number` counts from 0."""

    __tablename__ = "blob_chunks"

    blob_id: Mapped[UUID] = mapped_column(ForeignKey("blobs.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    data: Mapped[bytes]
