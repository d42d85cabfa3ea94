"""How many tokens went into thinking, and how long a model server read the prompt."""

import sqlalchemy as sa

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

COUNTED = ("generations", "generation_attempts", "usage")
"""The tables that hold token counts."""


def upgrade() -> None:
    """Add the columns; of what stands there nobody knows it any more."""
    for table in COUNTED:
        op.add_column(table, sa.Column("thinking_tokens", sa.Integer, nullable=True))
    op.add_column("generations", sa.Column("prompt_ms", sa.Integer, nullable=True))


def downgrade() -> None:
    """Drop them."""
    op.drop_column("generations", "prompt_ms")
    for table in COUNTED:
        op.drop_column(table, "thinking_tokens")
