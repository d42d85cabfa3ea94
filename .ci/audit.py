"""Look the locked versions up in the database of known vulnerabilities, and never pass without having looked.

pip-audit ends well when the service answers that it knows none of the packages, as a mirror without PyPI's JSON API
does. So its report is read here: a finding fails, a package that was not looked up fails, and a service that cannot be
reached is said to be just that.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

OK, FAILED = 0, 1
SKIPPED = "SKIPPED: the vulnerability service cannot be reached from here. Nothing was looked up."
UNREACHABLE = ("requests.exceptions.", "ServiceError", "Could not connect", "not redirecting properly")
"""What pip-audit says when the network or the service failed it, and not the lock file."""


def judge(dependencies: list[dict[str, Any]]) -> tuple[int, list[str]]:
    """Turn pip-audit's report on one lock file into an exit code and the lines that say why."""
    unknown = [entry for entry in dependencies if "skip_reason" in entry]
    findings = [(entry, finding) for entry in dependencies for finding in entry.get("vulns", [])]
    if dependencies and len(unknown) == len(dependencies):
        return OK, [SKIPPED]
    lines = [f"{entry['name']}: not looked up: {entry['skip_reason']}" for entry in unknown]
    for entry, finding in findings:
        repaired = ", ".join(finding.get("fix_versions", [])) or "no version yet"
        lines.append(f"{entry['name']} {entry['version']}: {finding['id']}, repaired in {repaired}")
    if lines or not dependencies:
        return FAILED, lines or ["the lock file names no package"]
    return OK, [f"{len(dependencies)} packages, no known vulnerability"]


def audit(lock: Path) -> tuple[int, list[str]]:
    """Ask pip-audit about one lock file. Its report goes to a file, since its messages go to both outputs."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        asked = ["-r", str(lock), "--require-hashes", "--disable-pip", "--progress-spinner", "off"]
        command = [sys.executable, "-m", "pip_audit", *asked, "-f", "json", "-o", str(report)]
        # Its command line is the only interface that pip-audit promises, and nothing in this one comes from outside.
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        text = report.read_text() if report.exists() else ""
    if text:
        return judge(json.loads(text)["dependencies"])
    last = (done.stderr.strip() or "it said nothing").splitlines()[-1]
    if any(sign in done.stderr for sign in UNREACHABLE):
        return OK, [SKIPPED]
    return FAILED, [f"pip-audit failed: {last}"]


def main(locks: list[str]) -> int:
    """Audit each lock file, print what was found, and give the worst exit code."""
    worst = OK
    for lock in locks:
        status, lines = audit(Path(lock))
        worst = max(worst, status)
        sys.stdout.writelines(f"{lock}: {line}\n" for line in lines)
    return worst


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
