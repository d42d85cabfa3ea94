"""Count sign-ins by name and by address, and know from where each user has signed in."""

import sqlalchemy as sa

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def moment(name: str, *, nullable: bool = False) -> sa.Column:
    """Give a time with a zone. SQLite has no such type and keeps UTC."""
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def login_attempts(*address: sa.Column) -> None:
    """Make the table anew: who has failed lately is of no worth beyond some minutes."""
    op.drop_table("login_attempts")
    op.create_table(
        "login_attempts",
        sa.Column("username", sa.String(64), primary_key=True),
        *address,
        sa.Column("failures", sa.Integer, nullable=False),
        moment("last_failed_at"),
        moment("locked_until", nullable=True),
    )


def upgrade() -> None:
    """Give the counts an address, and add the table of known addresses."""
    login_attempts(sa.Column("address", sa.String(64), primary_key=True))
    op.create_index("ix_login_attempts_last_failed_at", "login_attempts", ["last_failed_at"])
    op.create_table(
        "known_addresses",
        sa.Column("user_id", sa.Uuid, sa.ForeignKey("users.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("address", sa.String(64), primary_key=True),
        moment("signed_in_at"),
    )
    op.create_index("ix_known_addresses_address", "known_addresses", ["address"])
    op.create_index("ix_known_addresses_signed_in_at", "known_addresses", ["signed_in_at"])


def downgrade() -> None:
    """Count by name alone."""
    op.drop_table("known_addresses")
    login_attempts()
