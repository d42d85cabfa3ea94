"""Databases for tests: copies of migrated templates, on servers that a whole run shares."""

from tests.support.databases.servers import (
    PostgresqlDatabases,
    SqliteDatabases,
    postgresql_server,
    prepare_postgresql,
    shared_statements,
    sqlite_template,
)

__all__ = [
    "PostgresqlDatabases",
    "SqliteDatabases",
    "postgresql_server",
    "prepare_postgresql",
    "shared_statements",
    "sqlite_template",
]
