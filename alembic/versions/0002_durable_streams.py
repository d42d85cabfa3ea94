"""What durable streams need: who runs a generation, the gateways alive, idempotency keys, and kept text."""

import sqlalchemy as sa

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def moment(name: str) -> sa.Column:
    """Give a time with a zone. SQLite has no such type and keeps UTC."""
    return sa.Column(name, sa.DateTime(timezone=True), nullable=False)


def generation_id(**more: bool) -> sa.Column:
    """Give the generation it belongs to. It goes with that."""
    return sa.Column(
        "generation_id", sa.Uuid, sa.ForeignKey("generations.id", ondelete="CASCADE"), nullable=False, **more
    )


def upgrade() -> None:
    """Add three tables, and to each generation who runs it."""
    op.add_column("generations", sa.Column("replica_id", sa.Uuid, nullable=True))
    op.add_column("generations", sa.Column("fence", sa.Integer, nullable=False, server_default="1"))
    op.add_column("generations", sa.Column("on_backend_loss", sa.String(16), nullable=False, server_default="FAIL"))
    op.create_table(
        "replicas",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("beat", sa.Integer, nullable=False),
        moment("started_at"),
        moment("seen_at"),
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("principal_id", sa.Uuid, primary_key=True),
        sa.Column("key", sa.String(255), primary_key=True),
        sa.Column("request_hash", sa.String(64), nullable=False),
        generation_id(),
        moment("created_at"),
    )
    op.create_index("ix_idempotency_keys_generation_id", "idempotency_keys", ["generation_id"])
    op.create_index("ix_idempotency_keys_created_at", "idempotency_keys", ["created_at"])
    op.create_table(
        "transcripts",
        generation_id(primary_key=True),
        sa.Column("events", sa.LargeBinary, nullable=False),
        moment("expires_at"),
    )
    op.create_index("ix_transcripts_expires_at", "transcripts", ["expires_at"])


def downgrade() -> None:
    """Drop them."""
    op.drop_table("transcripts")
    op.drop_table("idempotency_keys")
    op.drop_table("replicas")
    for column in ("on_backend_loss", "fence", "replica_id"):
        op.drop_column("generations", column)
