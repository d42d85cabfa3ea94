"""`ollagraph backup` and `ollagraph restore`: the database, and the secret in the data folder, in one file."""

import os
import sqlite3
import sys
import tempfile
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import click
from anyio import to_thread

from db.engine import Database
from db.migrations import current_revision
from db.ownership import UnusableDatabase
from db.postgresql_dump import DumpFailed, clear, dump, others_connected, restore
from db.revisions import known_revisions
from db.sqlite_copy import (
    DatabaseDamaged,
    DatabaseInUse,
    check_alone,
    check_whole,
    copy_database,
    replace_database,
    revision_of,
)
from db.urls import parse_database_url
from server.care.archive import (
    DUMP_FILE,
    SQLITE_FILE,
    BackupError,
    Manifest,
    packed,
    read_archive,
    write_archive,
)
from server.care.findings import shown_bytes
from server.care.machine import running_processes
from server.commands import database_of_command
from server.server_info import server_info
from server.settings import SECRET_FILE, Settings, prepare_data_dir

_STOP = "Stop all gateways and commands that use it, and try again."


async def make_backup(settings: Settings, target: Path, *, secrets: bool, force: bool) -> None:
    """Write a backup of the database as it is now, while gateways work. Raises BackupError."""
    if _size_of(target) is not None and not force:
        raise BackupError(f"{target} is there already. Name another file, or give --force.")
    secret = settings.data_dir / SECRET_FILE
    with _folder_beside(target) as folder:
        async with database_of_command(settings) as database:
            revision = await current_revision(database)
            if revision is None:
                raise BackupError(f"There is nothing to save: the database {database.place} is empty.")
            copy, revision = await _copied(settings, database, folder, revision)
        files = {copy.name: copy}
        if secrets and settings.secret_key is None and secret.exists():
            files[SECRET_FILE] = secret
        sizes = {name: await to_thread.run_sync(packed, path) for name, path in files.items()}
        manifest = Manifest(
            database.dialect, revision, server_info(settings).version, datetime.now(UTC).isoformat(), sizes
        )
        with _progress("Packing", sum(it.bytes for it in sizes.values())) as done:
            await to_thread.run_sync(write_archive, target, manifest, files, done)
    size = shown_bytes(_size_of(target) or 0)
    click.echo(f"Saved {database.place} at revision {revision} in {target} ({size}): {', '.join(files)}.")
    for line in _not_saved(settings, with_secret=SECRET_FILE in files):
        click.echo(line)


async def _copied(settings: Settings, database: Database, folder: Path, revision: str) -> tuple[Path, str | None]:
    """Copy the database; give the file, and the revision that it is at."""
    if database.dialect == "postgresql":
        click.echo(f"Dumping {database.place} ...", err=True)
        copy = folder / DUMP_FILE
        await _or_error(dump(settings.database, copy, os.environ))
        return copy, revision
    copy = folder / SQLITE_FILE
    with _progress("Copying", 1) as done:
        last = 0.0

        def tell(pages: int, of: int) -> None:
            nonlocal last
            done(pages / max(of, 1) - last)
            last = pages / max(of, 1)

        try:
            await to_thread.run_sync(copy_database, Path(database.place), copy, tell)
        except (sqlite3.Error, DatabaseDamaged) as error:
            raise BackupError(f"{database.place} cannot be copied: {error}.") from error
    return copy, revision_of(copy)


def _not_saved(settings: Settings, *, with_secret: bool) -> list[str]:
    """Tell what else somebody needs who starts anew with this backup alone."""
    lines = ["Save yourself: your settings (the environment or .env)"]
    for path, what in (
        (settings.signing_keys, "the folder of signing keys"),
        (settings.providers_file, "the file of identity providers"),
        (settings.trusted_documents_path, "the trusted documents"),
    ):
        if path is not None:
            lines.append(f"{what} ({path})")
    if settings.secret_key is None and not with_secret and settings.signing_keys is None:
        lines.append(f"{SECRET_FILE} (without it everybody's access tokens end)")
    keep = "Keep the file as safe as the database: it holds " + ("the secret, " if with_secret else "")
    return [f"{', '.join(lines)}.", f"{keep}hashes of passwords and keys, and the text that is kept."]


async def restore_backup(settings: Settings, source: Path) -> None:
    """Put a backup in the place of the database, and keep what is there aside. Raises BackupError."""
    prepare_data_dir(settings)
    dialect = parse_database_url(settings.database).get_backend_name()
    await _check_stopped(settings, dialect)
    moment = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    with _folder_beside(_place(settings, dialect)) as folder:
        with _progress("Unpacking", _size_of(source) or 0) as done:
            manifest, files = await to_thread.run_sync(read_archive, source, folder, done)
        _check_fits(source, manifest, dialect)
        if dialect == "sqlite":
            kept = _put_sqlite(settings, files[SQLITE_FILE], moment)
        else:
            kept = await _put_postgresql(settings, files[DUMP_FILE], moment)
        kept += _put_secret(settings, files.get(SECRET_FILE), moment)
    click.echo(f"Restored the backup of {manifest.made_at[:19]}Z, at revision {manifest.revision}.")
    for path in kept:
        click.echo(f"What was there before is kept as {path}.")
    click.echo("What was revoked, deleted or changed after the backup is as it was then: look at keys and users.")
    if settings.redis_url is not None:
        click.echo("Empty the gateway's Valkey before you start it: it holds streams of after the backup.")


