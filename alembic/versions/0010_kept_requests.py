"""What was asked, kept beside the answer: from the start on, when there are no events and no expiry yet."""

import sqlalchemy as sa

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

AS_IT_WAS = sa.Table(
    "transcripts",
    sa.MetaData(),
    sa.Column("generation_id", sa.Uuid, nullable=False),
    sa.Column("events", sa.LargeBinary, nullable=False),
    sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
    sa.PrimaryKeyConstraint("generation_id", name="pk_transcripts"),
    sa.ForeignKeyConstraint(
        ["generation_id"], ["generations.id"], name="fk_transcripts_generation_id", ondelete="CASCADE"
    ),
    sa.Index("ix_transcripts_expires_at", "expires_at"),
)
"""SQLite makes a new table of it; told here, so that the statements can be written out without a database."""


def upgrade() -> None:
    """Add the columns, and let events and expiry come later. What stands there is answers alone."""
    with op.batch_alter_table("transcripts", copy_from=AS_IT_WAS) as batch:
        batch.alter_column("events", existing_type=sa.LargeBinary, nullable=True)
        batch.alter_column("expires_at", existing_type=sa.DateTime(timezone=True), nullable=True)
        batch.add_column(sa.Column("request", sa.LargeBinary, nullable=True))
        batch.add_column(sa.Column("media", sa.LargeBinary, nullable=True))


def downgrade() -> None:
    """Drop them; what has no answer has nothing left."""
    op.execute("DELETE FROM transcripts WHERE events IS NULL OR expires_at IS NULL")
    with op.batch_alter_table("transcripts", copy_from=as_it_is()) as batch:
        batch.drop_column("media")
        batch.drop_column("request")
        batch.alter_column("expires_at", existing_type=sa.DateTime(timezone=True), nullable=False)
        batch.alter_column("events", existing_type=sa.LargeBinary, nullable=False)


def as_it_is() -> sa.Table:
    """Give the table as `upgrade` leaves it."""
    table = AS_IT_WAS.to_metadata(sa.MetaData())
    table.c.events.nullable = table.c.expires_at.nullable = True
    for name in ("request", "media"):
        table.append_column(sa.Column(name, sa.LargeBinary, nullable=True))
    return table
