"""Who may import whom, and who may touch what: ARCHITECTURE.md's rule, read off the syntax trees.

Server wires, resolvers translate, gateway decides, leaves obey.
"""

import ast
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).parent.parent

MAY_IMPORT = {
    "backends": (),
    "auth": (),
    "db": (),
    "alembic": ("db",),
    "gateway": ("auth", "db", "backends"),
    "schema": ("gateway", "auth", "db.tables"),
    "resolvers": ("schema", "gateway", "auth"),
    "server": ("auth", "backends", "db", "gateway", "resolvers", "schema"),
}
"""Folder: what of ours it may import, besides itself."""

# "alembic" in an import is the library: the folder has no __init__.py.
OURS = frozenset(MAY_IMPORT) - {"alembic"}

WEB_FRAMEWORKS = ("fastapi", "starlette", "strawberry")
MAY_NOT_IMPORT = {
    "backends": (*WEB_FRAMEWORKS, "sqlalchemy", "alembic"),
    "auth": (*WEB_FRAMEWORKS, "sqlalchemy", "alembic", "httpx"),
    "db": (*WEB_FRAMEWORKS, "httpx"),
    "gateway": WEB_FRAMEWORKS,
}
"""Folder: the libraries that are not its business."""

MAY_IMPORT_ALL_THE_SAME = {"auth/providers/*": ("httpx",)}
"""Files: the libraries that are their business all the same."""

STATEMENTS = frozenset(
    {"select", "insert", "update", "delete", "text", "func", "exists", "union", "union_all", "values"}
)

# Besides the queries: the engine, which asks a database about itself, the tables' defaults, and migrations.
MAY_WRITE_STATEMENTS = (
    "db/queries/*.py",
    "db/engine.py",
    "db/sqlite.py",
    "db/tables/*.py",
    "db/revisions.py",
    "db/ownership.py",
    "alembic/*",
)

ENVIRONMENT = frozenset({"environ", "environb", "getenv", "getenvb", "putenv", "unsetenv"})
ENVIRONMENT_READERS = ("pydantic_settings", "dotenv")


def within(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(package + ".") for package in packages)


def imported(tree: ast.Module, path: PurePosixPath) -> Iterator[tuple[int, str]]:
    """Give line and full dotted name of everything imported, also from `importlib.import_module("...")`."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from ((node.lineno, alias.name) for alias in names)
            case ast.ImportFrom(module=module, names=names, level=level):
                parents = path.parts[: max(len(path.parts) - level, 0)] if level else ()
                start = ".".join([*parents, *([module] if module else [])])
                yield from ((node.lineno, f"{start}.{alias.name}") for alias in names)
            case ast.Call(
                func=ast.Attribute(attr="import_module") | ast.Name(id="import_module" | "__import__"),
                args=[ast.Constant(value=str(name)), *_],
            ):
                yield node.lineno, name
            case _:
                pass


def attributes(tree: ast.Module, library: str) -> Iterator[tuple[int, str]]:
    """Give line and name of every `library.name` in the tree, under whatever name the library was imported."""
    aliases = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
        if alias.name == library
    }
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id=holder), attr=name) if holder in aliases:
                yield node.lineno, f"{library}.{name}"
            case _:
                pass


def violations(path: PurePosixPath, source: str) -> list[str]:
    """List what the file at `path`, relative to the repository, does against the rule."""
    tree = ast.parse(source)
    folder = path.parts[0]
    names = list(imported(tree, path))
    used = [*names, *attributes(tree, "os"), *attributes(tree, "sqlalchemy")]
    found: list[tuple[int, str]] = []
    for line, name in names:
        package = name.partition(".")[0]
        if package in OURS and package != folder and not within(name, MAY_IMPORT[folder]):
            found.append((line, f"{folder}/ may not import {name}"))
        excepted = any(
            fnmatch(str(path), files) and within(name, MAY_IMPORT_ALL_THE_SAME[files])
            for files in MAY_IMPORT_ALL_THE_SAME
        )
        if within(name, MAY_NOT_IMPORT.get(folder, ())) and not excepted:
            found.append((line, f"{folder}/ may not import the library {package}"))
    for line, name in used:
        package, _, last = name.rpartition(".")
        reads = (package == "os" and last in ENVIRONMENT) or within(name, ENVIRONMENT_READERS)
        if reads and folder != "server":
            found.append((line, f"only server/ reads the environment ({name})"))
        writes = within(package, ("sqlalchemy",)) and last in STATEMENTS
        if writes and not any(fnmatch(str(path), pattern) for pattern in MAY_WRITE_STATEMENTS):
            found.append((line, f"only db/queries/ writes a statement ({name})"))
    return [f"{path}:{line}: {what}" for line, what in sorted(set(found))]


def production_files(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("folder", MAY_IMPORT)
def test_a_folder_keeps_to_the_import_rule(folder: str):
    files = production_files(folder)
    found = [line for file in files for line in violations(PurePosixPath(file.relative_to(ROOT)), file.read_text())]
    assert files
    assert not found, "\n".join(found)


def test_the_alembic_folder_does_not_shadow_the_library():
    assert not list((ROOT / "alembic").rglob("__init__.py"))


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("gateway/x.py", "import server"),
        ("gateway/x.py", "from server.settings import Settings"),
        ("gateway/x.py", "from schema import generation"),
        ("resolvers/x.py", "import db.tables"),
        ("schema/x.py", "from db.queries import models"),
        ("schema/x.py", "from db import queries"),
        ("schema/x.py", "import db"),
        ("auth/x.py", "def later():\n    from gateway import catalog"),
        ("backends/x.py", "from importlib import import_module\nimport_module('gateway.catalog')"),
        ("db/x.py", "from ..gateway import catalog"),
        ("gateway/x.py", "from fastapi import Request"),
        ("db/x.py", "import starlette.types"),
        ("auth/x.py", "import httpx"),
        ("auth/providers/x.py", "import sqlalchemy.orm"),
        ("gateway/x.py", "import os\nos.environ['HOME']"),
        ("gateway/x.py", "import os as system\nsystem.getenv('HOME')"),
        ("db/x.py", "from os import environ"),
        ("gateway/x.py", "from pydantic_settings import BaseSettings"),
        ("gateway/x.py", "from sqlalchemy import select"),
        ("gateway/x.py", "from sqlalchemy.dialects.postgresql import insert"),
        ("gateway/x.py", "import sqlalchemy as sa\nsa.text('select 1')"),
        ("db/maintenance.py", "from sqlalchemy import delete"),
        ("server/x.py", "from sqlalchemy import text"),
    ],
)
def test_the_checker_finds_a_violation(path: str, source: str):
    assert len(violations(PurePosixPath(path), source)) == 1


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("gateway/x.py", "from db import queries\nfrom auth.keys import parse\nfrom . import catalog"),
        ("schema/x.py", "from db import tables\nfrom db.tables import User"),
        ("server/x.py", "import os\nfrom resolvers import query\nos.environ.get('HOME')"),
        ("db/queries/usage.py", "from sqlalchemy import func, select"),
        ("auth/providers/x.py", "import httpx"),
        ("db/engine.py", "from sqlalchemy import text"),
        ("alembic/versions/x.py", "from alembic import op\nimport sqlalchemy as sa\nsa.text('1')"),
        ("gateway/x.py", "import os.path\nfrom sqlalchemy.exc import IntegrityError"),
    ],
)
def test_the_checker_lets_pass_what_the_rule_allows(path: str, source: str):
    assert violations(PurePosixPath(path), source) == []