def _place(settings: Settings, dialect: str) -> Path:
    """Give the file of a SQLite database, else one in the data folder: beside it a backup is unpacked."""
    if dialect == "sqlite":
        return Path(parse_database_url(settings.database).database or "").absolute()
    return settings.data_dir / DUMP_FILE


async def _check_stopped(settings: Settings, dialect: str) -> None:
    if running_processes(settings.data_dir):
        raise BackupError(f"A gateway with the data folder {settings.data_dir} is running. {_STOP}")
    if dialect == "sqlite":
        try:
            check_alone(_place(settings, dialect))
        except DatabaseInUse as error:
            raise BackupError(f"{error} {_STOP}") from error
        return
    async with database_of_command(settings) as database:
        if others := await others_connected(database):
            raise BackupError(f"{others} connections of gateways use the database {database.place}. {_STOP}")


def _check_fits(source: Path, manifest: Manifest, dialect: str) -> None:
    if manifest.database != dialect:
        raise BackupError(f"{source} is of {manifest.database}, and OLLAGRAPH_DATABASE_URL names {dialect}.")
    if manifest.revision is not None and manifest.revision not in known_revisions():
        raise BackupError(
            f"{source} was made by a newer version of Ollagraph (its revision is {manifest.revision!r}). "
            "Restore it with that version."
        )


def _put_sqlite(settings: Settings, new: Path, moment: str) -> list[Path]:
    path = _place(settings, "sqlite")
    aside = path.with_name(f"{path.name}.before-restore-{moment}")
    try:
        check_whole(new)
        return [aside] if replace_database(path, new, aside) else []
    except DatabaseDamaged as error:
        raise BackupError(f"The database in the backup is damaged: {error}. Nothing was changed.") from error
    except DatabaseInUse as error:
        raise BackupError(f"{error} {_STOP}") from error


async def _put_postgresql(settings: Settings, new: Path, moment: str) -> list[Path]:
    aside = settings.data_dir / f"{DUMP_FILE}.before-restore-{moment}"
    async with database_of_command(settings) as database:
        try:
            is_empty = await current_revision(database) is None
        except UnusableDatabase as error:  # as a newer version's, from which people come back
            if "another program" in str(error):
                raise
            is_empty = False
        if not is_empty:
            click.echo(f"Dumping what is there to {aside} ...", err=True)
            await _or_error(dump(settings.database, aside, os.environ))
        await clear(database)
        click.echo(f"Restoring {database.place} ...", err=True)
        try:
            await restore(settings.database, new, os.environ)
        except DumpFailed as error:
            if is_empty:
                raise BackupError(f"{error} The database is empty, as it was.") from error
            await _or_error(restore(settings.database, aside, os.environ))
            raise BackupError(f"{error} The database is as it was before.") from error
    return [] if is_empty else [aside]


def _put_secret(settings: Settings, new: Path | None, moment: str) -> list[Path]:
    path = settings.data_dir / SECRET_FILE
    if new is None or settings.secret_key is not None:
        return []
    kept: list[Path] = []
    if path.exists() and path.read_bytes() != new.read_bytes():
        kept = [path.with_name(f"{path.name}.before-restore-{moment}")]
        path.rename(kept[0])
    new.replace(path)
    return kept


async def _or_error(work: Awaitable[None]) -> None:
    try:
        await work
    except DumpFailed as error:
        raise BackupError(str(error)) from error


def _size_of(path: Path) -> int | None:
    return path.stat().st_size if path.exists() else None


@contextmanager
def _folder_beside(target: Path) -> Generator[Path]:
    """Give a folder for the block, in the same file system as the target. Raises BackupError."""
    try:
        with tempfile.TemporaryDirectory(prefix=".ollagraph-", dir=target.absolute().parent) as folder:
            yield Path(folder)
    except OSError as error:
        raise BackupError(f"{error.filename or target} cannot be written ({error.strerror}).") from error


@contextmanager
def _progress(label: str, length: float) -> Generator[Callable[[float], None]]:
    """Show how far something is, on a terminal."""
    steps = 1_000
    with click.progressbar(
        length=steps, label=label, file=sys.stderr, hidden=not sys.stderr.isatty(), show_pos=False
    ) as bar:
        done = 0.0

        def tell(more: float) -> None:
            nonlocal done
            done += more
            bar.update(min(round(steps * done / (length or 1)), steps) - bar.pos)

        yield tell
