"""The audit log stays as it was written: the database itself refuses changes, and removes nothing of the last day."""

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

UNCHANGED = "audit events are never changed"
KEPT = "audit events of the last day are never removed"


def upgrade() -> None:
    """Make the triggers."""
    if op.get_context().dialect.name == "sqlite":
        op.execute(
            "CREATE TRIGGER audit_events_unchanged BEFORE UPDATE ON audit_events "
            f"BEGIN SELECT RAISE(ABORT, '{UNCHANGED}'); END"
        )
        op.execute(
            "CREATE TRIGGER audit_events_kept BEFORE DELETE ON audit_events WHEN OLD.at > datetime('now', '-1 day') "
            f"BEGIN SELECT RAISE(ABORT, '{KEPT}'); END"
        )
        return
    op.execute(
        "CREATE FUNCTION refuse_audit_change() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN IF TG_OP = 'DELETE' THEN RAISE EXCEPTION '{KEPT}'; END IF; RAISE EXCEPTION '{UNCHANGED}'; END $$"
    )
    op.execute(
        "CREATE TRIGGER audit_events_unchanged BEFORE UPDATE ON audit_events "
        "FOR EACH ROW EXECUTE FUNCTION refuse_audit_change()"
    )
    op.execute(
        "CREATE TRIGGER audit_events_kept BEFORE DELETE ON audit_events FOR EACH ROW "
        "WHEN (OLD.at > now() - interval '1 day') EXECUTE FUNCTION refuse_audit_change()"
    )


def downgrade() -> None:
    """Drop them."""
    if op.get_context().dialect.name == "sqlite":
        op.execute("DROP TRIGGER audit_events_unchanged")
        op.execute("DROP TRIGGER audit_events_kept")
        return
    op.execute("DROP TRIGGER audit_events_unchanged ON audit_events")
    op.execute("DROP TRIGGER audit_events_kept ON audit_events")
    op.execute("DROP FUNCTION refuse_audit_change()")
