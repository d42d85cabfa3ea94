"""What an installation is made of: the locked Python packages, and the npm packages built into the page."""

import json
import re
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
LOCKS = ("requirements.lock", "requirements-model.lock")
"""What `make run` and the image with the built-in model install."""

CLASSIFIERS = {
    "MIT License": "MIT",
    "BSD License": "BSD-3-Clause",
    "Apache Software License": "Apache-2.0",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
}
"""How older packages name their licence, and its SPDX name."""


class PythonPackage(NamedTuple):
    """A pinned package of a lock file, with the hashes of the files that are accepted."""

    name: str
    version: str
    hashes: tuple[str, ...]


class PagePackage(NamedTuple):
    """An npm package that is built into the page."""

    name: str
    version: str
    licence: str
    integrity: str


def canonical(name: str) -> str:
    """Bring a package's name into the one form in which names are compared."""
    return re.sub(r"[-_.]+", "-", name).lower()


def python_packages() -> list[PythonPackage]:
    """Read the lock files, in the order of names; one that is pinned twice, for two Pythons, is there twice."""
    text = "".join((ROOT / lock).read_text() for lock in LOCKS)
    entries = re.findall(r"^([\w.-]+)==(\S+).*\n((?: +--hash=.*\n?)+)", text, re.MULTILINE)
    return sorted(
        PythonPackage(canonical(name), version, tuple(re.findall(r"sha256:(\w+)", hashes)))
        for name, version, hashes in entries
    )


def page_packages() -> list[PagePackage]:
    """Read what the page's lock holds besides tools, in the order of names."""
    return sorted(set(_page_packages()))


def _page_packages() -> Iterator[PagePackage]:
    packages = json.loads((ROOT / "web" / "package-lock.json").read_text())["packages"]
    for path, it in packages.items():
        if path and not (it.get("dev") or it.get("devOptional") or it.get("optional") or it.get("peer")):
            name = path.rpartition("node_modules/")[2]
            yield PagePackage(name, it["version"], it.get("license", "not told"), it.get("integrity", ""))


def licence(name: str) -> str | None:
    """Give the licence of an installed package, by its SPDX name; None where the package is not installed."""
    try:
        told = metadata.metadata(name)
    except metadata.PackageNotFoundError:
        return None
    if expression := told.get("License-Expression"):
        return expression
    classes = [it.rpartition(" :: ")[2] for it in told.get_all("Classifier") or [] if it.startswith("License ::")]
    if known := [CLASSIFIERS[it] for it in classes if it in CLASSIFIERS]:
        return " OR ".join(known)
    return (told.get("License") or "not told").splitlines()[0]
