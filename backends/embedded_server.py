"""The child process of the embedded model: a llama.cpp server that lives exactly as long as its parent.

It is a program of its own (`backends.model_process` starts it) and imports nothing of ours. It reads one line of JSON
from its standard input (written by `ModelProcess`), loads the model, and writes one line of JSON to its standard
output, `{"address"}`. Then it serves until its standard input ends. The kernel closes that pipe however the parent
dies, so no child is ever left over.
"""

import ctypes
import importlib
import json
import os
import signal
import sys
import threading
from typing import Any

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Serve until standard input ends; exit with status 1 when the model cannot be loaded."""
    # llama.cpp may write to standard output, where the parent expects our one line and nothing else.
    answer = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    config = json.loads(sys.stdin.buffer.readline())
    _die_with(config["parent_pid"])
    sys.path[:] = config["import_path"]  # xllamacpp is found wherever the parent found it
    threading.Thread(target=_exit_at_end_of_input, daemon=True).start()
    try:
        server = _start(config)
    except RuntimeError:
        _write_log_out()
        raise SystemExit(1) from None
    os.write(answer, json.dumps({"address": server.listening_address}).encode() + b"\n")
    threading.Event().wait()


def _start(config: dict[str, Any]) -> Any:
    xllamacpp: Any = importlib.import_module("xllamacpp")
    params = xllamacpp.CommonParams()
    params.model.path = config["model_path"]
    params.model_alias = {config["model_name"]}
    params.hostnames = ["127.0.0.1"]
    params.api_keys = [config["api_key"]]
    params.n_parallel = config["parallel"]
    if config["threads"] is not None:
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = config["threads"]
    params.n_ctx = config["context_length"] * config["parallel"]  # llama.cpp shares it out among the slots
    params.cache_ram_mib = 0  # its prompt cache would grow to 8 GiB
    params.ui = False
    params.endpoint_slots = False
    return xllamacpp.Server(params)


def _write_log_out() -> None:
    """Wait until llama.cpp's logging thread has written why the model could not be loaded; an exit does not."""
    library = ctypes.CDLL(importlib.import_module("xllamacpp.xllamacpp").__file__)
    try:
        log, pause = library._Z15common_log_mainv, library._Z16common_log_pauseP10common_log
    except AttributeError:  # a build that keeps its names to itself: nearly always the thread is fast enough
        return
    log.restype = ctypes.c_void_p
    pause(ctypes.c_void_p(log()))


def _exit_at_end_of_input() -> None:
    while os.read(sys.stdin.fileno(), 4096):
        pass
    # Nothing here is worth a clean shutdown, which would wait for answers that nobody reads any more.
    os._exit(0)


def _die_with(parent_pid: int) -> None:
    """Ask Linux for the same a second time: while a model is being loaded, no thread may get to run."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        os._exit(0)


if __name__ == "__main__":
    main()
