"""What is kept of prompts and answers: for each API key, and for each generation."""

import sqlalchemy as sa

from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns. What there is keeps what the settings say."""
    op.add_column("api_keys", sa.Column("content_policy", sa.String(16), nullable=True))
    op.add_column("generations", sa.Column("content_policy", sa.String(16), nullable=False, server_default="ALL"))


def downgrade() -> None:
    """Drop them."""
    op.drop_column("generations", "content_policy")
    op.drop_column("api_keys", "content_policy")
