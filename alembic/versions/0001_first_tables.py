"""The first tables: users, their keys, their generations, and the ledger."""

import sqlalchemy as sa

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def moment(name: str, *, nullable: bool = False) -> sa.Column:
    """Give a time with a zone. SQLite has no such type and keeps UTC."""
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def user_id() -> sa.Column:
    """Whose row it is. It goes with the user."""
    return sa.Column("user_id", sa.Uuid, sa.ForeignKey("users.id", ondelete="CASCADE"), nullable=False)


def api_key_id() -> sa.Column:
    """Give the key it was asked for with. The row stays when the key goes."""
    return sa.Column("api_key_id", sa.Uuid, sa.ForeignKey("api_keys.id", ondelete="SET NULL"), nullable=True)


def upgrade() -> None:
    """Create all tables."""
    op.create_table(
        "users",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("username", sa.String(64), nullable=False, unique=True),
        sa.Column("password_hash", sa.String(255), nullable=False),
        sa.Column("is_admin", sa.Boolean, nullable=False),
        moment("created_at"),
        moment("disabled_at", nullable=True),
    )
    op.create_table(
        "login_attempts",
        sa.Column("username", sa.String(64), primary_key=True),
        sa.Column("failures", sa.Integer, nullable=False),
        moment("last_failed_at"),
        moment("locked_until", nullable=True),
    )
    op.create_table(
        "api_keys",
        sa.Column("id", sa.Uuid, primary_key=True),
        user_id(),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("prefix", sa.String(16), nullable=False),
        sa.Column("secret_hash", sa.String(64), nullable=False, unique=True),
        sa.Column("scopes", sa.JSON, nullable=False),
        moment("created_at"),
        moment("expires_at", nullable=True),
        moment("last_used_at", nullable=True),
        moment("revoked_at", nullable=True),
    )
    op.create_index("ix_api_keys_user_id_id", "api_keys", ["user_id", "id"])
    op.create_table(
        "generations",
        sa.Column("id", sa.Uuid, primary_key=True),
        user_id(),
        api_key_id(),
        sa.Column("model", sa.String(255), nullable=False),
        sa.Column("backend", sa.String(64), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("on_disconnect", sa.String(16), nullable=False),
        sa.Column("finish_reason", sa.String(32)),
        sa.Column("error_code", sa.String(64)),
        sa.Column("error_message", sa.String(500)),
        sa.Column("prompt_tokens", sa.Integer),
        sa.Column("completion_tokens", sa.Integer),
        sa.Column("cached_tokens", sa.Integer),
        sa.Column("usage_source", sa.String(16)),
        sa.Column("queued_ms", sa.Integer),
        sa.Column("load_ms", sa.Integer),
        sa.Column("time_to_first_token_ms", sa.Integer),
        sa.Column("total_ms", sa.Integer),
        moment("created_at"),
        moment("started_at", nullable=True),
        moment("finished_at", nullable=True),
    )
    op.create_index("ix_generations_user_id_id", "generations", ["user_id", "id"])
    op.create_index("ix_generations_user_id_state_id", "generations", ["user_id", "state", "id"])
    unfinished = sa.text("finished_at IS NULL")
    op.create_index(
        "ix_generations_unfinished", "generations", ["id"], sqlite_where=unfinished, postgresql_where=unfinished
    )
    op.create_table(
        "usage",
        sa.Column("generation_id", sa.Uuid, primary_key=True),
        user_id(),
        api_key_id(),
        sa.Column("model", sa.String(255), nullable=False),
        sa.Column("prompt_tokens", sa.Integer, nullable=False),
        sa.Column("completion_tokens", sa.Integer, nullable=False),
        sa.Column("cached_tokens", sa.Integer),
        sa.Column("source", sa.String(16), nullable=False),
        moment("at"),
        sa.Column("day", sa.Date, nullable=False),
    )
    op.create_index("ix_usage_user_id_at", "usage", ["user_id", "at"])


def downgrade() -> None:
    """Drop them again, those that refer to others first."""
    for table in ("usage", "generations", "api_keys", "login_attempts", "users"):
        op.drop_table(table)
