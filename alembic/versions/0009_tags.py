"""What a caller notes about a generation for reports: tags, and for which user of theirs it is."""

import sqlalchemy as sa

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

TABLES = ("generations", "usage")


def upgrade() -> None:
    """Add the columns; what stands there has neither."""
    for table in TABLES:
        op.add_column(table, sa.Column("tags", sa.JSON, nullable=True))
        op.add_column(table, sa.Column("end_user", sa.String(256), nullable=True))


def downgrade() -> None:
    """Drop them."""
    for table in TABLES:
        op.drop_column(table, "end_user")
        op.drop_column(table, "tags")
