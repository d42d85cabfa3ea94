"""The ledger with all that is known of a generation, and the tables of its sums.

The sums are filled by the gateways, a portion at a time: until a row is in them, reports read the row itself. So the
migration is as quick with ten million rows as it can be, and rows that a gateway of an older version writes meanwhile
are added, too.
"""

import sqlalchemy as sa

from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

KEY_REFERENCE = "fk_usage_api_key_id"

USAGE = sa.Table(
    "usage",
    sa.MetaData(),
    sa.Column("generation_id", sa.Uuid, nullable=False),
    sa.Column("user_id", sa.Uuid, nullable=False),
    sa.Column("api_key_id", sa.Uuid, nullable=True),
    sa.Column("model", sa.String(255), nullable=False),
    sa.Column("prompt_tokens", sa.Integer, nullable=False),
    sa.Column("completion_tokens", sa.Integer, nullable=False),
    sa.Column("source", sa.String(16), nullable=False),
    sa.Column("at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("cached_tokens", sa.Integer, nullable=True),
    sa.Column("backend", sa.String(64), nullable=False, server_default="unknown"),
    sa.Column("state", sa.String(16), nullable=False, server_default="COMPLETED"),
    sa.Column("finish_reason", sa.String(32), nullable=True),
    sa.Column("tags", sa.JSON, nullable=True),
    sa.Column("end_user", sa.String(256), nullable=True),
    sa.Column("thinking_tokens", sa.Integer, nullable=True),
    sa.PrimaryKeyConstraint("generation_id", name="pk_usage"),
    sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_usage_user_id", ondelete="RESTRICT"),
    sa.Index("ix_usage_user_id_at", "user_id", "at"),
    sa.Index("ix_usage_at", "at"),
)
"""SQLite makes a new table of it; told here, so that the statements can be written out without a database."""


def new_columns() -> list[sa.Column]:
    return [
        sa.Column("cancel_reason", sa.String(16), nullable=True),
        sa.Column("error_code", sa.String(64), nullable=True),
        sa.Column("group_ids", sa.JSON, nullable=True),
        sa.Column("queued_ms", sa.Integer, nullable=True),
        sa.Column("time_to_first_token_ms", sa.Integer, nullable=True),
        sa.Column("last_token_ms", sa.Integer, nullable=True),
        sa.Column("eval_ms", sa.Integer, nullable=True),
        sa.Column("total_ms", sa.Integer, nullable=True),
        sa.Column("cost_nano", sa.BigInteger, nullable=True),
        sa.Column("currency", sa.String(3), nullable=True),
        sa.Column("price_id", sa.Uuid, nullable=True),
        sa.Column("rolled_up", sa.Boolean, nullable=False, server_default=sa.text("false")),
    ]


def upgrade() -> None:
    """Add the columns and fill them from the generations that are there; in which groups users were nobody knows."""
    as_it_was = USAGE.to_metadata(sa.MetaData())
    key = sa.ForeignKeyConstraint(["api_key_id"], ["api_keys.id"], name=KEY_REFERENCE, ondelete="SET NULL")
    as_it_was.append_constraint(key)
    with op.batch_alter_table("usage", copy_from=as_it_was) as batch:
        batch.drop_constraint(KEY_REFERENCE, type_="foreignkey")
    op.add_column("generations", sa.Column("group_ids", sa.JSON, nullable=True))
    for column in new_columns():
        op.add_column("usage", column)
    op.execute(
        "UPDATE usage SET (cancel_reason, error_code, queued_ms, time_to_first_token_ms, last_token_ms, eval_ms, "
        "total_ms) = (SELECT g.cancel_reason, g.error_code, g.queued_ms, g.time_to_first_token_ms, g.last_token_ms, "
        "g.eval_ms, g.total_ms FROM generations AS g WHERE g.id = usage.generation_id) "
        "WHERE EXISTS (SELECT 1 FROM generations AS g WHERE g.id = usage.generation_id)"
    )
    waiting = sa.text("NOT rolled_up")
    op.create_index("ix_usage_not_rolled_up", "usage", ["at"], sqlite_where=waiting, postgresql_where=waiting)
    make_rollups()


def make_rollups() -> None:
    """Make the tables of sums. They refer to nothing: they outlive users, keys and groups."""
    op.create_table(
        "usage_keys",
        sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("grouping", sa.String(16), nullable=False),
        sa.Column("user_id", sa.Uuid, nullable=True),
        sa.Column("api_key_id", sa.Uuid, nullable=True),
        sa.Column("model", sa.String(255), nullable=True),
        sa.Column("backend", sa.String(64), nullable=True),
        sa.Column("state", sa.String(16), nullable=True),
        sa.Column("finish_reason", sa.String(32), nullable=True),
        sa.Column("group_id", sa.String(36), nullable=True),
        sa.Column("tag_name", sa.String(64), nullable=True),
        sa.Column("tag_value", sa.String(256), nullable=True),
        sa.Column("end_user", sa.String(256), nullable=True),
        sa.Column("currency", sa.String(3), nullable=True),
        sa.Column("other", sa.Boolean, nullable=False, server_default=sa.text("false")),
    )
    op.create_index("ix_usage_keys_grouping_user_id", "usage_keys", ["grouping", "user_id"])
    op.create_table(
        "usage_rollups",
        *period(),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in ("generations", "completed", "cancelled")),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in ("failed", "prompt_tokens", "completion_tokens")),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in ("cached_tokens", "thinking_tokens")),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in ("cost_units", "cost_nano")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "usage_bins",
        *period(),
        sa.Column("measure", sa.SmallInteger, primary_key=True, autoincrement=False),
        sa.Column("bin", sa.SmallInteger, primary_key=True, autoincrement=False),
        sa.Column("generations", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "usage_details",
        sa.Column("id", sa.SmallInteger, primary_key=True, autoincrement=False),
        sa.Column("kept_since", sa.DateTime(timezone=True), nullable=False),
    )


def period() -> list[sa.Column]:
    """Give the columns that tell of which key and time a sum is."""
    return [
        sa.Column("key_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("seconds", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("start", sa.BigInteger, primary_key=True, autoincrement=False),
    ]


def downgrade() -> None:
    """Drop them. A row whose key is not there any more forgets it."""
    for table in ("usage_details", "usage_bins", "usage_rollups", "usage_keys"):
        op.drop_table(table)
    op.drop_index("ix_usage_not_rolled_up", "usage")
    for column in reversed(new_columns()):
        op.drop_column("usage", column.name)
    op.drop_column("generations", "group_ids")
    op.execute("UPDATE usage SET api_key_id = NULL WHERE api_key_id NOT IN (SELECT id FROM api_keys)")
    with op.batch_alter_table("usage", copy_from=USAGE) as batch:
        batch.create_foreign_key(KEY_REFERENCE, "api_keys", ["api_key_id"], ["id"], ondelete="SET NULL")
