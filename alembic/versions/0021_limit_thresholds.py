"""Limits that are nearly used up: what is told of them, and webhooks that wait to be delivered."""

import sqlalchemy as sa

from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

_COPIED = "limit_id, subject, scope, window_start, window_end, told, used, reserved, bound"
_NEW = ", ".join(f"NEW.{name}" for name in _COPIED.split(", "))
_INSERT = f"INSERT INTO limit_crossings ({_COPIED}, told_before, at) VALUES ({_NEW}, OLD.told, NEW.changed_at);"  # noqa: S608
"""The statement that changes a counter decides what is crossed; so its row is written with it, and once."""


def upgrade() -> None:
    """Add the columns, the tables and the trigger. Of windows that are open, thresholds are told from now on."""
    op.add_column("limit_counters", sa.Column("scope", sa.JSON, nullable=True))
    op.add_column("limit_counters", sa.Column("told", sa.Integer, nullable=False, server_default="0"))
    op.add_column("limit_counters", sa.Column("changed_at", sa.DateTime(timezone=True), nullable=True))
    op.create_table(
        "limit_crossings",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=False, autoincrement=True),
        sa.Column("limit_id", sa.Uuid, nullable=False),
        sa.Column("subject", sa.String(32), nullable=False),
        sa.Column("scope", sa.JSON, nullable=True),
        sa.Column("window_start", sa.DateTime(timezone=True), nullable=False),
        sa.Column("window_end", sa.DateTime(timezone=True), nullable=True),
        sa.Column("told_before", sa.Integer, nullable=False),
        sa.Column("told", sa.Integer, nullable=False),
        sa.Column("used", sa.BigInteger, nullable=False),
        sa.Column("reserved", sa.BigInteger, nullable=False),
        sa.Column("bound", sa.BigInteger, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("noted_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_limit_crossings"),
    )
    op.create_index("ix_limit_crossings_at", "limit_crossings", ["at"])
    op.create_index("ix_limit_crossings_noted_at", "limit_crossings", ["noted_at"])
    op.create_table(
        "webhook_messages",
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("type", sa.String(64), nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_webhook_messages"),
    )
    op.create_index("ix_webhook_messages_due_at", "webhook_messages", ["due_at"])
    if op.get_context().dialect.name == "sqlite":
        op.execute(
            "CREATE TRIGGER limit_counters_told AFTER UPDATE OF told ON limit_counters WHEN NEW.told > OLD.told "
            f"BEGIN {_INSERT} END"
        )
        return
    op.execute(
        "CREATE FUNCTION write_limit_crossing() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN {_INSERT} RETURN NULL; END $$"
    )
    op.execute(
        "CREATE TRIGGER limit_counters_told AFTER UPDATE OF told ON limit_counters FOR EACH ROW "
        "WHEN (NEW.told > OLD.told) EXECUTE FUNCTION write_limit_crossing()"
    )


def downgrade() -> None:
    """Drop them."""
    if op.get_context().dialect.name == "sqlite":
        op.execute("DROP TRIGGER limit_counters_told")
    else:
        op.execute("DROP TRIGGER limit_counters_told ON limit_counters")
        op.execute("DROP FUNCTION write_limit_crossing()")
    op.drop_table("webhook_messages")
    op.drop_table("limit_crossings")
    for column in ("changed_at", "told", "scope"):
        op.drop_column("limit_counters", column)
