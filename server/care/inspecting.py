"""`ollagraph inspect`: the tables of the database, what they take, and which of their indexes nobody uses."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import click
import orjson

from db.migrations import current_revision
from gateway.care import Inspection, TableShape
from server.care.findings import shown_bytes
from server.commands import database_of_command
from server.settings import Settings, SettingsError


async def inspect_database(settings: Settings, table: str | None, *, as_json: bool) -> None:
    """Print the tables, or all about one. Raises SettingsError for one that is not there."""
    async with database_of_command(settings) as database:
        revision = await current_revision(database)
        tables = await Inspection(database).tables()
        if table is not None:
            tables = [it for it in tables if it.name == table]
            if not tables:
                raise SettingsError(f"There is no table {table!r} in the database {database.place}.")
        if as_json:
            shown = {
                "database": database.dialect,
                "place": database.place,
                "revision": revision,
                "tables": [_entry(it) for it in tables],
            }
            click.echo(orjson.dumps(shown, option=orjson.OPT_INDENT_2).decode())
        elif table is not None:
            _print_table(tables[0])
        else:
            click.echo(f"{database.dialect} {database.place}, at {revision or 'no revision'}\n")
            _print_tables(tables)


def _entry(table: TableShape) -> dict[str, Any]:
    entry = asdict(table)
    for index in entry["indexes"]:
        index["unused"] = None if index["scans"] is None else index["scans"] == 0
    return entry


def _print_tables(tables: Sequence[TableShape]) -> None:
    rows = [("table", "rows", "size", "indexes", "size of indexes")]
    for table in tables:
        in_indexes = [index.bytes for index in table.indexes if index.bytes is not None]
        rows.append(
            (table.name, f"{table.rows:,}", _size(table.bytes), str(len(table.indexes)), _size(sum(in_indexes)))
        )
    print_columns(rows)
    if unused := [(table.name, index) for table in tables for index in table.indexes if index.scans == 0]:
        click.echo("\nIndexes that were not used since the server's statistics were reset:")
        for name, index in unused:
            click.echo(f"  {index.name} of {name} ({_size(index.bytes)}){', unique' if index.unique else ''}")
    if covered := [(table.name, index) for table in tables for index in table.indexes if index.covered_by]:
        click.echo("\nIndexes whose columns another index begins with:")
        for name, index in covered:
            click.echo(f"  {index.name} of {name}: {index.covered_by}")


def _print_table(table: TableShape) -> None:
    click.echo(f"{table.name}: {table.rows:,} rows, {_size(table.bytes)}\n")
    kinds = [("column", "type", "")]
    for column in table.columns:
        notes = ["key"] * column.primary_key + ["may be NULL"] * column.nullable
        kinds.append((column.name, column.type, ", ".join(notes)))
    print_columns(kinds)
    if table.indexes:
        click.echo()
        shown = [("index", "columns", "size", "scans", "")]
        for index in table.indexes:
            scans = "not counted" if index.scans is None else f"{index.scans:,}"
            kind = "unique" if index.unique else f"covered by {index.covered_by}" if index.covered_by else ""
            shown.append((index.name, ", ".join(index.columns), _size(index.bytes), scans, kind))
        print_columns(shown)


def print_columns(rows: Sequence[Sequence[str]]) -> None:
    """Print rows below each other, each column as wide as it must be."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        click.echo("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


def _size(number: int | None) -> str:
    return "?" if number is None else shown_bytes(number)
