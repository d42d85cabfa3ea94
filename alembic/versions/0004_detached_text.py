"""Since when the viewers of a generation may have seen more of its text than the log that the gateways share."""

import sqlalchemy as sa

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; of what stands there nothing is known to be missing."""
    op.add_column("generations", sa.Column("detached_at", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    """Drop it."""
    op.drop_column("generations", "detached_at")
