"""Prices of models: rows that are never changed."""

import sqlalchemy as sa

from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table. What was used before has no cost."""
    op.create_table(
        "prices",
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("model", sa.String(255), nullable=False),
        sa.Column("currency", sa.String(3), nullable=False),
        sa.Column("prompt_nano", sa.BigInteger, nullable=False),
        sa.Column("cached_nano", sa.BigInteger, nullable=True),
        sa.Column("completion_nano", sa.BigInteger, nullable=False),
        sa.Column("valid_from", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("set_by", sa.Uuid, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_prices"),
        sa.ForeignKeyConstraint(["set_by"], ["users.id"], name="fk_prices_set_by", ondelete="RESTRICT"),
    )
    op.create_index("ix_prices_model_valid_from", "prices", ["model", "valid_from"])


def downgrade() -> None:
    """Drop it."""
    op.drop_table("prices")
