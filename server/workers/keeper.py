"""Runs one program for exactly as long as its own standard input is open, and then removes a folder or a file.

A program of its own that imports nothing of ours: `python keeper.py PATH COMMAND ...`. The kernel closes the pipe
however the supervisor dies, so what is kept is never left over; on Linux the kernel ends it with this one, too.
"""

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import suppress

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Run the command; exit with its status, or with 128 and the signal that killed it."""
    path, *command = sys.argv[1:]
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=_prepare) as kept:  # noqa: S603
        at_end = threading.Event()
        threading.Thread(target=_kill_at_end_of_input, args=(kept, at_end), daemon=True).start()
        status = kept.wait()
    if at_end.is_set():
        _remove(path)
    sys.exit(128 - status if status < 0 else status)


def _prepare() -> None:
    """Let signals do what they do by default, and end with this process."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _kill_at_end_of_input(kept: "subprocess.Popen[bytes]", at_end: threading.Event) -> None:
    while os.read(sys.stdin.fileno(), 4096):
        pass
    at_end.set()
    kept.kill()


def _remove(path: str) -> None:
    if os.path.isdir(path):
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            os.unlink(path)


if __name__ == "__main__":
    main()
