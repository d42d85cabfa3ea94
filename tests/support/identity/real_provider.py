"""oidc-provider-mock, in a process of its own: whoever wrote it has not seen this code."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from tests.support.ports import free_port

START_SECONDS = 30


@contextmanager
def running_real_provider(**claims: Any) -> Iterator[str]:
    """Start it with one person, and give its URL."""
    port = free_port()
    command = [sys.executable, "-m", "oidc_provider_mock", "--port", str(port), "--require-nonce", "true"]
    process = subprocess.Popen([*command, "--user-claims", json.dumps(claims)], stderr=subprocess.DEVNULL)
    until = time.monotonic() + START_SECONDS
    try:
        while True:
            try:
                httpx.get(f"http://127.0.0.1:{port}/jwks", trust_env=False).raise_for_status()
                break
            except httpx.TransportError:
                assert process.poll() is None
                assert time.monotonic() < until
                time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()
