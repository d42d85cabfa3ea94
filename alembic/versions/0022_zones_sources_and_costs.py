"""Time zones of users, where each number of usage is from, and the cost beside the generation."""

import sqlalchemy as sa

from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

SOURCES = ("prompt_source", "completion_source", "cached_source", "thinking_source")

WEAKEST = {"generations": "usage_source", "generation_attempts": "usage_source", "usage": "source"}
"""The column that told the weakest source of all numbers, and stays."""


def upgrade() -> None:
    """Add the columns, and fill them from what is there.

    COUNTED meant that the prompt was told and the answer was counted; what is cached or thought was always told.
    """
    op.add_column("users", sa.Column("time_zone", sa.String(64), nullable=True))
    _let_time_zone(nullable=True)
    for table, weakest in WEAKEST.items():
        for name in SOURCES:
            op.add_column(table, sa.Column(name, sa.String(16), nullable=True))
        op.execute(_filling(table, weakest))
    op.add_column("generations", sa.Column("cost_nano", sa.BigInteger, nullable=True))
    op.add_column("generations", sa.Column("currency", sa.String(3), nullable=True))
    generations, usage = (
        sa.table(name, *map(sa.column, ("id", "generation_id", "cost_nano", "currency")))
        for name in ("generations", "usage")
    )
    of_ledger = [
        sa.select(usage.c[name]).where(usage.c.generation_id == generations.c.id).scalar_subquery()
        for name in ("cost_nano", "currency")
    ]
    op.execute(sa.update(generations).values(cost_nano=of_ledger[0], currency=of_ledger[1]))


def _filling(name: str, weakest: str) -> sa.Update:
    table = sa.table(name, *map(sa.column, (weakest, "prompt_tokens", "cached_tokens", "thinking_tokens", *SOURCES)))
    columns, told = table.c, sa.literal("BACKEND")
    source = columns[weakest]
    counted = sa.and_(source == "COUNTED", columns.prompt_tokens > 0)
    return (
        sa.update(table)
        .where(source.is_not(None))
        .values(
            prompt_source=sa.case((counted, told), else_=source),
            completion_source=source,
            cached_source=sa.case((columns.cached_tokens.is_not(None), told)),
            thinking_source=sa.case((columns.thinking_tokens.is_not(None), told)),
        )
    )


def downgrade() -> None:
    """Drop them. Limits that had the zones of their users get UTC."""
    for name in ("currency", "cost_nano"):
        op.drop_column("generations", name)
    for table in WEAKEST:
        for name in SOURCES:
            op.drop_column(table, name)
    op.execute("UPDATE limits SET time_zone = 'UTC' WHERE time_zone IS NULL")
    _let_time_zone(nullable=False)
    op.drop_column("users", "time_zone")


def _let_time_zone(*, nullable: bool) -> None:
    """Let limits be without a time zone, or not.

    SQLite changes no column, and a new table in the place of this one would take the exceptions with it.
    """
    if op.get_context().dialect.name != "sqlite":
        op.alter_column("limits", "time_zone", existing_type=sa.String(64), nullable=nullable)
        return
    default = None if nullable else "UTC"
    op.add_column("limits", sa.Column("zone", sa.String(64), nullable=nullable, server_default=default))
    op.execute("UPDATE limits SET zone = time_zone")
    op.drop_column("limits", "time_zone")
    op.execute("ALTER TABLE limits RENAME COLUMN zone TO time_zone")
