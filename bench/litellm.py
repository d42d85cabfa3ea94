"""LiteLLM's proxy, in an environment of its own."""

import secrets
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import orjson

from bench import fake, paths
from bench.processes import ROOT, NotStarted, running
from tests.support.ports import free_port

VERSION = "1.106.2"
ENVIRONMENT = ROOT / ".make" / "bench-litellm"
INSTALL_SECONDS = 900


def install() -> bool:
    """Make the environment unless it is there; False, with the reason printed, when that fails."""
    done = ENVIRONMENT / f"installed-{VERSION}"
    if done.exists():
        return True
    print(f"Installing LiteLLM {VERSION} into {ENVIRONMENT.relative_to(ROOT)}, once ...", flush=True)
    pip = [str(ENVIRONMENT / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    try:
        subprocess.run([sys.executable, "-m", "venv", str(ENVIRONMENT)], check=True, timeout=INSTALL_SECONDS)
        subprocess.run([*pip, f"litellm[proxy]=={VERSION}"], check=True, timeout=INSTALL_SECONDS)
    except (subprocess.SubprocessError, OSError) as error:
        print(f"LiteLLM is left out: it could not be installed ({type(error).__name__}).", flush=True)
        return False
    done.touch()
    return True


@contextmanager
def proxy(folder: Path, model_server: str) -> Generator[paths.Path | None]:
    """The proxy before the fake's OpenAI side, one worker, a master key and no database; None when it won't start."""
    port, key = free_port(), f"sk-{secrets.token_hex(16)}"
    config = folder / "litellm.json"  # JSON is YAML too
    server = {"api_base": f"{model_server}/v1", "api_key": "none"}
    models = [
        {"model_name": name, "litellm_params": {"model": f"openai/{name}", **server}}
        for name in (fake.COUNT, fake.PACED, fake.PACED_LONG)
    ]
    config.write_bytes(orjson.dumps({"model_list": models, "general_settings": {"master_key": key}}))
    command = [str(ENVIRONMENT / "bin" / "litellm"), "--config", str(config), "--host", "127.0.0.1"]
    # its list of prices would otherwise be fetched from the network at the start
    others = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "PYTHONPATH": "", "LITELLM_LOG": "ERROR"}
    path = "/health/liveliness"
    try:
        with running([*command, "--port", str(port)], folder, port, path, **others) as process:
            yield paths.litellm(process.url, key, process.pid)
    except NotStarted as error:
        print(f"LiteLLM is left out: it did not start.\n{error}", flush=True)
        yield None
