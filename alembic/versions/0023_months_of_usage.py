"""Sums of usage over months, which gateways make of the sums over days in the background."""

import sqlalchemy as sa

from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

MONTH = 30 * 86_400


def upgrade() -> None:
    """Make the table that tells which months are summed up: none yet, and reports read their days until they are."""
    op.create_table(
        "usage_months",
        sa.Column("start", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("until", sa.BigInteger, nullable=False),
        sa.Column("generations", sa.BigInteger, nullable=True),
        sa.Column("maker", sa.Uuid, nullable=False),
    )


def downgrade() -> None:
    """Drop it, and the sums over months."""
    for name in ("usage_rollups", "usage_bins"):
        sums = sa.table(name, sa.column("seconds"))
        op.execute(sa.delete(sums).where(sums.c.seconds == MONTH))
    op.drop_table("usage_months")
