"""Accounts with roles and groups, sessions, more of keys, accounts at identity providers, and the audit log."""

import sqlalchemy as sa

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

WORDS = {
    '"keys:write"': '"keys:read", "keys:write"',
    '"admin"': '"users:read", "users:write", "generations:read_all", "usage:read_all", "fleet:write", "limits:write", '
    '"audit:read", "settings:read"',
}
"""Scopes of keys, as they stand in the JSON: what one word allowed, and the words of today that allow it."""

USER_REFERENCE = "fk_usage_user_id"

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
    sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=USER_REFERENCE, ondelete="CASCADE"),
    sa.ForeignKeyConstraint(["api_key_id"], ["api_keys.id"], name="fk_usage_api_key_id", ondelete="SET NULL"),
    sa.Index("ix_usage_user_id_at", "user_id", "at"),
    sa.Index("ix_usage_at", "at"),
)
"""SQLite makes a new table of it; told here, so that the statements can be written out without a database."""


def moment(name: str, *, needed: bool = False) -> sa.Column:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=not needed)


def text(name: str, length: int, *, needed: bool = False) -> sa.Column:
    return sa.Column(name, sa.String(length), nullable=not needed)


def user(*, needed: bool = True, key: bool = False) -> sa.Column:
    reference = sa.ForeignKey("users.id", ondelete="CASCADE")
    return sa.Column("user_id", sa.Uuid, reference, nullable=not needed, primary_key=key)


def user_columns() -> list[sa.Column]:
    return [
        sa.Column("kind", sa.String(16), nullable=False, server_default="PERSON"),
        sa.Column("role", sa.String(64), nullable=False, server_default="developer"),
        text("email", 254),
        text("display_name", 100),
        sa.Column("must_change_password", sa.Boolean, nullable=False, server_default=sa.text("false")),
        moment("last_signed_in_at"),
        moment("password_changed_at"),
        moment("deleted_at"),
    ]


def key_columns() -> list[sa.Column]:
    return [
        sa.Column("models", sa.JSON, nullable=True),
        sa.Column("origins", sa.JSON, nullable=True),
        sa.Column("networks", sa.JSON, nullable=True),
        text("last_used_address", 64),
        moment("rotated_at"),
        text("rotation_key", 64),
        text("previous_hash", 64),
        moment("previous_expires_at"),
    ]


def upgrade() -> None:
    """Make the tables; administrators become such by role, everybody else may do what they could."""
    for column in user_columns():
        op.add_column("users", column)
    op.execute("UPDATE users SET role = 'admin' WHERE is_admin")
    op.drop_column("users", "is_admin")
    op.create_index("ix_users_role", "users", ["role"])
    op.create_index("ix_users_email", "users", ["email"])
    for column in key_columns():
        op.add_column("api_keys", column)
    op.create_index("ix_api_keys_previous_hash", "api_keys", ["previous_hash"], unique=True)
    rewrite_scopes(WORDS)
    refer_to_users(USAGE, "RESTRICT")
    make_accounts()
    make_sessions()
    make_sign_ins()
    make_audit_log()


def downgrade() -> None:
    """Drop them. Roles other than admin, and who has no name any more, become ordinary users."""
    for table in ("audit_events", "device_codes", "login_flows", "one_time_links", "refresh_tokens", "sessions"):
        op.drop_table(table)
    for table in ("group_members", "groups", "roles", "external_accounts"):
        op.drop_table(table)
    as_it_is = USAGE.to_metadata(sa.MetaData())
    next(key for key in as_it_is.foreign_key_constraints if key.name == USER_REFERENCE).ondelete = "RESTRICT"
    refer_to_users(as_it_is, "CASCADE")
    rewrite_scopes({new: old for old, new in WORDS.items()})
    op.drop_index("ix_api_keys_previous_hash", "api_keys")
    for column in reversed(key_columns()):
        op.drop_column("api_keys", column.name)
    op.add_column("users", sa.Column("is_admin", sa.Boolean, nullable=False, server_default=sa.text("false")))
    op.execute("UPDATE users SET is_admin = true WHERE role = 'admin'")
    op.drop_index("ix_users_email", "users")
    op.drop_index("ix_users_role", "users")
    for column in reversed(user_columns()):
        op.drop_column("users", column.name)


def rewrite_scopes(words: dict[str, str]) -> None:
    """Replace words in the scopes of all keys."""
    keys = sa.table("api_keys", sa.column("scopes"))
    scopes = sa.cast(keys.c.scopes, sa.Text)
    for old, new in words.items():
        replaced = sa.func.replace(scopes, old, new)
        value = replaced if op.get_context().dialect.name == "sqlite" else sa.cast(replaced, sa.JSON)
        op.execute(sa.update(keys).values(scopes=value).where(scopes.contains(old)))


def refer_to_users(table: sa.Table, ondelete: str) -> None:
    """Let the ledger's reference to users do something else when one is deleted."""
    with op.batch_alter_table("usage", copy_from=table) as batch:
        batch.drop_constraint(USER_REFERENCE, type_="foreignkey")
        batch.create_foreign_key(USER_REFERENCE, "users", ["user_id"], ["id"], ondelete=ondelete)


