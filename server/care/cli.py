"""The commands that look after an installation. What they do is in the other modules here, which load slowly."""

import os
from functools import partial
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


CARE_COMMANDS = (doctor, inspect)
