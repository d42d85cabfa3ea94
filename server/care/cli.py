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


KINDS = (
    *("text", "blobs", "idempotency-keys", "sessions", "sign-ins", "addresses", "links", "device-codes", "counters"),
    *("audit", "usage"),
)
AGED = ("text", "audit", "usage")


@click.command()
@click.option("--only", multiple=True, type=click.Choice(KINDS), help="Remove this only; may be given several times.")
@click.option(
    "--older-than",
    type=click.IntRange(min=2),
    metavar="DAYS",
    help="Remove what is older, whatever the settings keep. Needs --only, with text, audit or usage.",
)
@click.option("--dry-run", is_flag=True, help="Count it, and remove nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def prune(only: tuple[str, ...], older_than: int | None, *, dry_run: bool, as_json: bool) -> None:
    """Remove from the database what is too old, now. Running gateways do so by themselves."""
    if older_than is not None and (not only or set(only) - set(AGED)):
        raise click.UsageError(f"--older-than needs --only with {', '.join(AGED)}: the rest has an expiry of its own.")
    settings = settings_of_command(warn)
    from server.care.pruning import prune_database

    run(partial(prune_database, settings, only or KINDS, older_than, dry_run=dry_run, as_json=as_json))


@click.command("rotate-secret")
@click.option("--now", "at_once", is_flag=True, help="End all access tokens at once, as when the secret was stolen.")
@click.option("--yes", is_flag=True, help="Do not ask whether it is meant.")
def rotate_secret(*, at_once: bool, yes: bool) -> None:
    """Make a new secret key in the data folder.

    Tokens of the old one are taken until they expire. Sessions and API keys stay.
    """
    settings = settings_of_command(warn)
    if not yes:
        click.confirm("Make a new secret key? Gateways need a restart to use it.", abort=True)
    from server.care.secret import rotate

    run(partial(rotate, settings, at_once=at_once))


CARE_COMMANDS = (doctor, inspect, backup, restore, prune, rotate_secret)
