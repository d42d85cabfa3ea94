"""How long a device has to wait between two polls: it becomes longer for one that does not keep to it."""

import sqlalchemy as sa

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; codes that wait have the interval of RFC 8628."""
    op.add_column("device_codes", sa.Column("poll_interval", sa.Integer, nullable=False, server_default="5"))


def downgrade() -> None:
    """Drop it."""
    op.drop_column("device_codes", "poll_interval")
