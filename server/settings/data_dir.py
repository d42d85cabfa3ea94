"""The data folder: for its owner only."""

import logging
import stat
from contextlib import suppress
from pathlib import Path

from server.settings.load import SettingsError
from server.settings.settings import DATABASE_FILE, Settings

logger = logging.getLogger(__name__)

SECRET_FILE = "secret.key"  # noqa: S105 - the name of the file, not what is in it
OTHERS = stat.S_IRWXG | stat.S_IRWXO


def prepare_data_dir(settings: Settings) -> None:
    """Make the data folder, for its owner only. Raises SettingsError."""
    folder = settings.data_dir
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _close_to_others(folder)
    except OSError as error:
        reason = "it is a file" if isinstance(error, FileExistsError) else error.strerror
        raise SettingsError(
            f"The data folder {folder} cannot be made or read ({reason}). Set OLLAGRAPH_DATA_DIR to another."
        ) from error


def _close_to_others(folder: Path) -> None:
    """Take from others what they may do in the folder and to our files in it.

    A folder that is somebody else's, or holds other things too, as a home folder does, is left as it is.
    """
    files = list(folder.iterdir())
    ours = [file for file in files if file.name == SECRET_FILE or file.name.startswith(DATABASE_FILE)]
    for file in ours:
        _take_from_others(file)
    if not is_open_to_others(folder):
        return
    if len(ours) == len(files) and _take_from_others(folder):
        logger.warning("the data folder %s was open to others; now it is not", folder)
    else:
        logger.warning("the data folder %s is open to others: chmod 700, or set OLLAGRAPH_DATA_DIR to another", folder)


def is_open_to_others(path: Path) -> bool:
    """Tell whether anybody but the owner may do something with it."""
    return bool(path.stat().st_mode & OTHERS)


def _take_from_others(path: Path) -> bool:
    """Tell whether nobody but the owner may do anything with it, after the attempt."""
    if is_open_to_others(path):
        with suppress(OSError):  # as for somebody else's
            path.chmod(stat.S_IMODE(path.stat().st_mode) & ~OTHERS)
    return not is_open_to_others(path)
