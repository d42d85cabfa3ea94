"""The lock files say what pyproject.toml asks for, with hashes, and name no host."""

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parent.parent
LOCKS = (
    "requirements.lock",
    "requirements-dev.lock",
    "requirements-model.lock",
    "requirements-node.lock",
    "requirements-codegen.lock",
    "requirements-ldap.lock",
    "requirements-workers.lock",
    "requirements-traces.lock",
)
PROJECT = "project"

LOCKED_IN = [
    ("requirements.lock", (PROJECT, "embedded", "build")),
    ("requirements-dev.lock", (PROJECT, "embedded", "build", "dev")),
    ("requirements-model.lock", ("model",)),
    ("requirements-node.lock", ("node",)),
    ("requirements-codegen.lock", ("codegen",)),
    ("requirements-ldap.lock", ("ldap",)),
    ("requirements-workers.lock", ("workers",)),
    ("requirements-traces.lock", ("traces",)),
]
"""Lock file, and the groups of pyproject.toml that it holds. `project` stands for the dependencies of the product."""


class Entry(NamedTuple):
    """One pinned package of a lock file."""

    name: str
    version: Version
    hashes: tuple[str, ...]


def entries(text: str) -> Iterator[Entry]:
    """Read a lock file: `name==version ; marker \\` and its hashes, one to a line."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        required = Requirement(line.split("--hash")[0])
        (pin,) = required.specifier
        assert pin.operator == "=="
        hashes = tuple(re.findall(r"--hash=(sha256:[0-9a-f]{64})\b", line))
        yield Entry(canonicalize_name(required.name), Version(pin.version), hashes)


def locked(lock: str) -> list[Entry]:
    return list(entries((ROOT / lock).read_text()))


def asked_for(group: str) -> list[Requirement]:
    """Give what pyproject.toml asks for in a group."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())
    if group == PROJECT:
        return [Requirement(line) for line in declared["project"]["dependencies"]]
    return [Requirement(line) for line in declared["dependency-groups"][group]]


def unsatisfied(required: list[Requirement], pinned: list[Entry]) -> list[str]:
    """List what is asked for and not locked, or locked in a version that was not asked for."""
    versions: dict[str, list[Version]] = {}
    for entry in pinned:
        versions.setdefault(entry.name, []).append(entry.version)
    return [
        f"{requirement} (locked: {', '.join(map(str, found)) or 'not at all'})"
        for requirement in required
        if not (found := versions.get(canonicalize_name(requirement.name), []))
        or not all(requirement.specifier.contains(version, prereleases=True) for version in found)
    ]


def test_every_group_is_locked_somewhere():
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    assert {PROJECT, *groups} == {group for _, held in LOCKED_IN for group in held}


def test_an_extra_and_the_group_of_its_name_are_the_same():
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = declared["project"]["optional-dependencies"]
    assert extras == {name: declared["dependency-groups"][name] for name in extras}


@pytest.mark.parametrize(("lock", "groups"), LOCKED_IN)
def test_a_lock_satisfies_pyproject(lock: str, groups: tuple[str, ...]):
    required = [requirement for group in groups for requirement in asked_for(group)]
    assert unsatisfied(required, locked(lock)) == [], "make lock"


@pytest.mark.parametrize("lock", LOCKS)
def test_every_locked_package_has_a_hash(lock: str):
    pinned = locked(lock)
    assert (bool(pinned), [entry.name for entry in pinned if not entry.hashes]) == (True, [])


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_names_no_host(lock: str):
    assert re.findall(r".*(?:://|--(?:extra-)?index-url|--find-links).*", (ROOT / lock).read_text()) == []


@pytest.mark.parametrize("lock", sorted(set(LOCKS) - {"requirements-model.lock", "requirements-codegen.lock"}))
def test_a_lock_agrees_with_the_one_for_development(lock: str):
    development = locked("requirements-dev.lock")
    names = {entry.name for entry in development}
    assert [entry for entry in locked(lock) if entry.name in names and entry not in development] == [], "make lock"


def test_a_version_that_was_not_asked_for_is_found():
    pinned = list(
        entries("# made by\nHTTP_x==1.4 ; python_version > '3' \\\n    --hash=sha256:" + "0" * 64 + "\n    # via y")
    )
    assert unsatisfied([Requirement("http-x>=1.5"), Requirement("other")], pinned) == [
        "http-x>=1.5 (locked: 1.4)",
        "other (locked: not at all)",
    ]


every_node_package = pytest.mark.parametrize("folder", ["web", "tests/schema_lint"])


def node_packages(folder: str) -> dict[str, dict[str, Any]]:
    """Give the locked packages of a Node.js package, without itself."""
    packages = json.loads((ROOT / folder / "package-lock.json").read_text())["packages"]
    return {path: package for path, package in packages.items() if path and not package.get("inBundle")}


@every_node_package
def test_every_node_package_has_a_hash(folder: str):
    packages = node_packages(folder)
    assert (bool(packages), [path for path, it in packages.items() if "integrity" not in it]) == (True, [])


@every_node_package
def test_a_lock_of_node_packages_names_no_host(folder: str):
    assert [path for path, it in node_packages(folder).items() if "://" in it.get("resolved", "")] == []


@every_node_package
def test_a_lock_of_node_packages_holds_what_was_asked_for(folder: str):
    asked = json.loads((ROOT / folder / "package.json").read_text())
    held = json.loads((ROOT / folder / "package-lock.json").read_text())["packages"][""]
    assert [held.get(kind) for kind in ("dependencies", "devDependencies")] == [
        asked.get(kind) for kind in ("dependencies", "devDependencies")
    ]