def make_accounts() -> None:
    """Make the tables of roles, groups and accounts at identity providers."""
    op.create_table(
        "external_accounts",
        sa.Column("provider", sa.String(64), primary_key=True),
        sa.Column("subject", sa.String(255), primary_key=True),
        user(),
        text("username", 255, needed=True),
        moment("linked_at", needed=True),
        moment("last_signed_in_at"),
    )
    op.create_index("ix_external_accounts_user_id", "external_accounts", ["user_id"])
    op.create_table(
        "roles",
        sa.Column("name", sa.String(64), primary_key=True),
        text("description", 200, needed=True),
        sa.Column("scopes", sa.JSON, nullable=False),
        moment("created_at", needed=True),
    )
    op.create_table(
        "groups",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("name", sa.String(100), nullable=False, unique=True),
        text("description", 200, needed=True),
        sa.Column("models", sa.JSON, nullable=True),
        moment("created_at", needed=True),
    )
    op.create_table(
        "group_members",
        sa.Column("group_id", sa.Uuid, sa.ForeignKey("groups.id", ondelete="CASCADE"), primary_key=True),
        user(key=True),
        text("provider", 64),
    )
    op.create_index("ix_group_members_user_id", "group_members", ["user_id"])


def make_sessions() -> None:
    """Make the tables of sessions and one-time links."""
    op.create_table(
        "sessions",
        sa.Column("id", sa.Uuid, primary_key=True),
        user(),
        text("provider", 64, needed=True),
        text("client", 200, needed=True),
        text("address", 64, needed=True),
        moment("created_at", needed=True),
        moment("last_used_at", needed=True),
        moment("expires_at", needed=True),
        moment("revoked_at"),
        text("revoke_reason", 32),
    )
    op.create_index("ix_sessions_user_id_id", "sessions", ["user_id", "id"])
    op.create_index("ix_sessions_expires_at", "sessions", ["expires_at"])
    op.create_table(
        "refresh_tokens",
        sa.Column("secret_hash", sa.String(64), primary_key=True),
        sa.Column("session_id", sa.Uuid, sa.ForeignKey("sessions.id", ondelete="CASCADE"), nullable=False),
        moment("created_at", needed=True),
        moment("used_at"),
        text("nonce", 64),
    )
    op.create_index("ix_refresh_tokens_session_id", "refresh_tokens", ["session_id"])
    op.create_table(
        "one_time_links",
        sa.Column("secret_hash", sa.String(64), primary_key=True),
        user(),
        text("purpose", 16, needed=True),
        sa.Column("created_by", sa.Uuid, nullable=True),
        moment("created_at", needed=True),
        moment("expires_at", needed=True),
        moment("used_at"),
    )
    op.create_index("ix_one_time_links_user_id", "one_time_links", ["user_id"])
    op.create_index("ix_one_time_links_expires_at", "one_time_links", ["expires_at"])


def make_sign_ins() -> None:
    """Make the tables of what is begun at an identity provider or on a device."""
    op.create_table(
        "login_flows",
        sa.Column("state_hash", sa.String(64), primary_key=True),
        text("browser_hash", 64, needed=True),
        text("provider", 64, needed=True),
        user(needed=False),
        sa.Column("data", sa.JSON, nullable=False),
        moment("expires_at", needed=True),
    )
    op.create_index("ix_login_flows_expires_at", "login_flows", ["expires_at"])
    op.create_table(
        "device_codes",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("device_hash", sa.String(64), nullable=False, unique=True),
        sa.Column("user_code_hash", sa.String(64), nullable=False, unique=True),
        text("client", 200, needed=True),
        text("address", 64, needed=True),
        user(needed=False),
        moment("created_at", needed=True),
        moment("expires_at", needed=True),
        *(moment(name) for name in ("polled_at", "approved_at", "denied_at", "used_at")),
    )
    op.create_index("ix_device_codes_expires_at", "device_codes", ["expires_at"])


def make_audit_log() -> None:
    """Make the audit log. It refers to nothing, for it outlives what it tells of."""
    op.create_table(
        "audit_events",
        sa.Column("id", sa.Uuid, primary_key=True),
        moment("at", needed=True),
        sa.Column("actor_id", sa.Uuid, nullable=True),
        text("actor", 64),
        text("method", 16, needed=True),
        sa.Column("api_key_id", sa.Uuid, nullable=True),
        sa.Column("session_id", sa.Uuid, nullable=True),
        text("action", 64, needed=True),
        text("outcome", 16, needed=True),
        text("code", 64),
        text("target_type", 32),
        text("target_id", 255),
        text("address", 64),
        text("client", 200),
        text("request_id", 64),
        sa.Column("count", sa.Integer, nullable=False),
        sa.Column("details", sa.JSON, nullable=True),
    )
    for columns in (["actor_id", "id"], ["action", "id"], ["target_id", "id"], ["at"]):
        op.create_index(f"ix_audit_events_{'_'.join(columns)}", "audit_events", columns)
