"""The checks of the machine: open files, the data folder, its disk, and who listens at the port."""

import fcntl
import os
import resource
import shutil
import socket
from pathlib import Path

from server.care.findings import Finding, fail, ok, shown_bytes, warn
from server.first_start import kept_secret
from server.settings import DATABASE_FILE, SECRET_FILE, Settings, SettingsError, is_open_to_others

FEW_OPEN_FILES = 4_096
"""Each stream takes two: with fewer, some hundred viewers are the end."""

LOW_DISK, LEAST_DISK = 1_000_000_000, 100_000_000
"""Free bytes below which the disk counts as nearly full, and as full."""

LARGE_WAL = 512_000_000
"""Bytes of SQLite's write-ahead log beyond which somebody keeps it from being written back."""

NOTES = "usage-*.notes"


def check_open_files() -> Finding:
    """Look at how many files a process may open. The gateway raises the soft limit itself."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < FEW_OPEN_FILES:
        return warn(
            "open files",
            f"a process may open {hard:,}, and each stream takes two",
            "Raise it: LimitNOFILE=65536 for systemd, --ulimit nofile=65536 for Docker, or ulimit -Hn 65536.",
        )
    return ok("open files", "no limit" if hard == resource.RLIM_INFINITY else f"up to {hard:,}")


def check_data_dir(settings: Settings) -> list[Finding]:
    """Look at the data folder, without making or changing anything in it."""
    folder, check = settings.data_dir, "data folder"
    if not folder.exists():
        return [warn(check, f"{folder} is not there", "`ollagraph serve` makes it; or set OLLAGRAPH_DATA_DIR.")]
    if not folder.is_dir():
        return [fail(check, f"{folder} is a file", "Set OLLAGRAPH_DATA_DIR to a folder.")]
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        return [
            fail(check, f"{folder} cannot be read and written", "Give it to the user that runs the gateway: chown.")
        ]
    found: list[Finding] = []
    if is_open_to_others(folder):
        found.append(warn(check, f"{folder} is open to other users", f"Close it: chmod 700 {folder}"))
    else:
        found.append(ok(check, str(folder)))
    ours = [SECRET_FILE, DATABASE_FILE, f"{DATABASE_FILE}-wal"]
    if exposed := [name for name in ours if (folder / name).exists() and is_open_to_others(folder / name)]:
        found.append(warn(check, f"others can read {', '.join(exposed)}", "Close them: chmod 600."))
    return [*found, *_disk(folder), *_wal(settings), *_secret(settings)]


def _disk(folder: Path) -> list[Finding]:
    usage = shutil.disk_usage(folder)
    told = f"{shown_bytes(usage.free)} of {shown_bytes(usage.total)} are free"
    advice = "Make room: `ollagraph prune`, shorter retentions (docs/settings.md), or a larger disk."
    if usage.free < LEAST_DISK:
        return [fail("disk", told, advice)]
    return [warn("disk", told, advice) if usage.free < LOW_DISK else ok("disk", told)]


def _wal(settings: Settings) -> list[Finding]:
    path = settings.data_dir / f"{DATABASE_FILE}-wal"
    size = path.stat().st_size if path.exists() else 0
    if size < LARGE_WAL:
        return []
    told = f"{path.name} has {shown_bytes(size)}: something has been reading the database for long"
    return [warn("disk", told, "End programs that hold the database open, such as a database browser.")]


def _secret(settings: Settings) -> list[Finding]:
    path = settings.data_dir / SECRET_FILE
    if settings.secret_key is not None or not path.exists():
        return []
    try:
        kept_secret(path)
    except (SettingsError, OSError) as error:
        return [fail("secret", str(error), "Restore it from a backup, or delete it: then access tokens end.")]
    return [ok("secret", f"{path.name} is whole")]


def running_processes(folder: Path) -> int:
    """Count the gateways on this machine that use a data folder: each holds a file there locked while it lives."""
    return sum(_is_locked(path) for path in folder.glob(NOTES))


def check_leftovers(settings: Settings) -> list[Finding]:
    """Look for what a process that was killed has left in the data folder."""
    left = [path.name for path in settings.data_dir.glob(NOTES) if not _is_locked(path)]
    asides = sorted(settings.data_dir.glob("*.before-restore-*"))
    found: list[Finding] = []
    if left:
        found.append(
            warn(
                "leftovers",
                f"a gateway was killed here: {len(left)} notes of what its generations used",
                "Start a gateway: it bills what they used, and removes the notes an hour after.",
            )
        )
    if asides:
        size = shown_bytes(sum(path.stat().st_size for path in asides))
        found.append(
            warn("leftovers", f"{len(asides)} files of before a restore, {size}", "Delete them when all is well.")
        )
    return found


def _is_locked(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def check_port(settings: Settings) -> Finding:
    """Tell whether something listens where the gateway would."""
    host, port = settings.host, settings.port
    try:
        with socket.create_connection((settings.local_host, port), 2):
            pass
    except OSError:
        return ok("port", f"nothing listens at {host}:{port}")
    if running_processes(settings.data_dir):
        return ok("port", f"a gateway of this data folder is running, and {host}:{port} is in use")
    return warn(
        "port",
        f"another program listens at {host}:{port}",
        "End it, or set OLLAGRAPH_PORT to another. It may be a gateway with another data folder.",
    )
