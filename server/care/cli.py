"""The commands that look after an installation. What they do is in the other modules here, which load slowly."""

import os
from functools import partial
from pathlib import Path
from typing import NoReturn

import anyio
import click

from server.command_settings import run, settings_of_command, warn


@click.command()
@click.option("--thorough", is_flag=True, help="Read all of a SQLite database, to find damage. This takes a while.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(*, thorough: bool, as_json: bool) -> NoReturn:
    """Check everything that a gateway needs, and say what to do.

    Changes nothing, and works whatever is broken. Exits with status 1 if a check has failed.
    """
    os.umask(0o077)
    from server.care.doctor import run_doctor

    raise SystemExit(0 if anyio.run(partial(run_doctor, as_json=as_json, thorough=thorough)) else 1)


@click.command()
@click.argument("table", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def inspect(table: str | None, *, as_json: bool) -> None:
    """Show the database's tables: rows, sizes, columns and indexes, and which indexes are not used.

    With TABLE, all columns and indexes of that one.
    """
    settings = settings_of_command(warn)
    from server.care.inspecting import inspect_database

    run(partial(inspect_database, settings, table, as_json=as_json))


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--without-secrets", is_flag=True, help="Leave out the secret key that is in the data folder.")
@click.option("--force", is_flag=True, help="Replace FILE if it is there.")
def backup(file: Path, *, without_secrets: bool, force: bool) -> None:
    """Save the database and the secret key in FILE, while gateways work.

    Of PostgreSQL pg_dump makes it, which must be installed.
    """
    settings = settings_of_command(warn)
    from server.care.backup import make_backup

    run(partial(make_backup, settings, file, secrets=not without_secrets, force=force))


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--yes", is_flag=True, help="Do not ask whether it is meant.")
def restore(file: Path, *, yes: bool) -> None:
    """Put the backup in FILE in the place of the database, and keep aside what was there.

    Refuses while a gateway uses the database.
    """
    settings = settings_of_command(warn)
    if not yes:
        click.confirm("Replace the database and the secret key by those in the backup?", abort=True)
    from server.care.backup import restore_backup

    run(partial(restore_backup, settings, file))


CARE_COMMANDS = (doctor, inspect, backup, restore)
