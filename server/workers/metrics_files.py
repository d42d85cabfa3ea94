"""The files in which workers count together, so that any of them can tell what all have counted.

prometheus-client writes them, in its mode for several processes: a file for each process and kind. What a worker that
died has counted stays; what it showed as its state does not.
"""

import os
import shutil
from pathlib import Path

from server.settings import Settings

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""By which prometheus-client learns of the folder; it looks when it is imported."""

FOLDER = "metrics"


def prepare_metrics(settings: Settings) -> dict[str, str]:
    """Make the folder anew, below the data folder, and give what the workers' environment needs to hold."""
    if not settings.tells_metrics:
        return {}
    folder = settings.data_dir / FOLDER
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return {VARIABLE: str(folder.absolute())}


def forget_metrics_of(pid: int) -> None:
    """Remove what a worker that has ended showed as its state."""
    if folder := os.environ.get(VARIABLE):
        for path in Path(folder).glob(f"gauge_live*_{pid}.db"):
            path.unlink(missing_ok=True)
