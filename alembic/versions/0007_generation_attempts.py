"""Which backends each generation asked, one row for each."""

import sqlalchemy as sa

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table. Of what has ended one attempt is known: at the backend in its row, with all that it used."""
    op.create_table(
        "generation_attempts",
        sa.Column("generation_id", sa.Uuid, sa.ForeignKey("generations.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("backend", sa.String(64), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("prompt_tokens", sa.Integer, nullable=True),
        sa.Column("completion_tokens", sa.Integer, nullable=True),
        sa.Column("cached_tokens", sa.Integer, nullable=True),
        sa.Column("usage_source", sa.String(16), nullable=True),
        sa.Column("error_code", sa.String(64), nullable=True),
        sa.Column("error_message", sa.String(500), nullable=True),
        sa.Column("error_retry_after_ms", sa.Integer, nullable=True),
    )
    op.execute(
        "INSERT INTO generation_attempts (generation_id, number, backend, started_at, finished_at, prompt_tokens, "
        "completion_tokens, cached_tokens, usage_source, error_code, error_message, error_retry_after_ms) "
        "SELECT id, 1, backend, started_at, finished_at, prompt_tokens, completion_tokens, cached_tokens, "
        "usage_source, error_code, error_message, error_retry_after_ms FROM generations "
        "WHERE started_at IS NOT NULL AND finished_at IS NOT NULL"
    )


def downgrade() -> None:
    """Drop it; the row of each generation still names the backend that it was given to first."""
    op.drop_table("generation_attempts")
