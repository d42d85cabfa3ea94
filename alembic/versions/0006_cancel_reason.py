"""Why a generation was cancelled, and when one that failed may be asked for again."""

import sqlalchemy as sa

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns. Until now every cancellation was one finish reason: take each for its user's."""
    op.add_column("generations", sa.Column("cancel_reason", sa.String(16), nullable=True))
    op.add_column("generations", sa.Column("error_retry_after_ms", sa.Integer, nullable=True))
    op.execute(
        "UPDATE generations SET cancel_reason = 'REQUESTED', finish_reason = NULL WHERE finish_reason = 'cancelled'"
    )


def downgrade() -> None:
    """Make the cancellations a finish reason again, and drop the columns."""
    op.execute("UPDATE generations SET finish_reason = 'cancelled' WHERE cancel_reason IS NOT NULL")
    op.drop_column("generations", "error_retry_after_ms")
    op.drop_column("generations", "cancel_reason")
