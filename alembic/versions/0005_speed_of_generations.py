"""How long a model generated, and when the last of its text came."""

import sqlalchemy as sa

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns; of what stands there nobody knows it any more."""
    op.add_column("generations", sa.Column("last_token_ms", sa.Integer, nullable=True))
    op.add_column("generations", sa.Column("eval_ms", sa.Integer, nullable=True))


def downgrade() -> None:
    """Drop them."""
    op.drop_column("generations", "eval_ms")
    op.drop_column("generations", "last_token_ms")
