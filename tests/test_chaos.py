"""Streams survive what `make chaos` does to them; here in its short version."""

import os
import subprocess
import sys

import pytest

from tests.support.processes import ROOT


@pytest.mark.skipif("CI" not in os.environ, reason="takes half a minute: runs in CI, and by itself as `make chaos`")
def test_nothing_is_lost_when_everything_is_killed():
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.chaos", "--short"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "lost characters                                  0" in done.stdout
