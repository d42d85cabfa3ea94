"""Write the software bill of materials (CycloneDX 1.6, JSON) of an installation: `python .ci/sbom.py FILE`.

cyclonedx-py tells what is installed in this environment, which holds the tools for tests, too. Only what the lock files
of an installation name is kept of it, with the hashes of the files that are accepted; what is built into the page is
added. The same commit gives the same bytes where SOURCE_DATE_EPOCH is set.
"""

import base64
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from parts import ROOT, canonical, page_packages, python_packages

ROOT_REF = "root-component"


def installed() -> dict[str, Any]:
    """Have cyclonedx-py describe this environment."""
    command = [sys.executable, "-m", "cyclonedx_py", "environment", "--no-validate", "--output-reproducible"]
    command += ["--spec-version", "1.6", "--pyproject", str(ROOT / "pyproject.toml"), sys.executable]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - nothing from outside
    if done.returncode:
        raise SystemExit(f"cyclonedx-py failed: {done.stderr.strip()}")
    return json.loads(done.stdout)


def page_component(name: str, version: str, licence: str, integrity: str) -> dict[str, Any]:
    """Describe an npm package."""
    purl = f"pkg:npm/{name.replace('@', '%40')}@{version}"
    algorithm, _, digest = integrity.partition("-")
    choice = {"expression": licence} if " " in licence else {"license": {"id": licence}}
    component = {"bom-ref": purl, "type": "library", "name": name, "version": version, "purl": purl}
    component |= {"licenses": [choice]}
    if algorithm == "sha512":
        component["hashes"] = [{"alg": "SHA-512", "content": base64.b64decode(digest).hex()}]
    return component


def bill() -> dict[str, Any]:
    """Give the bill. Ends with a message where a locked package is not installed in its version."""
    bom = installed()
    locked = {(it.name, it.version): it.hashes for it in python_packages()}
    kept: list[dict[str, Any]] = []
    for component in bom["components"]:
        hashes = locked.get((canonical(component["name"]), component["version"]))
        if hashes is not None:
            accepted = [{"alg": "SHA-256", "content": it} for it in hashes]
            reference = {"type": "distribution", "url": "requirements.lock", "hashes": accepted}
            reference["comment"] = "the files that the lock accepts"
            component["externalReferences"] = [*component.get("externalReferences", []), reference]
            kept.append(component)
    missing = {name for name, _ in locked} - {canonical(it["name"]) for it in kept} - only_elsewhere()
    if missing:
        raise SystemExit(f"not installed here as the locks say: {', '.join(sorted(missing))}. Run `make setup` first.")
    refs = {it["bom-ref"] for it in kept} | {ROOT_REF}
    edges = {it["ref"]: [ref for ref in it.get("dependsOn", []) if ref in refs] for it in bom["dependencies"]}
    page = [page_component(*it) for it in page_packages()]
    edges[ROOT_REF] = sorted({*edges.get(ROOT_REF, []), *(it["bom-ref"] for it in page)})
    refs |= {it["bom-ref"] for it in page}
    bom["components"] = sorted([*kept, *page], key=lambda it: it["bom-ref"])
    bom["dependencies"] = [{"ref": ref} | ({"dependsOn": edges[ref]} if edges.get(ref) else {}) for ref in sorted(refs)]
    return bom


def only_elsewhere() -> set[str]:
    """Give the locked packages whose marker says that this Python needs none of them."""
    from packaging.requirements import Requirement

    found: dict[str, bool] = {}
    for line in (ROOT / "requirements.lock").read_text().splitlines():
        if "==" in line and not line.startswith((" ", "#")):
            required = Requirement(line.removesuffix("\\"))
            needed = required.marker is None or required.marker.evaluate()
            found[canonical(required.name)] = found.get(canonical(required.name), False) or needed
    return {name for name, needed in found.items() if not needed}


def main(path: str) -> None:
    """Write the bill."""
    text = json.dumps(bill(), indent=2, ensure_ascii=False, sort_keys=True)
    Path(path).write_text(f"{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
