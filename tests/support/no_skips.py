"""Under CI a skipped test is a failure: there every real part can be had, so a skip hides a broken set-up.

`tests/conftest.py` registers it with `pytest_plugins = ["tests.support.no_skips"]`.
"""

import os

import pytest


def under_ci() -> bool:
    """Tell whether this is a CI machine: they all set CI to something that means yes."""
    return os.environ.get("CI", "").lower() not in ("", "0", "false", "no")


class SkipsFail:
    """Collects the skipped tests of one session and fails it in the end. An expected failure is not a skip."""

    def __init__(self) -> None:
        self.skipped: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.skipped and not hasattr(report, "wasxfail"):
            self.skipped.append(f"{report.nodeid}: {reason(report)}")

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.skipped:
            self.skipped.append(f"{report.nodeid}: {reason(report)}")

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.skipped and session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.skipped:
            terminalreporter.section("skipped under CI, which is a failure", red=True)
            for line in self.skipped:
                terminalreporter.line(line)


def reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    """Give why a test was skipped, as its author put it. pytest keeps it as (path, line, reason)."""
    return str(report.longrepr[2]) if isinstance(report.longrepr, tuple) else str(report.longrepr)


def pytest_configure(config: pytest.Config) -> None:
    if under_ci():
        config.pluginmanager.register(SkipsFail(), "skips-fail")
