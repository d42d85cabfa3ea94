"""Linking and the limit of pending sign-ins: who began one, in which session, and from where."""

import sqlalchemy as sa

from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns. What was begun before stays: it belongs to no session, and counts for no address."""
    op.add_column("login_flows", sa.Column("session_id", sa.Uuid, nullable=True))
    op.add_column("login_flows", sa.Column("address", sa.String(64), nullable=True))
    op.create_index("ix_login_flows_address", "login_flows", ["address"])
    op.add_column("sessions", sa.Column("provider_session", sa.String(255), nullable=True))
    op.create_index("ix_sessions_provider_session", "sessions", ["provider_session"])


def downgrade() -> None:
    """Drop them."""
    op.drop_index("ix_sessions_provider_session", "sessions")
    op.drop_column("sessions", "provider_session")
    op.drop_index("ix_login_flows_address", "login_flows")
    op.drop_column("login_flows", "address")
    op.drop_column("login_flows", "session_id")
