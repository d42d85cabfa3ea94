"""Where and how each generation of the ledger ended, so that usage can be summed by it; its day follows from `at`."""

import sqlalchemy as sa

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns and fill them from the generations. A gateway of an older version writes the defaults."""
    op.add_column("usage", sa.Column("backend", sa.String(64), nullable=False, server_default="unknown"))
    op.add_column("usage", sa.Column("state", sa.String(16), nullable=False, server_default="COMPLETED"))
    op.add_column("usage", sa.Column("finish_reason", sa.String(32), nullable=True))
    op.execute(
        "UPDATE usage SET (backend, state, finish_reason) = "
        "(SELECT g.backend, g.state, g.finish_reason FROM generations AS g WHERE g.id = usage.generation_id) "
        "WHERE EXISTS (SELECT 1 FROM generations AS g WHERE g.id = usage.generation_id)"
    )
    op.drop_column("usage", "day")
    op.create_index("ix_usage_at", "usage", ["at"])


def downgrade() -> None:
    """Drop them, and write the UTC day of each row again."""
    op.drop_index("ix_usage_at", "usage")
    op.add_column("usage", sa.Column("day", sa.Date, nullable=False, server_default="1970-01-01"))
    if op.get_bind().dialect.name == "sqlite":
        op.execute("UPDATE usage SET day = date(at)")
    else:
        op.execute("UPDATE usage SET day = CAST(at AT TIME ZONE 'UTC' AS date)")
    op.drop_column("usage", "finish_reason")
    op.drop_column("usage", "state")
    op.drop_column("usage", "backend")
