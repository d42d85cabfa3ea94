"""Limits on what is used: the limits, their exceptions, what was counted, and what is reserved."""

import sqlalchemy as sa

from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables. Nothing is limited until an administrator sets a limit."""
    op.create_table(
        "limits",
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("measure", sa.String(16), nullable=False),
        sa.Column("window", sa.String(16), nullable=True),
        sa.Column("amount", sa.BigInteger, nullable=False),
        sa.Column("currency", sa.String(3), nullable=True),
        sa.Column("each", sa.JSON, nullable=False),
        sa.Column("role", sa.String(64), nullable=True),
        sa.Column("group_id", sa.Uuid, nullable=True),
        sa.Column("user_id", sa.Uuid, nullable=True),
        sa.Column("api_key_id", sa.Uuid, nullable=True),
        sa.Column("model", sa.String(255), nullable=True),
        sa.Column("end_user", sa.String(256), nullable=True),
        sa.Column("tag_name", sa.String(64), nullable=True),
        sa.Column("tag_value", sa.String(256), nullable=True),
        sa.Column("time_zone", sa.String(64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_limits"),
        sa.UniqueConstraint("name", name="uq_limits_name"),
        sa.ForeignKeyConstraint(["group_id"], ["groups.id"], name="fk_limits_group_id", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_limits_user_id", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["api_key_id"], ["api_keys.id"], name="fk_limits_api_key_id", ondelete="CASCADE"),
    )
    op.create_table(
        "limit_exceptions",
        sa.Column("limit_id", sa.Uuid, nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("subject", sa.String(64), nullable=False),
        sa.Column("amount", sa.BigInteger, nullable=True),
        sa.PrimaryKeyConstraint("limit_id", "kind", "subject", name="pk_limit_exceptions"),
        sa.ForeignKeyConstraint(["limit_id"], ["limits.id"], name="fk_limit_exceptions_limit_id", ondelete="CASCADE"),
    )
    op.create_table(
        "limit_counters",
        sa.Column("limit_id", sa.Uuid, nullable=False),
        sa.Column("subject", sa.String(32), nullable=False),
        sa.Column("window_start", sa.DateTime(timezone=True), nullable=False),
        sa.Column("window_end", sa.DateTime(timezone=True), nullable=True),
        sa.Column("used", sa.BigInteger, nullable=False),
        sa.Column("reserved", sa.BigInteger, nullable=False),
        sa.Column("bound", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("limit_id", "subject", name="pk_limit_counters"),
    )
    op.create_index("ix_limit_counters_window_end", "limit_counters", ["window_end"])
    op.create_table(
        "reservations",
        sa.Column("generation_id", sa.Uuid, nullable=False),
        sa.Column("limit_id", sa.Uuid, nullable=False),
        sa.Column("subject", sa.String(32), nullable=False),
        sa.Column("window_start", sa.DateTime(timezone=True), nullable=False),
        sa.Column("measure", sa.String(16), nullable=False),
        sa.Column("currency", sa.String(3), nullable=True),
        sa.Column("amount", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("generation_id", "limit_id", "subject", name="pk_reservations"),
    )
    op.create_index("ix_reservations_limit_id", "reservations", ["limit_id"])


def downgrade() -> None:
    """Drop them."""
    for table in ("reservations", "limit_counters", "limit_exceptions", "limits"):
        op.drop_table(table)
