"""The plugin that makes a skipped test fail under CI, in a pytest of its own."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
SKIPPED = "import pytest\n\n@pytest.mark.skip(reason='no browser here')\ndef test_page(): ...\n"
PASSING = "def test_page(): ...\n"
EXPECTED_FAILURE = "import pytest\n\n@pytest.mark.xfail(strict=True)\ndef test_page(): raise AssertionError\n"
SKIPPED_MODULE = "import pytest\n\npytest.skip('no server here', allow_module_level=True)\n"


def run(folder: Path, source: str, ci: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_it.py").write_text(source)
    (folder / "pytest.ini").write_text("[pytest]\n")
    command = [sys.executable, "-m", "pytest", "-p", "tests.support.no_skips", "-p", "no:cacheprovider", "-q"]
    environment = {**os.environ, "CI": ci, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_a_skipped_test_fails_the_session_under_ci_and_is_named(tmp_path: Path):
    done = run(tmp_path, SKIPPED, ci="true")
    assert (done.returncode, "test_it.py::test_page: Skipped: no browser here" in done.stdout) == (1, True)


def test_a_skipped_module_fails_the_session_under_ci_and_is_named(tmp_path: Path):
    done = run(tmp_path, SKIPPED_MODULE, ci="true")
    assert (done.returncode, "test_it.py: Skipped: no server here" in done.stdout) == (1, True)


def test_a_skipped_test_is_no_failure_elsewhere(tmp_path: Path):
    assert run(tmp_path, SKIPPED, ci="").returncode == 0


def test_a_session_without_skips_passes_under_ci(tmp_path: Path):
    assert run(tmp_path, PASSING, ci="true").returncode == 0


def test_an_expected_failure_is_not_a_skip(tmp_path: Path):
    assert run(tmp_path, EXPECTED_FAILURE, ci="true").returncode == 0
