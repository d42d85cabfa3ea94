"""What no log may hold, looked for in all that the tests log: prompts, answers, passwords, tokens and keys.

`tests/conftest.py` registers it with `pytest_plugins`. Each process of a run writes what it logs, as the product would
with "debug" for all areas, to a file of its own, and looks through it at its end.
"""

import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from server import logs
from tests.support.fake_model_server.asked import ASKED
from tests.support.gateways import gateway_settings

ANSWERED = "0 1 2 3 "
"""How the fake model server counts."""

PASSWORDS = ("correct horse battery", "Tr0ub4dor")

SECRETS = re.compile(r"olg_\w{20,}|olr_\w{20,}|eyJ[\w-]{10,}\.[\w-]{10,}|\$argon2id\$")
"""API keys, refresh tokens, JSON Web Tokens, and hashes of passwords."""

AREAS = ("auth", "backends", "db", "gateway", "ollagraph", "resolvers", "schema", "server")


def found_in(log: str) -> list[str]:
    """List the secrets in a log."""
    marks = [mark for mark in (ANSWERED, *PASSWORDS, *ASKED) if mark in log]
    return marks + [found[0] for found in SECRETS.finditer(log)]


@pytest.fixture(scope="session", autouse=True)
def log_without_secrets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Write what this process logs to a file, and fail at the end of the session if that tells any secret."""
    path = tmp_path_factory.mktemp("log") / "log.jsonl"
    before = {name: logging.getLogger(name).level for name in AREAS}
    root = logging.getLogger().level
    settings = gateway_settings(
        path.parent, "sqlite://", None, log_file=path, log_level="warning", log_levels=dict.fromkeys(AREAS, "debug")
    )
    log = logs.configure(settings)
    try:
        yield path
    finally:
        log.close()
        logging.getLogger().setLevel(root)
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)
    assert found_in(path.read_text()) == [], "the log tells what it must not"
