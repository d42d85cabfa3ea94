"""The documents tell the truth: every setting, link and `make` target that they name is there."""

import re
from functools import cache
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

import pytest

from bench.scaling.__main__ import kept
from bench.scaling.tables import put_into
from server.settings import PREFIX, Settings, secret_settings
from tests.test_repository import ROOT, repository_files

NEEDED = [
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "LICENSE",
    "docs/settings.md",
    "docs/cli.md",
]

NO_SETTINGS = {
    "OLLAGRAPH_NEW_PASSWORD",  # read by one command only: docs/cli.md
    *("OLLAGRAPH_URL", "OLLAGRAPH_API_KEY", "OLLAGRAPH_USERNAME", "OLLAGRAPH_PASSWORD"),  # read by the examples
}
"""What is named like a setting of the gateway and is none."""

LINK = re.compile(r"\]\(<?([^)\s>]+)>?\)")
TARGET = re.compile(r"\bmake ([a-z][a-z-]*)\b")
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"```.*?```|`[^`\n]+`", re.DOTALL)
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


@cache
def documents() -> list[PurePosixPath]:
    """The markdown files of the repository."""
    return [path for path in repository_files() if path.suffix == ".md"]


@cache
def targets() -> set[str]:
    """What the Makefile can make."""
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def text_of(path: PurePosixPath) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def anchors(path: Path) -> set[str]:
    """The anchors of a markdown file, as GitHub makes them of its headings."""
    headings = HEADING.findall(FENCE.sub("", path.read_text(encoding="utf-8")))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def is_dead(document: PurePosixPath, link: str) -> bool:
    """Tell whether a link leads to no file or heading of the repository. What is on the Web is not looked at."""
    if re.match(r"[a-z]+:", link):
        return False
    name, _, anchor = unquote(link).partition("#")
    file = (ROOT / document.parent / name) if name else ROOT / document
    return not file.exists() or bool(anchor and file.suffix == ".md" and anchor not in anchors(file))


@pytest.mark.parametrize("name", NEEDED)
def test_a_document_that_everybody_looks_for_is_there(name: str):
    assert (ROOT / name).is_file()


def test_every_setting_that_is_named_is_one():
    known = {PREFIX + name.upper() for name in Settings.model_fields} | NO_SETTINGS
    known |= {f"{PREFIX}{name.upper()}_FILE" for name in secret_settings(Settings)}
    named = {
        (str(path), name)
        for path in [*documents(), PurePosixPath("Makefile"), PurePosixPath(".env.example")]
        for name in re.findall(rf"{PREFIX}[A-Z0-9_]*[A-Z0-9]", text_of(path))
    }
    assert [(path, name) for path, name in sorted(named) if name not in known] == []


def test_every_link_between_files_leads_somewhere():
    dead = [f"{path}: {link}" for path in documents() for link in LINK.findall(text_of(path)) if is_dead(path, link)]
    assert dead == []


def test_every_make_target_that_is_named_is_there():
    missing = [
        f"{path}: make {target}"
        for path in documents()
        for code in CODE.findall(text_of(path))
        for target in TARGET.findall(code)
        if target not in targets()
    ]
    assert missing == []


def test_the_changelog_has_a_place_for_what_is_not_released():
    assert "\n## Unreleased\n" in text_of(PurePosixPath("CHANGELOG.md")).replace("[Unreleased]", "Unreleased")


def test_the_tables_on_scaling_are_those_of_what_was_measured():
    document = text_of(PurePosixPath("docs/scaling.md"))
    assert document == put_into(document, kept())
    assert "| 1,000,000 |" in document


@pytest.mark.parametrize("link", ["missing.md", "../README.md", "README.md#no-such-heading", "#no-such-heading"])
def test_a_dead_link_is_found(link: str):
    assert is_dead(PurePosixPath("README.md"), link)


@pytest.mark.parametrize("link", ["LICENSE", "docs/cli.md", "docs/settings.md#in-production", "https://example.com/x"])
def test_a_link_that_leads_somewhere_is_none(link: str):
    assert not is_dead(PurePosixPath("README.md"), link)
